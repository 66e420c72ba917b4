"""What is to be imported: one image of a source, and how its files are found and paired."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from cellseg_device.errors import InputError
from cellseg_device.image.decode import decode
from cellseg_device.image.pixels import Image
from cellseg_device.image.source import is_image_name, read
from cellseg_device.results.formats.outline_files import Drawn
from cellseg_device.stderr import say
from cellseg_host.data.dataset import KEEPABLE, read_table

__all__ = ["Drawn", "Options", "Source"]

# A manifest of the source: its rows by the id of the image
Manifest = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Options:
    """What a user says of a source beside its format; each format uses some of it.

    Attributes
    ----------
    images : Path or None
        Folder of the images, where they do not lie with their labels.
    runs : str or None
        ``"absolute"`` or ``"relative"``: how a table's run lengths count.
    keep : tuple of str
        Out of `KEEPABLE`: what is kept of an image's header.
    colour : (int, int, int)
        Of drawn outlines, red, green and blue.
    tolerance : int
        By how much each of the three may differ.
    """

    images: Path | None = None
    runs: str | None = None
    keep: tuple[str, ...] = ()
    colour: tuple[int, int, int] = (255, 0, 0)
    tolerance: int = 60


def read_picture(path: Path) -> Image:
    """Return the image in a PNG, JPEG or TIFF file."""
    return decode(read(path))


def nothing_kept(_path: Path) -> dict[str, str]:
    """Return that there is nothing to keep of an image's header."""
    return {}


@dataclass(frozen=True)
class Source:
    """One image of the data to import, before anything of it is read.

    Attributes
    ----------
    id, set : str
        `set` is the name of the folder that it is from, unless a manifest there says otherwise.
    images : tuple of Path
        One image, as it should be; none or several are an error.
    read_labels : callable or None
        Returns the labels, given the image's (height, width); raises a CellsegError with the reason to reject it. None
        if the image has no labels, and need not have any.
    split, modality, kind : str or None
        None if the source does not say.
    read_image : callable
        Returns the image in its file; raises as `read_labels`.
    read_kept : callable
        Returns what is kept of its file's header, by name.
    kept : mapping of str to str
        What the manifest says of it that is kept.
    """

    id: str
    set: str
    images: tuple[Path, ...]
    read_labels: Callable[[tuple[int, int]], Drawn] | None
    split: str | None = None
    modality: str | None = None
    kind: str | None = None
    read_image: Callable[[Path], Image] = read_picture
    read_kept: Callable[[Path], Mapping[str, str]] = nothing_kept
    kept: Mapping[str, str] = field(default_factory=dict)


def set_name(root: Path) -> str:
    """Return the name of a source: of its folder, or of its file without the ending."""
    path = root.resolve()
    return path.stem if path.is_file() else path.name


def make(
    root: Path,
    manifest: Manifest,
    identity: str,
    images: Iterable[Path],
    read_labels: Callable[[tuple[int, int]], Drawn] | None,
    *,
    read_image: Callable[[Path], Image] = read_picture,
    read_kept: Callable[[Path], Mapping[str, str]] = nothing_kept,
) -> Source:
    """Return one image of the source `root`, with what the manifest says of it."""
    row = manifest.get(identity, {})
    split, modality, kind = (row.get(column) or None for column in ("split", "modality", "kind"))
    name = row.get("set") or set_name(root)
    if "/" in name:  # it may become part of a file's name
        raise InputError(f"{folder_of(root) / 'manifest.csv'}: the set '{name}' has a '/': call it otherwise")
    kept = {column: text for column in KEEPABLE if (text := row.get(column))}
    return Source(identity, name, tuple(images), read_labels, split, modality, kind, read_image, read_kept, kept)


def folder_of(root: Path) -> Path:
    """Return the folder of a source, which may be a file."""
    return root.parent if root.is_file() else root


def read_manifest(root: Path, ids: Collection[str]) -> Manifest:
    """Return the rows of the source's manifest.csv by id, after a check against the ids of the images.

    Raises
    ------
    InputError
        If no row is about one of the images: otherwise nobody would notice that its splits are not used.
    """
    path = folder_of(root) / "manifest.csv"
    if not path.is_file():
        return {}
    rows = read_table(path)
    by_id = {row.get("id") or "": row for row in rows}
    if not by_id.keys() & set(ids):
        raise InputError(
            f"{path}: no row has an image's name in a column 'id': correct it (columns separated by commas, names "
            "without .png and the like), or move it away"
        )
    if len(by_id) < len(rows):
        raise InputError(f"{path}: an id is listed twice: keep one of the rows")
    if missing := len(set(ids) - by_id.keys()):
        images = "1 image is" if missing == 1 else f"{missing} images are"
        say(f"note: {images} not in {path}: a hash of the name decides on the split")
    return by_id


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder, in the order of their names."""
    return [path for path in files_in(folder) if is_image_name(path.name)]


def files_in(folder: Path) -> list[Path]:
    """Return all that is not hidden in a folder, in the order of the names; nothing where there is none.

    Raises
    ------
    InputError
        If the folder may not be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}): check the folder") from None


def by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Return files by their names without the last ending."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def image_folder(root: Path, options: Options) -> Path:
    """Return where the images of a source lie: what the user says, else its folder ``images``, else itself.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    folder = folder_of(root)
    found = options.images or (folder / "images" if (folder / "images").is_dir() else folder)
    if not found.is_dir():
        raise InputError(f"{found}: no such folder: name the one that holds the images")
    return found


def with_suffix(paths: Iterable[Path], suffixes: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files whose names end with one of these, in any case, and the names without it: the longest first."""
    longest_first = sorted(suffixes, key=len, reverse=True)
    for path in paths:
        name = path.name.lower()
        if ending := next((e for e in longest_first if name.endswith(e) and len(name) > len(e)), None):
            yield path.name[: -len(ending)], path


def paired(
    root: Path, images: Iterable[Path], labels: Iterable[tuple[str, Path]], read_labels: Callable[..., Drawn], what: str
) -> list[Source]:
    """Return images with the files of their labels; what has no partner stays without, to be rejected.

    Parameters
    ----------
    root : Path
    images : iterable of Path
    labels : iterable of (str, Path)
        Name of the image, with or without its ending, and file.
    read_labels : callable
        Returns the labels, given the file and the image's (height, width).
    what : str
        What a file of labels is called.
    """
    found = by_stem(images)
    stems = {path.name: stem for stem, paths in found.items() for path in paths}
    files: dict[str, list[Path]] = {}
    for name, path in labels:
        files.setdefault(name if name in found else stems.get(name, name), []).append(path)
    ids = found.keys() | files.keys()
    manifest = read_manifest(root, ids)

    def reader(paths: list[Path]) -> Callable[[tuple[int, int]], Drawn]:
        return lambda shape: read_labels(only(paths, what), shape)

    return [make(root, manifest, i, found.get(i, []), reader(files.get(i, []))) for i in sorted(ids)]


def only(paths: Sequence[Path], what: str) -> Path:
    """Return the one file that there is.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths)
        raise InputError(
            f"has {len(paths)} {what}s of the same name ({names})" if paths else f"has no {what} of the same name"
        )
    return paths[0]


def check_shape(labels: npt.NDArray[Any], shape: tuple[int, int], what: str = "labels are") -> None:
    """Raise InputError if labels are not of the image's size."""
    if labels.shape[:2] != shape:
        raise InputError(f"{what} {size(labels.shape)}, the image {size(shape)}")


def size(shape: tuple[int, ...]) -> str:
    """Return a size as people write it."""
    return f"{shape[1]}×{shape[0]} px"
