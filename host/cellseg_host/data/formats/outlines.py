"""``outlines``: images with a picture each in which closed lines of one colour are drawn around cells."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.errors import InputError
from cellseg_device.image.decode import decode
from cellseg_device.image.source import read
from cellseg_host.data.formats.source import (
    Drawn,
    Options,
    Source,
    check_shape,
    image_folder,
    images_in,
    paired,
)

_FOLDERS = ("outlines", "drawings", "labels", "masks")
_LEAST_PX = 9  # of a cell; what is smaller is a gap within a line
# How far a line may be from the cell that it is around: so many times half its width, and a little for its corners
_WIDTHS, _SLACK_PX = 3, 3
_OPAQUE = 128

Mask = npt.NDArray[np.bool_]


def find(root: Path, options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return images with the pictures of the same names in a folder ``outlines``.

    Raises
    ------
    InputError
        If there are no images, or no such folder.
    """
    folder = next((root / name for name in _FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise InputError(
            f"{root}: has no folder 'outlines': put the pictures with lines there, the images into 'images'"
        )
    of_images = image_folder(root, options)
    images = images_in(of_images)
    if not images:
        raise InputError(f"{of_images}: holds no PNG, JPEG or TIFF image")
    reader = partial(_read, colour=options.colour, tolerance=options.tolerance)
    return paired(root, images, ((path.stem, path) for path in images_in(folder)), reader, "outline picture")


def _read(path: Path, shape: tuple[int, int], *, colour: tuple[int, int, int], tolerance: int) -> Drawn:
    data = read(path)
    decode(data)  # which refuses what is damaged, and what OpenCV should not be given
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise InputError(
            f"{path.name} is not in colour, 8 bits: lines are found by their colour; save it as RGB or RGBA"
        )
    check_shape(pixels, shape, f"{path.name} is")
    if _is_blank(pixels):
        return Drawn(np.zeros(shape, np.uint16))
    lines = line_mask(pixels, colour, tolerance)
    if not lines.any():
        red, green, blue = colour
        raise InputError(
            f"{path.name} has no line of the colour {red},{green},{blue}: give the lines' --colour, or a larger "
            "--tolerance"
        )
    try:
        return fill(lines)
    except ValueError as error:
        raise InputError(f"{path.name} {error}") from None


def _is_blank(pixels: npt.NDArray[np.uint8]) -> bool:
    """Return whether nothing is drawn: all is transparent, or of one colour."""
    is_transparent = pixels.shape[2] == 4 and bool((pixels[..., 3] < _OPAQUE).all())
    return is_transparent or bool((pixels == pixels[0, 0]).all())


def line_mask(pixels: npt.NDArray[np.uint8], colour: tuple[int, int, int], tolerance: int) -> Mask:
    """Return where pixels, BGR or BGRA, are opaque and differ from a colour, RGB, by no more than so much a channel."""
    difference = np.abs(pixels[..., 2::-1].astype(np.int16) - np.array(colour, np.int16))
    is_line: Mask = difference.max(axis=2) <= tolerance
    return is_line & (pixels[..., 3] >= _OPAQUE) if pixels.shape[2] == 4 else is_line


def fill(lines: Mask) -> Drawn:
    """Return what is inside closed lines as cells; the border of a cell is the middle of its line.

    The ground is the largest part of the image that reaches its border; other parts that do are cells that the border
    cuts off.

    Raises
    ------
    ValueError
        If a line is open, with where it ends, or there are too many cells.
    """
    cells = _enclosed(lines)
    lines = lines.copy()
    specks = np.bincount(cells.reshape(-1))
    is_speck = (specks < _LEAST_PX) & (np.arange(len(specks)) > 0)
    lines |= is_speck[cells]
    cells = np.where(is_speck[cells], 0, cells)
    _check_closed(lines, cells)
    numbers = np.unique(cells[cells > 0])
    if len(numbers) > MAX_CELLS:
        raise ValueError(f"has more than {MAX_CELLS:,} cells: cut the image into parts")
    nearest = _nearest(lines, cells)
    renumbered = np.zeros(int(cells.max(initial=0)) + 1, np.uint16)
    renumbered[numbers] = np.arange(1, len(numbers) + 1)
    return Drawn(renumbered[nearest])


def _enclosed(lines: Mask) -> npt.NDArray[np.int32]:
    """Return the parts of an image between lines, numbered from 1; 0 is the ground, and the lines."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats((~lines).astype(np.uint8), connectivity=4)
    if count == 1:
        return np.asarray(parts, np.int32)
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    reaching = np.unique(border[border > 0])
    if reaching.size:
        ground = reaching[np.argmax(stats[reaching, cv2.CC_STAT_AREA])]
        parts[parts == ground] = 0
    return np.asarray(parts, np.int32)


def _nearest(lines: Mask, cells: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return cells with each pixel of a line given to what is nearest, a cell or the ground."""
    if lines.all():
        return cells
    _, index = cv2.distanceTransformWithLabels(
        lines.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    cell_of = np.zeros(int(index.max()) + 1, np.int32)
    cell_of[index[~lines]] = cells[~lines]
    found: npt.NDArray[np.int32] = cell_of[index]
    return found


def _check_closed(lines: Mask, cells: npt.NDArray[np.int32]) -> None:
    """Raise ValueError if a part of a line is near no cell: then it does not enclose one."""
    padded = cv2.copyMakeBorder(lines.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    half_widths = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    count, strokes = cv2.connectedComponents(lines.astype(np.uint8), connectivity=8)
    widest = np.zeros(count, np.float32)
    np.maximum.at(widest, strokes.reshape(-1), half_widths.reshape(-1))
    if (cells > 0).any():
        to_cell = cv2.distanceTransform((cells == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        is_far = lines & (to_cell > _WIDTHS * widest[strokes] + _SLACK_PX)
    else:
        is_far = lines
    open_strokes = np.unique(strokes[is_far])
    if open_strokes.size:
        row, column = _end_of(strokes == open_strokes[0], is_far)
        where = f"at row {row}, column {column}"
        if open_strokes.size == 1:
            raise ValueError(f"has an open line, which ends {where}: close it")
        raise ValueError(f"has {open_strokes.size} open lines, the first of which ends {where}: close them")


def _end_of(stroke: Mask, is_far: Mask) -> tuple[int, int]:
    """Return the pixel of a stroke that is the longest way along it from what encloses a cell, else from any pixel."""
    left, top, width, height = cv2.boundingRect(stroke.astype(np.uint8))
    part = slice(top, top + height), slice(left, left + width)
    inside = np.ascontiguousarray(stroke[part]).astype(np.uint8)
    reached = inside * ~is_far[part]
    if not reached.any():
        reached[tuple(np.argwhere(inside)[0])] = 1
    new, kernel = reached, np.ones((3, 3), np.uint8)
    while new.any():
        last, grown = new, cv2.dilate(reached, kernel) & inside
        new, reached = grown - reached, grown
    row, column = np.argwhere(last)[0]
    return int(row) + top, int(column) + left
