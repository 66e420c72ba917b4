"""``coco``: one JSON with the annotations of all images, as COCO, Labelme, Label Studio and cellseg-device write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.filling import Outline
from cellseg_device.errors import InputError
from cellseg_device.image.opencv import reason, shown
from cellseg_device.image.source import is_image_name
from cellseg_device.model.fields import load_object
from cellseg_device.stderr import say
from cellseg_host.data.formats.canvas import Canvas
from cellseg_host.data.formats.source import Drawn, Options, Source, folder_of, make, read_manifest, size

_MOST_BYTES = 1 << 30
_MOST_DIGITS = 12  # of a number in compressed run lengths, five bits each
_AGAIN = "export it again"

Annotations = list[dict[str, Any]]


def find(root: Path, options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return the images of a COCO file, or of the one in a folder.

    Raises
    ------
    InputError
        If there is no such file, several, or it is damaged.
    """
    path = _json_of(root)
    images, annotations = _parsed(path)
    folder = options.images or folder_of(root)
    files = _Files(folder)
    names = {identity: _name(path, image) for identity, image in images.items()}
    ids = _ids(names)
    manifest = read_manifest(root, ids.values())
    found = []
    for identity, image in images.items():
        reader = partial(_labels_of, path.name, image, annotations.pop(identity, []))
        found.append(make(root, manifest, ids[identity], files.of(names[identity]), reader))
    found += [_without_image(root, identity) for identity in annotations]
    if unnamed := len(files.by_name.keys() - {name.name for name in names.values()}):
        images_are = "1 image is" if unnamed == 1 else f"{unnamed} images are"
        say(f"note: {images_are} in {folder}, but not in {path.name}")
    return found


def _json_of(root: Path) -> Path:
    if root.is_file():
        return root
    found = [*sorted(root.glob("*.json"))] or [*sorted(root.glob("annotations/*.json"))]
    if len(found) != 1:
        which = f"{len(found)} JSON files ({', '.join(path.name for path in found[:3])})" if found else "no JSON file"
        raise InputError(f"{root}: holds {which}: name the one with the annotations")
    return found[0]


def _parsed(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Annotations]]:
    """Return the images of a file by their identifiers, and the annotations of each."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: is over 1 GB: export it in parts")
        document = load_object(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except (ValueError, MemoryError) as error:
        raise InputError(f"{path}: is not valid JSON ({reason(error)}): {_AGAIN}") from None
    listed: Any = document.get("images")
    drawn: Any = document.get("annotations")
    if not _are_objects(listed) or not _are_objects(drawn):
        raise InputError(f"{path}: has no lists of images and annotations: {_AGAIN} as COCO")
    images = {str(image.get("id")): image for image in listed}
    if not images:
        raise InputError(f"{path}: lists no image: {_AGAIN}")
    if len(images) < len(listed):
        raise InputError(f"{path}: two images have the same id: {_AGAIN}")
    annotations: dict[str, Annotations] = {}
    for annotation in drawn:
        annotations.setdefault(str(annotation.get("image_id")), []).append(annotation)
    return images, annotations


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _name(path: Path, image: dict[str, Any]) -> PurePosixPath:
    """Return the name of an image's file: its path in the folder, or only its last part where it leads out of that."""
    given = image.get("file_name")
    name = PurePosixPath(given.replace("\\", "/")) if isinstance(given, str) else PurePosixPath()
    if not name.name or "\0" in name.name:
        raise InputError(f"{path}: an image has the file_name {shown(repr(given), 60)}: {_AGAIN}")
    return PurePosixPath(name.name) if name.is_absolute() or ".." in name.parts else name


def _ids(names: dict[str, PurePosixPath]) -> dict[str, str]:
    """Return ids for the dataset: the names without endings, with their folders where that is not enough."""
    stems = Counter(name.stem for name in names.values())
    return {
        identity: name.stem if stems[name.stem] == 1 else "-".join([*name.parts[:-1], name.name])
        for identity, name in names.items()
    }


