"""The process that draws pictures: it decodes originals (in the sandbox), reads label images, and answers in order.

Requests and answers are those of `helper`.
"""

from __future__ import annotations

import math
import sys
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import region
from cellseg_device.cells.counting import parse_key
from cellseg_device.errors import ImageError, InputError, OutputError
from cellseg_device.image import normalise
from cellseg_device.results import corrected_labels, export, image_files, overlay
from cellseg_device.results.entry import DONE, Entry
from cellseg_device.results.export import Originals
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.web import answering, label_png
from cellseg_device.web.answering import Answer
from cellseg_device.web.label_png import scaled
from cellseg_device.web.pictures import CORRECTED, CORRECTED_CELLS, LABELS, PICTURE, THUMBNAIL, Picture

_THUMBNAIL_PX = 320  # of its longer side
_MOST_PX, _MOST_SIDE_PX = 16_000_000, 8192  # of a picture: more is more than telephones show
_THUMBNAIL_QUALITY, _QUALITY = 80, 90
_GROUND, _CELL, _RIM = 48, 90, 150  # greys in place of an original

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Scene:
    """What the pictures of an image are drawn from.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB, in the contrast of the overlay.
    labels : ndarray of uint16, shape (height, width)
    field : ndarray of uint8, shape (height, width), or None
        255 where cells were looked for; None for everywhere.
    note : str
        Why the original is not shown; empty if it is.
    """

    pixels: _Array
    labels: npt.NDArray[np.uint16]
    field: npt.NDArray[np.uint8] | None
    note: str


class Studio:
    """Draws the pictures of a results folder.

    Parameters
    ----------
    out : Path
        The output folder.
    originals : Originals
        The images.
    """

    def __init__(self, out: Path, originals: Originals) -> None:
        self._out, self._originals = out, originals
        self._latest: tuple[Entry, dict[str, Picture]] | None = None
        self._subject: tuple[Entry, overlay.Subject] | None = None

    def draw(self, what: str, image: str) -> Picture:
        """Return what `Pictures.get` does.

        Raises
        ------
        ImageError, InputError
            If there is no result of the image, or it or its correction is not as it was written.
        OutputError, OSError
            As `Ledger` does.
        """
        with closing(Ledger(self._out / FILE_NAME, is_for_reading=True)) as ledger:
            entry = ledger.get(image)
        if entry is None or entry.status != DONE:
            raise ImageError("has no result: count it again")
        if what == THUMBNAIL:
            return thumbnail(self._scene(entry))
        if what in (CORRECTED, CORRECTED_CELLS):
            return self._corrected(what, entry)
        if self._latest is None or self._latest[0] != entry:
            scene = self._scene(entry)
            self._latest = entry, {PICTURE: picture(scene), LABELS: label_picture(scene)}
        return self._latest[1][what]

    def _corrected(self, what: str, entry: Entry) -> Picture:
        """Return the corrected labels as they are now, or the table of their cells that count."""
        assert entry.stem is not None, "it was counted"
        labels = corrected_labels.current(self._out, entry.stem)
        try:
            if self._subject is None or self._subject[0] != entry:
                self._subject = entry, export.subject(entry, labels, self._originals)
            image = self._subject[1].image
        except ImageError as error:
            if what == CORRECTED_CELLS:
                raise
            field = _field_without_image(entry, labels.shape)
            return Picture("image/png", label_png.encoded(labels, field, scale(labels.shape)), error.message)
        if what == CORRECTED:
            return Picture("image/png", label_png.encoded(labels, image.field, scale(labels.shape)), "")
        counting = parse_key(entry.settings or "{}")
        cells = corrected_labels.counted(labels, image, counting).cells
        return Picture("text/csv", image_files.cells_csv(cells).encode(), "")

    def _scene(self, entry: Entry) -> Scene:
        labels = export.stored(self._out, entry).labels
        try:
            subject = export.subject(entry, labels, self._originals)
        except ImageError as error:
            return Scene(grey(labels), labels, _field_without_image(entry, labels.shape), error.message)
        pixels = np.empty((*labels.shape, 3), np.uint8)
        normalise.apply_table(overlay.levels(subject.image), subject.image.pixels, pixels)
        return Scene(pixels, labels, subject.image.field, "")


def thumbnail(scene: Scene) -> Picture:
    """Return the image in a small picture."""
    side = max(scene.labels.shape)
    return _jpeg(scaled(scene.pixels, min(_THUMBNAIL_PX / side, 1), cv2.INTER_AREA), _THUMBNAIL_QUALITY, scene.note)


def picture(scene: Scene) -> Picture:
    """Return the image, without outlines; smaller than it is where it is very large."""
    return _jpeg(scaled(scene.pixels, scale(scene.labels.shape), cv2.INTER_AREA), _QUALITY, scene.note)


def label_picture(scene: Scene) -> Picture:
    """Return the labels as a PNG of the size of `picture`, as `label_png` has them."""
    return Picture("image/png", label_png.encoded(scene.labels, scene.field, scale(scene.labels.shape)), scene.note)


def scale(shape: tuple[int, ...]) -> float:
    """Return the scale at which an image of this shape is shown: 1, or less where it is very large."""
    height, width = shape[:2]
    return min(1.0, math.sqrt(_MOST_PX / (height * width)), _MOST_SIDE_PX / max(height, width))


def grey(labels: npt.NDArray[np.uint16]) -> _Array:
    """Return a picture of the cells alone, in place of an original."""
    shades = np.full(labels.shape, _GROUND, np.uint8)
    shades[labels > 0] = _CELL
    shades[overlay.outlines(labels) > 0] = _RIM
    return np.asarray(cv2.merge([shades] * 3))


def _field_without_image(entry: Entry, shape: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
    """Return where cells were looked for, as far as the ledger tells: where the settings, or what was found, say so."""
    assert entry.counts is not None, "it was counted"
    counting = parse_key(entry.settings or "{}")
    inside = region.recalled(counting.region)
    if inside is None and entry.counts.surround:
        inside = region.parse(entry.counts.surround.partition("around ")[2])
    if inside is None or inside.kind == "whole":
        return None
    return region.draw(inside, (shape[0], shape[1]))


def _jpeg(pixels: _Array, quality: int, note: str) -> Picture:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return Picture("image/jpeg", bytes(data), note)


def answer(studio: Studio, request: dict[str, Any]) -> Answer:
    """Return a picture, or why there is none, as it goes to the server."""
    try:
        drawn = studio.draw(request["what"], request["image"])
    except (ImageError, InputError, OutputError) as error:
        return {"error": error.message}, b""
    except MemoryError:
        return {"error": "needs more memory than there is"}, b""
    except OSError as error:
        return {"error": f"cannot be read ({error.strerror}): check the disk"}, b""
    return {"kind": drawn.kind, "note": drawn.note}, drawn.data


def main(out: Path, folder: Path | None) -> None:
    """Draw what standard input asks for; parameters as of `answering.originals_of`."""
    answering.begin(answering.BEHIND_COUNTING)
    with answering.originals_of(out, folder) as originals:
        answering.serve(partial(answer, Studio(out, originals)), sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
