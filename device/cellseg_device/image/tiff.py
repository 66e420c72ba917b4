"""TIFF files: what is read of them, and their pixels.

tifffile decodes the encodings that it can without further packages, OpenCV the others. OpenCV is not used for all,
because it returns pixels without an error for strips that are damaged (not reported; OpenCV 5.0.0) and cuts 16-bit grey
with alpha to 8 bits (not reported; OpenCV 5.0.0).
"""

from __future__ import annotations

import io
import logging
import math
import re
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ImageError
from cellseg_device.image import spread, tiff_directory, tiff_size
from cellseg_device.image.budget import Budget
from cellseg_device.image.opencv import Header, check_size, decode_with_opencv, shown
from cellseg_device.image.pixels import Image, without_alpha
from cellseg_device.image.tiff_segments import DECODED, NOT_COMPRESSED, from_segments

# Values of TIFF tags: compressions that OpenCV decodes (CCITT, LZW, JPEG as well), and photometric interpretations
_OPENCV_DECODES = (*DECODED, 2, 3, 4, 5, 6, 7)
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_WHOLE = ("imagelength", "imagewidth", "samplesperpixel", "photometric", "compression", "predictor", "planarconfig")
_SHOWN_BY_TABLE = (_MIN_IS_WHITE, _PALETTE)
_COLOURS = {"SEPARATED": "CMYK", "CFA": "a sensor's raw", "LINEAR_RAW": "a sensor's raw"}
_NUMBERS = {2: " signed", 3: " float", 5: " complex", 6: " complex"}  # SampleFormat
_OPENCV_TYPES = ("bool", "uint8", "uint16", "float32", "float64")
_OPENCV_BITS = (1, 8, 10, 12, 14, 16, 32, 64)
_NOT_MAPPED = ("bool", "uint8", "uint16")
_ALPHAS = (1, 2)  # ExtraSamples: associated and unassociated alpha

_SHAPE = r'\{"shape": \[(\d{1,9}(?:, \d{1,9}){0,9})\]'  # how tifffile's own descriptions begin
_UNDECODED = "is a TIFF that cannot be decoded: copy it again, or save it uncompressed"

# A damaged file is reported in our own words; tifffile would print its own on standard error.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


def decode_tiff(data: bytes, *, budget: Budget | None = None) -> Image:
    """Return the image in the bytes of a TIFF file; see `decode.decode`.

    Raises
    ------
    ImageError
        If it cannot be used.
    """
    import tifffile  # here, since it takes 20 ms, which a PNG or JPEG should not cost

    tiff_directory.read(io.BytesIO(data), len(data))
    try:
        # The file is closed here, because tifffile's objects refer to each other and so keep the file's bytes until
        # the next garbage collection (not reported; tifffile 2026.3.3). Can go if a closed TiffFile frees its file.
        with io.BytesIO(data) as file, tifffile.TiffFile(file) as tif:
            page: Any = tif.pages.first
            _check(tif, data)
            pixel_size_um = tiff_size.pixel_size_um(tif)
            # With a lookup table of ImageJ's, or its mark to be shown inverted, the stored values are the data, for
            # ImageJ and for tifffile; it is only shown so
            meaning = _MIN_IS_BLACK if tif.is_imagej and page.photometric in _SHOWN_BY_TABLE else page.photometric
            if budget is not None:
                _check_budget(page, meaning, len(data), budget)
            if page.compression in DECODED and meaning != _YCBCR:
                pixels = _meant(_stored(page, data), page, meaning)
            else:
                pixels = _opencv_tiff_pixels(page, data, meaning)
    except (ImageError, MemoryError):
        raise
    except (tifffile.TiffFileError, zlib.error):
        raise ImageError(
            "is a damaged TIFF (its pixels are not what its header says): copy or capture it again"
        ) from None
    except Exception:  # noqa: BLE001 - tifffile raises many kinds on damaged files
        raise ImageError(_UNDECODED) from None
    if pixels.dtype in (np.uint8, np.uint16):
        return Image(pixels, pixel_size_um)
    mapped, has_extremes = spread.to_uint16(pixels)
    return Image(~mapped if meaning == _MIN_IS_WHITE else mapped, pixel_size_um, has_extremes=has_extremes)


