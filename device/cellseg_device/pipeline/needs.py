"""How much memory an image needs, from its size alone, and whether there is that much.

The numbers are those of benchmarks/memory.py, which measures every step on images of every kind. What an image shows
hardly matters: the largest number of a kind holds for all, and the smallest is not far below it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cellseg_device.image.budget import Budget, check_fits
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline import predict
from cellseg_device.pipeline.predict import Runnable
from cellseg_device.pipeline.scaling import scaled_shape
from cellseg_device.system import memory

# Bytes for each pixel that the network sees: of the maps, and of these and all that the cells are separated with
_MAPS, _SEPARATING = 1.25, 4.5
# Bytes for each pixel of the image: of the labels, of these while they are scaled, and while outlines are traced
_LABELS, _SCALED_LABELS, _OUTLINES = 2.0, 4.5, 8.0
_FIELD = 1.0  # of the mask that says where cells are looked for
_LEFT_OUT = 2.0  # of all cells, which are kept for the pictures where some are left out of the count
# For a picture, and for each of its pixels; by name how many these are at least, at most, and for a pixel of the image
_PICTURE_BYTES, _PICTURE_BYTES_PER_PX = 10_000_000, 13
_PICTURES = {"overlay": (640**2, 2048**2, 1), "numbers": (640**2, 4096**2, 16)}
# Small blocks, some of which are kept for the next image once they are freed (`memory.return_large_blocks`)
_SMALL_BYTES, _KEPT_PER_PX, _KEPT_BYTES = 6_000_000, 2.4, 36_000_000

_PART_FOR_WHOLE = 0.5  # of the memory, what an image may need whose field is given to the network as a whole


@dataclass(frozen=True)
class Room:
    """The memory for one image.

    Attributes
    ----------
    needed_bytes : int
        That it and all that is done with it take at most, at any one time.
    whole_px : int
        Size of the largest field that the network may be given as a whole.
    """

    needed_bytes: int
    whole_px: int


def needed_bytes(
    shape: tuple[int, int],
    bytes_per_px: float,
    model: Runnable,
    *,
    ratio: float = 1.0,
    extras: Collection[str] = (),
    leaves_out: bool = False,
    whole_px: int | None = None,
) -> int:
    """Return the memory that a decoded image and all that is done with it take at most, at any one time.

    Parameters
    ----------
    shape : (int, int)
        (height, width) of the image.
    bytes_per_px : float
        Of all its channels.
    model : Runnable
        What its runtime holds already does not count.
    ratio : float
        Of the diameter of the cells to that of those that the model knows.
    extras : collection of str
        What is made beside the labels and the table: names of `results.image_files.EXTRAS`.
    leaves_out : bool
        Whether cells may be left out of the count.
    whole_px : int or None
        As in `Room`; None for what `predict` takes if nothing is said.
    """
    pixels, seen = shape[0] * shape[1], scaled_shape(shape, ratio)
    network_px = (seen[0] + model.card.stride) * (seen[1] + model.card.stride)
    is_scaled = seen != shape
    peaks = (
        network_px * (_MAPS + bytes_per_px * (1 if is_scaled else 1 / 3)),  # with the channel that alone has an image
        network_px * _SEPARATING,
        network_px * (_MAPS + _LABELS) + pixels * _SCALED_LABELS if is_scaled else 0,
        _written_bytes(pixels, extras) + (_LEFT_OUT * pixels if leaves_out else 0),
    )
    kept = _SMALL_BYTES + min(_KEPT_BYTES, _KEPT_PER_PX * max(pixels, network_px))
    return int(pixels * bytes_per_px + max(peaks) + kept + predict.runtime_bytes(model, seen, whole_px))


def budget(extras: Collection[str] = (), *, reserved_bytes: int = 0) -> Budget:
    """Return the memory that the next image may take.

    Parameters
    ----------
    extras : collection of str
        As for `needed_bytes`.
    reserved_bytes : int
        Of what is available, what is not for this image; negative for what it has taken already.
    """
    available = memory.available_bytes()
    return Budget(
        None if available is None else available - reserved_bytes,
        _OUTLINES if _traces(extras) else _SCALED_LABELS,
    )


def room_for(
    image: Image,
    model: Runnable,
    given: Budget,
    *,
    diameter_px: float | None = None,
    extras: Collection[str] = (),
    leaves_out: bool = False,
) -> Room:
    """Return the room for an image that is decoded.

    Parameters
    ----------
    image : Image
    model : Runnable
    given : Budget
        As it was before the image was decoded.
    diameter_px : float or None
        As for `predict.predict`.
    extras : collection of str
        As for `needed_bytes`.
    leaves_out : bool
        Whether cells may be left out of the count for their size.

    Raises
    ------
    ImageError
        If there is not enough memory.
    """
    bytes_per_px = image.pixels.nbytes / (image.shape[0] * image.shape[1])
    if image.field is not None:  # `Image.searched` holds a copy
        bytes_per_px = _FIELD + bytes_per_px * (2 if image.channel is None else 5 / 3)
    elif image.channel is not None:
        bytes_per_px *= 4 / 3
    ratio = 1.0 if diameter_px is None else diameter_px / model.card.cell_diameter_px
    # The runtime keeps much of what it took for a large field, which a larger image may lack later
    for whole_px, part in ((predict.MAX_WHOLE_PX, _PART_FOR_WHOLE), (predict.MAX_TILE_PX, 1)):
        needed = needed_bytes(
            image.shape,
            bytes_per_px,
            model,
            ratio=ratio,
            extras=extras,
            leaves_out=leaves_out or image.field is not None,
            whole_px=whole_px,
        )
        if given.available_bytes is None or needed <= part * given.available_bytes:
            break
    check_fits(needed, given.available_bytes)
    return Room(needed, whole_px)


def _written_bytes(pixels: int, extras: Collection[str]) -> float:
    """Return what the labels take, and what is encoded of them."""
    drawn = [_PICTURES[name] for name in extras if name in _PICTURES]
    picture_px = max((min(max(pixels * each, least), most) for least, most, each in drawn), default=0)
    picture = _PICTURE_BYTES + _PICTURE_BYTES_PER_PX * picture_px if drawn else 0
    return pixels * (_OUTLINES if _traces(extras) else _LABELS) + picture


def _traces(extras: Collection[str]) -> bool:
    """Whether the outlines of all cells are traced, or their runs found, for one of these."""
    return any(name not in _PICTURES for name in extras)