def _without_image(root: Path, identity: str) -> Source:
    return make(root, {}, f"image {shown(identity, 40)}", [], lambda _shape: Drawn(np.zeros((0, 0), np.uint16)))


class _Files:
    """The images in a folder and those below it."""

    def __init__(self, folder: Path) -> None:
        paths = [path for path in sorted(folder.rglob("*")) if is_image_name(path.name) and path.is_file()]
        self._by_place = {path.relative_to(folder).as_posix(): path for path in paths}
        self.by_name: dict[str, list[Path]] = {}
        for path in paths:
            self.by_name.setdefault(path.name, []).append(path)

    def of(self, name: PurePosixPath) -> Sequence[Path]:
        """Return the file of a name: at its place, else anywhere."""
        place = self._by_place.get(name.as_posix())
        return [place] if place else self.by_name.get(name.name, [])


def _labels_of(file: str, image: dict[str, Any], annotations: Annotations, shape: tuple[int, int]) -> Drawn:
    """Return the cells of an image.

    Raises
    ------
    InputError
        If one of them has no outline, is a crowd, or does not fit the image.
    """
    said = image.get("height"), image.get("width")
    if said not in ((None, None), shape):
        if not all(isinstance(number, int | float) for number in said):
            raise InputError(f"has a size in {file} that is no number: {_AGAIN}")
        raise InputError(
            f"is {said[1]}×{said[0]} px in {file}, the image {size(shape)}: use the images it was drawn on"
        )
    canvas = Canvas(shape)
    for number, annotation in enumerate(annotations, 1):
        try:
            _add(canvas, annotation)
        except ValueError as error:
            name = shown(annotation.get("id", f"no. {number}"), 40)
            raise InputError(f"annotation {name} {error}: correct it in the program it was drawn in") from None
    return canvas.drawn()


def _add(canvas: Canvas, annotation: dict[str, Any]) -> None:
    drawn = annotation.get("segmentation")
    if annotation.get("iscrowd") in (1, True):
        raise ValueError("is a crowd, several cells under one outline")
    if isinstance(drawn, dict):
        canvas.add_runs(*_runs(drawn, canvas.shape))
    elif isinstance(drawn, list) and drawn:
        canvas.add_outline(_rings(drawn))
    else:
        raise ValueError("has a box and no outline" if annotation.get("bbox") else "has no outline")


def _rings(drawn: list[Any]) -> Outline:
    rings = []
    for ring in drawn:
        is_list = isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0
        if not is_list or not all(type(number) in (int, float) for number in ring):
            raise ValueError("has an outline that is not three or more pairs of numbers")
        rings.append(np.array(ring, np.float64).reshape(-1, 2))
    return rings


def _runs(drawn: dict[str, Any], shape: tuple[int, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return starts and lengths of the runs of a mask, down the columns."""
    counts, height_and_width = drawn.get("counts"), drawn.get("size")
    if height_and_width != list(shape):
        raise ValueError(f"has a mask of another size than the image of {size(shape)}")
    listed = _decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(listed, list) or not all(type(n) is int and 0 <= n < 1 << 40 for n in listed):
        raise ValueError("has run lengths that are not whole numbers from 0")
    lengths = np.array(listed, np.int64)
    if lengths.sum() != shape[0] * shape[1]:
        raise ValueError(f"has run lengths that do not fill the image of {size(shape)}")
    ends = np.cumsum(lengths)
    return (ends - lengths)[1::2], lengths[1::2]


def _decompressed(text: str) -> list[int]:
    """Return the run lengths in COCO's text: five bits a letter, later ones as differences from the last but one.

    As ``rleFrString`` of https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c does.
    """
    counts: list[int] = []
    value = bits = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or bits > 5 * _MOST_DIGITS:
            raise ValueError("has run lengths that are damaged")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = bits = 0
    if bits:
        raise ValueError("has run lengths that are cut off")
    return counts
