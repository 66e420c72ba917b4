"""From a file's bytes to pixels: the header decides first, then OpenCV decodes.

The header (Pillow for PNG and JPEG, tifffile for TIFF) tells size, depth and channels before anything large
is allocated, so a hostile or oversized file is refused at the price of its header. TIFF in the encodings that
tifffile decodes without further packages is left to it: OpenCV mixes up 16-bit planes, multiplies colours by alpha
and does not tell of damaged strips.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import stat
import struct
import xml.etree.ElementTree as ET
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import normalise
from cellseg_device.errors import MAY_NOT_READ, ImageError
from cellseg_device.options import is_pixel_size
from cellseg_device.quiet import quiet_stderr

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
MAX_SIDE_PX = 12_000
MAX_FILE_BYTES = 2 * 1024**3  # a 12,000 × 12,000 16-bit RGB TIFF is 0.86 GB

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_END = b"\xff\xd9"
_JPEG_FILLED_UP = b"premature end of data segment"  # libjpeg's, which makes up the rest of the picture
_NEVER_OPENS = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)
_UM_PER_UNIT = {"µm": 1.0, "um": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
_UM_PER_UNIT |= dict.fromkeys(("micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), 1.0)
_SQUARE = 1.01  # pixels whose sides differ by more have no one size
_PRINTED_UM = 40.0  # per centimetre, without a word of who means it, this and more is a printer's resolution

# TIFF tags: what tifffile decodes alone (none, deflate in two numbers, packbits), what OpenCV does beside that (CCITT,
# LZW, JPEG), and what colours mean
_TIFFFILE_DECODES = (1, 8, 32946, 32773)
_OPENCV_DECODES = (*_TIFFFILE_DECODES, 2, 3, 4, 5, 6, 7)
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ALPHAS = (1, 2)  # of ExtraSamples: colours multiplied by it or not

_TAG_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # of one value, by type

# What a damaged file means is said in our own words; OpenCV and tifffile would add theirs on stderr.
if hasattr(cv2, "setLogLevel"):  # OpenCV 4
    cv2.setLogLevel(0)
else:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Image:
    """One decoded field of view.

    Attributes
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16
        Grey or RGB, as stored in the file; a float TIFF is mapped linearly onto uint16.
    pixel_size_um : float or None
        Edge of a pixel in micrometres as the file says it, None where it does not say.
    channel : int or None
        Of RGB, the one in which the cells are looked for; None for all.
    """

    pixels: npt.NDArray[Any]
    pixel_size_um: float | None = None
    channel: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @cached_property
    def searched(self) -> npt.NDArray[Any]:
        """Pixels in which the cells are looked for, and by which the image is judged: all, or those of `channel`."""
        return self.pixels if self.channel is None else cv2.extractChannel(self.pixels, self.channel)

    @cached_property
    def histograms(self) -> npt.NDArray[np.int64]:
        """`normalise.histograms` of what is searched; wanted before the network and after it, so counted once."""
        return normalise.histograms(self.searched)


@dataclass(frozen=True)
class _Header:
    height: int
    width: int
    dtype: str | None = None  # None for what any decoder gives
    pixel_size_um: float | None = None
    is_grey: bool = False  # although OpenCV may make a colour image of it, for its alpha


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: known suffix and not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - ten times as fast


def read(path: Path) -> bytes:
    """Read a regular image file whole.

    Raises
    ------
    ImageError
        If it is missing, not a regular file, empty, or larger than `MAX_FILE_BYTES`.
    OSError
        On a fault of the disk or network: the caller may try again.
    """
    try:
        info = path.stat()
    except FileNotFoundError:
        raise ImageError("no such file: check the path") from None
    except PermissionError:
        raise ImageError(MAY_NOT_READ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _NEVER_OPENS:
            raise
        raise ImageError(f"cannot be opened ({_reason(error)}): check the link or the path") from None
    if stat.S_ISDIR(info.st_mode):
        raise ImageError("is a folder, not an image: name its files, or use 'cellseg-device watch'")
    if not stat.S_ISREG(info.st_mode):
        raise ImageError("is not a regular file (pipe, socket or device): copy the image into a file first")
    if info.st_size == 0:
        raise ImageError("is empty (0 bytes): copy or capture it again")
    if info.st_size > MAX_FILE_BYTES:
        raise ImageError(f"is {info.st_size / 1e9:.1f} GB, over the limit of 2 GB: crop or split it")
    try:
        return path.read_bytes()
    except PermissionError:
        raise ImageError(MAY_NOT_READ) from None


def decode(data: bytes, is_mask: bool = False) -> Image:
    """Decode a PNG, JPEG or TIFF image.

    Parameters
    ----------
    data : bytes
        The whole file.
    is_mask : bool
        Whether the values count and not how they look: ImageJ stores a mask with 255 inside, and shows that in black.

    Returns
    -------
    Image
        Alpha is dropped; colour is RGB.

    Raises
    ------
    ImageError
        If the data is not such an image, is truncated or damaged, holds several pages, has a channel count or
        a depth other than grey/RGB(A) in 8 or 16 bits, is larger than 12,000 px on a side, or is a float TIFF
        with NaN or infinite pixels.
    """
    if data.startswith(_PNG):
        header = _png_or_jpeg_header(data, "PNG")
        _check_png_chunks(data)
    elif data.startswith(_JPEG):
        header = _png_or_jpeg_header(data, "JPEG")
        # Behind the start of the scan, since a thumbnail in the EXIF block has an end marker of its own.
        if data.find(_JPEG_END, _jpeg_scan_start(data)) < 0:
            raise ImageError("is a truncated JPEG: copy or capture it again")
    elif data.startswith(_TIFF):
        return _decode_tiff(data, is_mask)
    else:
        raise ImageError("is not a PNG, JPEG or TIFF image: convert it, or move it away")
    return Image(_opencv_pixels(data, header))


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"has a size of {width}×{height} pixels: save it again")
    if max(height, width) > MAX_SIDE_PX:
        raise ImageError(f"is {width}×{height} pixels, over the limit of {MAX_SIDE_PX}×{MAX_SIDE_PX}: crop or split it")


def _png_or_jpeg_header(data: bytes, kind: str) -> _Header:
    import PIL.Image  # here, since a TIFF does not need it

    PIL.Image.MAX_IMAGE_PIXELS = None  # ours is the limit, checked next
    try:
        with PIL.Image.open(io.BytesIO(data), formats=[kind]) as opened:
            width, height, mode = opened.width, opened.height, opened.mode
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's own words for a header it cannot read name an object in memory
        reason = "its header is wrong" if isinstance(error, PIL.UnidentifiedImageError) else _reason(error)
        raise ImageError(f"is a damaged {kind} ({reason}): copy or capture it again") from None
    _check_size(height, width)
    if mode == "CMYK":
        raise ImageError("has CMYK colours: save it as RGB or grey")
    return _Header(height, width, is_grey=mode == "LA")


def _check_png_chunks(data: bytes) -> None:
    """Compare the checksum of every chunk, so that damage is told whatever a decoder makes of it."""
    whole = memoryview(data)
    position = len(_PNG)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(whole[position : position + 4], "big")
        if end > len(data):
            break
        if zlib.crc32(whole[position + 4 : end - 4]) != int.from_bytes(whole[end - 4 : end], "big"):
            raise ImageError("is a damaged PNG (a checksum is wrong): copy or capture it again")
        if data.startswith(b"IEND", position + 4):
            return
        position = end
    raise ImageError("is a truncated PNG: copy or capture it again")


def _jpeg_scan_start(data: bytes) -> int:
    """Offset of the first start-of-scan marker, or the file's length where the markers end before it."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == 0xDA:
            return position
        if data[position + 1] == 0xFF:  # fill byte
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return len(data)