def _check(tif: Any, data: bytes) -> None:
    """Raise ImageError for what is not read, by what it is."""
    page = tif.pages.first
    if not all(isinstance(getattr(page, name), int) for name in _WHOLE):  # lists, floats or text
        raise ImageError("is a damaged TIFF (its header makes no sense): copy or capture it again")
    check_size(page.imagelength, page.imagewidth)
    _check_planes(tif, data)
    samples, bits, dtype = page.samplesperpixel, page.bitspersample, page.dtype
    if page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _YCBCR):
        name = getattr(page.photometric, "name", f"unknown ({int(page.photometric)})")
        raise ImageError(f"has {_COLOURS.get(name, name)} colours: save it as RGB or grey")
    is_alpha = page.photometric == _RGB or (page.extrasamples or (0,))[-1] in _ALPHAS
    if samples not in (1, 3) and not (samples in (2, 4) and is_alpha):
        raise ImageError(f"has {samples} channels: save it as grey (1) or RGB (3)")
    if page.compression not in _OPENCV_DECODES:
        name = getattr(page.compression, "name", f"an unknown method ({int(page.compression)})")
        raise ImageError(f"is compressed with {name}: save it uncompressed")
    if not isinstance(bits, int):
        raise ImageError(f"has channels of {shown(', '.join(map(str, bits)))} bits: save it as 8- or 16-bit")
    if dtype is None or dtype.kind not in "buif" or (bits > 16 and bits != 8 * dtype.itemsize):
        raise ImageError(f"has {_described(page)} pixels: save it as 8- or 16-bit")
    if page.photometric == _PALETTE and (samples > 2 or bits > 16):
        raise ImageError(f"has a palette of {bits} bits for {samples} channels: save it as RGB or grey")
    if page.compression in DECODED[1:] and page.predictor > (2 if bits == 8 * dtype.itemsize else 1):
        raise ImageError(
            f"is compressed with a predictor ({int(page.predictor)}) that is not read: save it uncompressed"
        )
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if max(ends, default=0) > len(data):
        raise ImageError("is a truncated TIFF: copy or capture it again")


def _check_budget(page: Any, meaning: int, file_bytes: int, budget: Budget) -> None:
    """Raise ImageError if the image does not fit into its budget."""
    channels, item_bytes = 3 if meaning == _PALETTE else page.samplesperpixel, page.dtype.itemsize
    is_mapped = page.dtype.name not in _NOT_MAPPED
    is_packed = page.dtype.kind != "b" and page.bitspersample != 8 * item_bytes
    if (is_mapped or is_packed) and item_bytes < 4:  # what is made of it is as large
        item_bytes += 1
    budget.check((page.imagelength, page.imagewidth), channels, item_bytes, file_bytes, is_float=is_mapped)


def _described(page: Any) -> str:
    """Return a page's kind of numbers, such as "16-bit signed"."""
    return f"{page.bitspersample}-bit{_NUMBERS.get(int(page.sampleformat), '')}"


def _check_planes(tif: Any, data: bytes) -> None:
    """Raise ImageError for a stack of which only the first plane has a page, as ImageJ and tifffile can write one."""
    page = tif.pages.first
    if page.compression != NOT_COMPRESSED:
        return
    planes: Any = 1
    if tif.is_imagej:
        planes = (tif.imagej_metadata or {}).get("images")
    elif (shape := re.match(_SHAPE, page.description)) is not None:
        planes = math.prod(map(int, shape[1].split(","))) // math.prod(page.shape)
    if isinstance(planes, int) and planes > 1:
        size = sum(page.databytecounts)
        if page.dataoffsets[0] + planes * size <= len(data):
            raise tiff_directory.several_pages(planes)


def _stored(page: Any, data: bytes) -> npt.NDArray[Any]:
    """Return the stored values, grey (height, width) or colour (height, width, 3)."""
    if page.compression == NOT_COMPRESSED:
        page.predictor = 1  # any other means nothing then, for ImageJ and libtiff
    # (separate samples, depth, height, width, interleaved samples)
    whole = page.asarray(squeeze=False) if page.is_contiguous else from_segments(page, data)
    planes = whole[:, 0]
    return without_alpha(planes[0] if len(planes) == 1 else np.moveaxis(planes[..., 0], 0, -1))


