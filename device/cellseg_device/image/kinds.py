"""What a file is that is not a PNG, JPEG or TIFF image, by how it begins."""

from __future__ import annotations

import re

BYTES = 132  # of a file's beginning, by which it is recognised

_SAVE = "save it as PNG or TIFF"
_EXPORT = "export it as TIFF from the microscope's software, or from Fiji"
_DEVELOP = "export it as TIFF from the camera's software"
_PLAY = "for its frames use 'cellseg-device camera --source'"
_NO_IMAGE = "is not a PNG, JPEG or TIFF image: convert it, or move it away"

# How it begins, what it is and what to do; the first that fits
_KINDS = (
    (rb"BM.{4}\0{4}", "a BMP image", _SAVE),
    (rb"GIF8[79]a", "a GIF image", _SAVE),
    (rb"RIFF.{4}WEBP", "a WebP image", _SAVE),
    (rb".{4}ftyp(he[iv]|mif1|msf1)", "a HEIC image", _SAVE),
    (rb".{4}ftypavi[fs]", "an AVIF image", _SAVE),
    (rb".{4}jP  \r\n\x87\n|\xffO\xffQ", "a JPEG 2000 image", _SAVE),
    (rb".{4}JXL \r\n\x87\n|\xff\n", "a JPEG XL image", _SAVE),
    (rb"II\xbc", "a JPEG XR image", _SAVE),
    (rb"P[1-7]\s", "a PNM image", _SAVE),
    (rb"8BPS", "a Photoshop file", _SAVE),
    (rb"SIMPLE  =", "a FITS image", _SAVE),
    (rb"ZISRAWFILE", "a Zeiss CZI file", _EXPORT),
    (rb"\xda\xce\xbe\n", "a Nikon ND2 file", _EXPORT),
    (rb"p\0{3}.{4}\*", "a Leica LIF file", _EXPORT),
    (rb"OLYMPUSRAWFORMAT", "an Olympus OIR file", _EXPORT),
    (rb"\xff\xfe\[\0", "an Olympus OIF file", _EXPORT),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Olympus OIB or Zeiss ZVI file, or a document", _EXPORT),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file, as Imaris writes them", _EXPORT),
    (rb".{128}DICM", "a DICOM file", "export it as PNG or TIFF"),
    (rb".{4}ftypcrx|FUJIFILM|IIRO|IIU\0", "a camera's raw image", _DEVELOP),
    (rb".{4}ftyp|RIFF.{4}AVI ", "a video", _PLAY),
    (rb"PK\x03\x04", "a ZIP file", "unpack it"),
    (rb"%PDF", "a PDF document", "export its picture as PNG or TIFF"),
)


def refusal(beginning: bytes) -> str:
    """Return why a file that begins so is not read, and what to do, as the message of an `ImageError`."""
    for pattern, what, remedy in _KINDS:
        if re.match(pattern, beginning, re.DOTALL):
            return f"is {what}: {remedy}"
    return _NO_IMAGE