def _decode_tiff(data: bytes, is_mask: bool) -> Image:
    import tifffile  # here, since it takes 20 ms that a PNG or JPEG need not pay

    try:
        # Closed by us: tifffile's objects hold each other, and with them the file's bytes, until some later collection
        with io.BytesIO(data) as file, tifffile.TiffFile(file) as tif:
            page: Any = tif.pages.first
            header = _tiff_header(tif, data)
            inverted = page.photometric == _MIN_IS_WHITE and not (is_mask and tif.is_imagej)
            bits = 8 * page.dtype.itemsize
            if page.compression not in _TIFFFILE_DECODES or page.photometric > _RGB or page.bitspersample != bits:
                return Image(_opencv_tiff_pixels(page, data, header), header.pixel_size_um)
            planes = page.asarray(squeeze=False)[:, 0]  # (separate samples, height, width, interleaved samples)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # tifffile raises many kinds on damaged files
        raise ImageError(f"is a damaged TIFF ({_reason(error)}): copy or capture it again") from None
    pixels = planes[0] if len(planes) == 1 else np.moveaxis(planes[..., 0], 0, -1)
    pixels = _without_alpha(pixels)
    if pixels.dtype.kind == "f":
        pixels = _float_to_uint16(pixels)
    return Image(~pixels if inverted else pixels, header.pixel_size_um)