def _meant(values: npt.NDArray[Any], page: Any, meaning: int) -> npt.NDArray[Any]:
    """Return what stored values mean as grey or RGB; those of under 8 bits are spread over 8, as in a PNG."""
    bits = page.bitspersample
    if meaning == _PALETTE:
        return _looked_up(values.view(np.uint8) if bits == 1 else values, page.colormap)
    if bits < 8:
        top = (1 << bits) - 1
        levels = np.asarray([value * 255 // top for value in range(256)], np.uint16).astype(np.uint8)
        values, bits = cv2.LUT(values.view(np.uint8), levels), 8
    if meaning == _MIN_IS_WHITE and values.dtype in (np.uint8, np.uint16):
        values = values ^ values.dtype.type((1 << bits) - 1)  # all of its bits the other way round
    return values


def _looked_up(indices: npt.NDArray[Any], colours: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the colours of a palette, (3, n) of 16 bits, as RGB of 8 bits."""
    if colours.max() > 255:  # else an old program wrote 8 bits
        colours = colours >> 8
    table = np.ascontiguousarray(colours.T.astype(np.uint8))
    looked_up = np.empty((*indices.shape, 3), np.uint8)
    for row, line in enumerate(indices):  # since NumPy converts indices to eight bytes each
        looked_up[row] = table[line]
    return looked_up


def _opencv_tiff_pixels(page: Any, data: bytes, meaning: int) -> npt.NDArray[Any]:
    """Return the pixels of an encoding that tifffile cannot decode, with OpenCV's peculiarities undone or refused."""
    bits, samples = page.bitspersample, page.samplesperpixel
    is_any = meaning in (_PALETTE, _YCBCR) or page.dtype.name == "bool"
    if bits not in _OPENCV_BITS or page.dtype.name not in _OPENCV_TYPES:
        raise ImageError(f"has {_described(page)} pixels in an encoding that cannot be decoded: save it uncompressed")
    # OpenCV reads separate planes of more than 8 bits as if they were interleaved, which
    # https://github.com/opencv/opencv/pull/29567 (2026-07) fixes: the first condition can go once the oldest OpenCV
    # that we support has it. It returns one channel of three in an image declared grey (not reported; OpenCV 5.0.0).
    if (samples > 1 and bits > 8 and page.planarconfig != 1) or (samples == 3 and page.photometric <= _MIN_IS_BLACK):
        raise ImageError("has channels that its compression mixes up: save it uncompressed")
    # OpenCV rotates by Orientation even under IMREAD_UNCHANGED (by design since
    # https://github.com/opencv/opencv/pull/14609), and libtiff, which it reads 8-bit files with, multiplies colours by
    # an unassociated alpha (as https://github.com/image-rs/image/pull/2889 describes). Both tags are overwritten. Can
    # go if OpenCV gets a flag for pixels as they are stored.
    overwritten = {"Orientation": 1, "ExtraSamples": 1, "PhotometricInterpretation": meaning}
    for tag, value in overwritten.items():
        if tag in page.tags and page.tags[tag].value != value:
            at = page.tags[tag].valueoffset
            data = data[:at] + struct.pack(f"{page.parent.byteorder}H", value) + data[at + 2 :]
    header = Header(page.imagelength, page.imagewidth, None if is_any else page.dtype.name)
    pixels = decode_with_opencv(data, header, _UNDECODED)
    # OpenCV scales 10, 12 and 14 bits up to 16: by design since https://github.com/opencv/opencv/pull/21701
    if pixels.dtype == np.uint16 and bits < 16:
        pixels >>= 16 - bits
    # OpenCV inverts MinIsWhite in 8 bits but not in 16: by design since https://github.com/opencv/opencv/pull/9564.
    # Can go if OpenCV inverts both or neither.
    if pixels.dtype == np.uint16 and meaning == _MIN_IS_WHITE:
        pixels = np.uint16((1 << bits) - 1) - pixels
    return pixels
