"""``images``: images alone, from which only classifiers learn."""

from __future__ import annotations

from pathlib import Path

from cellseg_device.errors import InputError
from cellseg_host.data.formats.source import Options, Source, by_stem, images_in, make, read_manifest


def find(root: Path, _options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return the images in a folder, or in the folder ``images`` in it, which have no labels.

    A ``manifest.csv`` in `root` may say more: columns id and, optionally, set, split, modality and kind.

    Raises
    ------
    InputError
        If there are none.
    """
    folder = root / "images" if (root / "images").is_dir() else root
    found = by_stem(images_in(folder))
    if not found:
        raise InputError(f"{folder}: holds no PNG, JPEG or TIFF image")
    manifest = read_manifest(root, found.keys())
    return [make(root, manifest, stem, found[stem], None) for stem in sorted(found)]