def _tiff_header(tif: Any, data: bytes) -> _Header:
    page = tif.pages.first
    height, width, samples, dtype = page.imagelength, page.imagewidth, page.samplesperpixel, page.dtype
    _check_size(height, width)
    pages = len(tif.pages) * page.imagedepth
    if tif.is_imagej and page.compression == 1:  # which may write all planes of a stack behind one page
        planes, size = (tif.imagej_metadata or {}).get("images"), sum(page.databytecounts)
        if isinstance(planes, int) and page.dataoffsets[0] + planes * size <= len(data):
            pages = max(pages, planes)
    if pages != 1:
        raise ImageError(f"holds {pages} pages: save each plane as a file of its own (Fiji: Stack to Images)")
    if page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _YCBCR):
        name = _shown(getattr(page.photometric, "name", page.photometric))
        raise ImageError(f"has {'CMYK' if name == 'SEPARATED' else name} colours: save it as RGB or grey")
    is_alpha = page.photometric == _RGB or (page.extrasamples or (0,))[-1] in _ALPHAS
    if samples not in (1, 3) and not (samples in (2, 4) and is_alpha):
        raise ImageError(f"has {_shown(samples)} channels: save it as grey (1) or RGB (3)")
    if dtype is None or dtype.name not in ("bool", "uint8", "uint16", "float32", "float64"):
        raise ImageError(f"has pixels of type {_shown(dtype)}: save it as 8- or 16-bit")
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if max([_tags_end(tif, data), *ends]) > len(data):
        raise ImageError("is a truncated TIFF: copy or capture it again")
    if page.photometric == _PALETTE or page.photometric == _YCBCR or dtype.name == "bool":
        return _Header(height, width, None, _tiff_pixel_size_um(tif))
    return _Header(height, width, dtype.name, _tiff_pixel_size_um(tif))


def _tags_end(tif: Any, data: bytes) -> int:
    """Where the first page's tags and their values end: tifffile passes over those it cannot read."""
    layout, start = tif.tiff, tif.pages.first.offset
    (count,) = struct.unpack_from(layout.tagnoformat, data, start)
    first = start + layout.tagnosize
    last = first + count * layout.tagsize
    end: int = last + layout.offsetsize  # behind the tags stands where the next page is
    for tag in range(first, last, layout.tagsize):
        _, kind = struct.unpack_from(layout.tagformat1, data, tag)
        number, value = struct.unpack_from(layout.tagformat2, data, tag + 4)
        size = number * (_TAG_BYTES[kind] if kind < len(_TAG_BYTES) else 0)
        if size > layout.tagoffsetthreshold:
            end = max(end, struct.unpack(layout.offsetformat, value)[0] + size)
    return end


