"""``cellseg``: the results of cellseg-device, with what a person corrected, or its ``corrections.zip``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cellseg_device.errors import CellsegError, InputError
from cellseg_device.image.pixels import Image
from cellseg_device.image.source import names_as_printed, original
from cellseg_device.results import corrected_labels, correction_file, corrections, image_files, tables
from cellseg_device.results.correction_items import Corrections, Item
from cellseg_device.results.correction_journal import CHECKED, LEFT_OUT
from cellseg_device.results.corrections import Correction
from cellseg_device.results.entry import LABELS, is_plain_name
from cellseg_device.results.formats.label_images import consecutive, read_labels
from cellseg_device.system import files
from cellseg_host.data.dataset import read_table
from cellseg_host.data.formats.source import Drawn, Options, Source, check_shape, make, read_manifest

_RESULTS = "cellseg-results"  # in a watched folder
UNCHECKED = "labels are the machine's: nobody has checked them"
BEGUN = "its correction is only begun, so the machine's labels were taken: mark it as checked"
STALE = "its correction is of another image, so the machine's labels were taken: correct it again"


def find(root: Path, options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return the images of a results folder with their labels, those of a person first; or those of corrections.

    Raises
    ------
    InputError
        If it is neither, or is damaged.
    """
    return _of_file(root) if root.is_file() else list(_of_results(root, options))


def _of_file(path: Path) -> list[Source]:
    found = correction_file.read(path)
    manifest = read_manifest(path, {item.name for item in found.items})
    return [
        make(
            path,
            manifest,
            item.name,
            [path],
            partial(_labels_in, found, item),
            read_image=partial(_image_in, found, item),
        )
        for item in found.items
    ]


def _labels_in(found: Corrections, item: Item, _shape: tuple[int, int]) -> Drawn:
    return Drawn(found.labels(item))


def _image_in(found: Corrections, item: Item, _path: Path) -> Image:
    return found.image(item)


def _of_results(root: Path, options: Options) -> Iterator[Source]:
    out = root / _RESULTS if (root / _RESULTS).is_dir() else root
    table = out / tables.COUNTS_NAME
    if not table.is_file():
        raise InputError(f"{root}: holds no {tables.COUNTS_NAME}: name the results folder of cellseg-device")
    rows = read_table(table)
    if not rows or not {"image", "labels"} <= rows[0].keys():
        raise InputError(f"{table}: names no image with its labels: name the results folder of cellseg-device")
    corrected = corrections.read(out)
    folders = [options.images] if options.images else [out, out.parent]
    manifest = read_manifest(root, {_stem(row) for row in rows})
    for row in rows:
        stem, image = _stem(row), row["image"] or ""
        if not is_plain_name(stem):
            raise InputError(f"{table}: '{stem}' cannot be the name of labels: restore the table")
        reader = partial(_labels_of, out=out, stem=stem, row=row, correction=corrected.get(image), folders=folders)
        yield make(root, manifest, stem, _originals(folders, image), reader)


def _stem(row: dict[str, str]) -> str:
    return (row["labels"] or "").removesuffix(LABELS)


def _originals(folders: list[Path], image: str) -> list[Path]:
    """Return where an image's file is: by its name in the ledger, else by the end of that."""
    parts = Path(image).parts
    ends = [image, *(str(Path(*parts[start:])) for start in range(1, len(parts)))]
    paths = (original(folder, end, names_as_printed) for end in ends for folder in folders)
    return [path for path in paths if _is_file(path)][:1]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # of a name that no file can have
        return False


def _labels_of(
    shape: tuple[int, int],
    *,
    out: Path,
    stem: str,
    row: dict[str, str],
    correction: Correction | None,
    folders: list[Path],
) -> Drawn:
    """Return the labels of an image: a person's where one has checked them, else the machine's.

    Raises
    ------
    InputError
        If they are missing, damaged, or not of this image; or if a person left the image out.
    """
    path = out / f"{stem}{LABELS}"
    made_from = _image_sha256(path)
    (image,) = _originals(folders, row["image"])
    if made_from and files.sha256(image) != made_from:
        raise InputError(
            "has changed since it was counted: count it again, or name the folder of the originals (--images)"
        )
    is_current = correction is not None and not corrections.is_stale(correction, made_from, stem)
    if correction is not None and is_current and correction.state == LEFT_OUT:
        raise InputError("was left out by a person who checked it: mark it as checked to import it")
    if correction is not None and is_current and correction.state == CHECKED:
        labels, note = consecutive(corrected_labels.current(out, stem)), ""
    else:
        labels = read_labels(path)
        note = UNCHECKED if correction is None else BEGUN if is_current else STALE
    check_shape(labels, shape)
    left_out = row.get("left_out") or "0"
    more = (f"{left_out} cells do not count and have no labels",) if note and left_out != "0" else ()
    return Drawn(labels, ((note,) if note else ()) + more)


def _image_sha256(path: Path) -> str:
    """Return the digest of the image that a label image is of; empty if it does not say."""
    if not path.is_file():
        raise InputError(f"{path.name} is missing: restore it, or count the image again")
    try:
        return image_files.read_facts(path).get("image_sha256", "")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the disk") from None
    except CellsegError as error:
        raise InputError(f"{path.name} {error.message}: count the image again") from None
