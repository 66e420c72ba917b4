"""Images with the labels that a human gave them, as they are written into a file of corrections and read from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from cellseg_device.errors import InputError
from cellseg_device.image.opencv import shown
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import Card
from cellseg_device.pipeline.predict import shown_between
from cellseg_device.results.formats.label_images import Labels, consecutive

LONGEST_NAME = 200  # bytes, so that an ending still fits

Crop = tuple[int, int, int, int]
_Named = TypeVar("_Named", "Correction", "Item")


@dataclass(frozen=True)
class Correction:
    """An image with the labels that a human gave it, to be written.

    Attributes
    ----------
    name : str
        Of its files in the zip, without the ending.
    image : Image
        Its `searched` pixels, `pixel_size_um` and `ends` are written.
    labels : ndarray of uint16, shape (height, width)
        Of the same size.
    source : str
        File name of the image that it is from; empty if unknown.
    source_sha256 : str
        Of that file; empty if unknown.
    crop : (row, column, height, width) or None
        Where in that image it is; None for the whole.
    corrected_at : str or None
        ISO 8601, with a zone.
    """

    name: str
    image: Image
    labels: Labels
    source: str = ""
    source_sha256: str = ""
    crop: Crop | None = None
    corrected_at: str | None = None


@dataclass(frozen=True)
class Item:
    """What is known of a corrected image without decoding it.

    Attributes
    ----------
    name : str
    cells : int
        How many the labels have.
    source, source_sha256, crop, corrected_at
        As of `Correction`.
    ends : (int, int) or None
        As of `Image`.
    pixel_size_um : float or None
    """

    name: str
    cells: int
    source: str
    source_sha256: str
    crop: Crop | None
    ends: tuple[int, int] | None
    pixel_size_um: float | None
    corrected_at: str | None


class Content(Protocol):
    """Where the images and labels of the items are."""

    def image(self, item: Item) -> Image: ...  # noqa: D102

    def labels(self, item: Item) -> Labels: ...  # noqa: D102


@dataclass(frozen=True)
class Corrections:
    """Corrected images; of a thousand, those in memory are the ones that were asked for.

    Attributes
    ----------
    path : Path
        The zip or folder.
    items : tuple of Item
        In the natural order of their names; at least one.
    card : Card or None
        Of the model that made the labels which were corrected.
    model_sha256 : str
        Of that model's file; empty if unknown.
    content : Content
    """

    path: Path
    items: tuple[Item, ...]
    card: Card | None
    model_sha256: str
    content: Content = field(repr=False, compare=False)

    def image(self, item: Item) -> Image:
        """Return an image, decoded now.

        Raises
        ------
        InputError
            If it is damaged.
        """
        return self.content.image(item)

    def labels(self, item: Item) -> Labels:
        """Return an image's labels, numbered from 1 without gaps, decoded now.

        Raises
        ------
        InputError
            If they are damaged, or not as many as the item says.
        """
        return self.content.labels(item)


def cut(
    image: Image,
    labels: Labels,
    crop: Crop,
    card: Card,
    *,
    name: str,
    source: str = "",
    source_sha256: str = "",
    corrected_at: str | None = None,
) -> Correction:
    """Return a part of an image with its labels, which a network with this card is shown as it was shown the whole.

    Parameters
    ----------
    image : Image
        The whole one, as it was segmented: with its channel and its field.
    labels : ndarray of uint16, shape (height, width)
        Of the whole. Cells that the crop's rim cuts are kept.
    crop : (row, column, height, width)
    card : Card
    name, source, source_sha256, corrected_at
        As of `Correction`.

    Raises
    ------
    InputError
        If the crop is not inside the image.
    """
    row, column, height, width = crop
    below, right = image.shape[0] - height, image.shape[1] - width
    if min(height, width) < 1 or not 0 <= row <= below or not 0 <= column <= right:
        raise InputError(
            f"a crop of {width}×{height} pixels at row {row}, column {column} is not inside the image of "
            f"{image.shape[1]}×{image.shape[0]}: choose a smaller one"
        )
    part = slice(row, row + height), slice(column, column + width)
    pixels, ends = shown_between(image, card)
    return Correction(
        name,
        Image(np.ascontiguousarray(pixels[part]), image.pixel_size_um, ends=ends),
        consecutive(labels[part]).astype(np.uint16),
        source,
        source_sha256,
        crop,
        corrected_at,
    )


def named(corrections: Iterable[_Named]) -> Iterator[_Named]:
    """Yield each, if its name is used once and can be that of a file in a zip.

    Raises
    ------
    InputError
        If it is not.
    """
    names = set()
    for correction in corrections:
        name = correction.name
        is_short = 1 <= len(name.encode(errors="replace")) <= LONGEST_NAME
        if not (is_short and name.isprintable()) or name.startswith(".") or set(name) & set("/\\"):
            raise InputError(
                f"a corrected image has the name '{shown(name, 40)}': use one of up to {LONGEST_NAME} letters, without "
                "slashes, that does not begin with a dot"
            )
        if name in names:
            raise InputError(f"two corrected images have the name '{name}': give each a name of its own")
        names.add(name)
        yield correction


def check_sizes(name: str, image: tuple[int, int], labels: tuple[int, ...]) -> None:
    """Raise InputError if an image, (height, width), and its labels have different sizes."""
    if image != labels:
        raise InputError(
            f"{name}: the labels are {labels[1]}×{labels[0]} pixels, the image {image[1]}×{image[0]}: save labels of "
            "the image's size"
        )