def _tiff_pixel_size_um(tif: Any) -> float | None:
    """Pixel edge in µm from OME-XML, else from ImageJ's tags, else from a resolution per centimetre.

    None for pixels that are not square.
    """
    page = tif.pages.first
    if tif.is_ome:
        pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", tif.ome_metadata or "")
        if pixels is None:
            return None
        tag = re.sub(r"<(?:\w+:)?", "<", pixels.group().rstrip("/>")) + "/>"
        attributes = ET.fromstring(tag).attrib
        x, y = (
            _plausible_um(attributes.get(f"PhysicalSize{axis}"), attributes.get(f"PhysicalSize{axis}Unit", "µm"))
            for axis in "XY"
        )
        return x if y is None else _square(x, y)
    edges = [page.tags[name].value for name in ("XResolution", "YResolution") if name in page.tags]
    if len(edges) < 2 or not all(pixels for pixels, _ in edges):
        return None
    x, y = (length / pixels for pixels, length in edges)
    if tif.is_imagej:
        unit = str((tif.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
        return _square(_plausible_um(x, unit), _plausible_um(y, unit))
    unit_tag = page.tags.get("ResolutionUnit")
    if unit_tag is not None and int(unit_tag.value) == 3:  # per centimetre; inches are printers' defaults
        size = _square(_plausible_um(x, "cm"), _plausible_um(y, "cm"))
        return None if size is None or size >= _PRINTED_UM else size
    return None


def _square(x: float | None, y: float | None) -> float | None:
    return x if x is not None and y is not None and 1 / _SQUARE < x / y < _SQUARE else None


def _plausible_um(value: str | float | None, unit: str) -> float | None:
    try:
        size = float(value or 0) * _UM_PER_UNIT[unit]
    except (KeyError, ValueError):
        return None
    # Beyond these it is a mistake of the program that wrote the file, such as metres taken for micrometres
    return size if is_pixel_size(size) else None


def _opencv_tiff_pixels(page: Any, data: bytes, header: _Header) -> npt.NDArray[Any]:
    """What tifffile leaves to OpenCV, but for that of which OpenCV makes something else."""
    bits, samples = page.bitspersample, page.samplesperpixel
    if page.compression not in _OPENCV_DECODES:
        name = _shown(getattr(page.compression, "name", page.compression))
        raise ImageError(f"is compressed with {name}: save it uncompressed")
    if (samples > 1 and bits > 8 and page.planarconfig != 1) or (samples == 3 and page.photometric <= _MIN_IS_BLACK):
        raise ImageError("has channels that its compression mixes up: save it uncompressed")
    # It would turn the picture, and multiply colours by an alpha that is not in them yet: told otherwise, it does not
    for tag in ("Orientation", "ExtraSamples"):
        if tag in page.tags:
            at = page.tags[tag].valueoffset
            data = data[:at] + struct.pack(f"{page.parent.byteorder}H", 1) + data[at + 2 :]
    pixels = _opencv_pixels(data, header)
    if pixels.dtype == np.uint16 and bits < 16:
        pixels >>= 16 - bits  # it fills them up to 16
    if pixels.dtype == np.uint16 and page.photometric == _MIN_IS_WHITE:
        pixels = np.uint16((1 << bits) - 1) - pixels  # 8 bits and fewer it has turned over itself
    return pixels


def _opencv_pixels(data: bytes, header: _Header) -> npt.NDArray[Any]:
    try:
        with quiet_stderr() as said:  # libpng and libjpeg would name what is wrong there
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            heard = said()
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        raise ImageError(f"cannot be decoded ({_reason(error)}): save it again") from None
    if pixels is None:
        raise ImageError("is damaged and cannot be decoded: copy or capture it again")
    if _JPEG_FILLED_UP in heard:
        raise ImageError("is a damaged JPEG, a part of its data is missing: copy or capture it again")
    if pixels.shape[:2] != (header.height, header.width):
        raise ImageError("is damaged: its size is not what its header says")
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    elif pixels.ndim == 3 and pixels.shape[2] == 4 and not header.is_grey:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    else:
        pixels = _without_alpha(pixels[..., :1] if header.is_grey else pixels)
    if header.dtype is not None and pixels.dtype != header.dtype:
        raise ImageError(f"has {header.dtype} pixels in an encoding that cannot be decoded: save it uncompressed")
    if pixels.dtype.kind == "f":
        return _float_to_uint16(pixels)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"has pixels of type {pixels.dtype}: save it as 8- or 16-bit")
    return pixels


def _without_alpha(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Grey (height, width) or colour (height, width, 3) out of 1 to 4 channels."""
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., 0]
    return np.ascontiguousarray(pixels)


def _float_to_uint16(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    bad = int(pixels.size - np.count_nonzero(np.isfinite(pixels)))
    if bad:
        raise ImageError(f"has {bad} NaN or infinite pixel values: replace them and save as 16-bit")
    low, high = float(pixels.min()), float(pixels.max())
    scale = 65535.0 / (high - low) if high > low else 0.0
    return np.rint((pixels.astype(np.float64) - low) * scale).astype(np.uint16)


def _reason(error: BaseException) -> str:
    """First line of a library's message, short enough for one line."""
    text = str(error).strip().splitlines()
    return _shown(text[0] if text else type(error).__name__)


def _shown(value: object) -> str:
    """Show what stands in a file, whatever it is, as a short piece of one line."""
    return "".join(c if c.isprintable() else "?" for c in str(value))[:120]
