"""From the text of ``--source`` to what opens it, and to what may be printed of it."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cellseg_device.camera.source import Camera, Opener, Place, Settings, Warn
from cellseg_device.errors import InputError
from cellseg_device.image.sandbox import Decoder
from cellseg_device.system import files

FORMS = "picamera2, usb:0, a URL (http, https, rtsp), a video file or a folder of images"
_LONGEST = 4096
_SCHEMES = ("http", "https", "rtsp", "rtsps")


def opener(text: str, timeout_s: float, warn: Warn, decoder: Decoder) -> Opener:
    """Return what opens a source; nothing is opened yet.

    Parameters
    ----------
    text : str
        ``picamera2`` or ``picamera2:N`` (camera N of several), ``usb:N`` or ``usb:/dev/…``, a URL, a path, or ``@`` and
        the path of a file that holds one of these.
    timeout_s : float
        How long the source may take to connect, and to give an image.
    warn : callable
        Receives a line for the user.
    decoder : Decoder
        Decodes what the source gives, in other processes.

    Raises
    ------
    InputError
        If it is none of these, or there is no such file.
    """
    text = resolved(text)
    kind, _, rest = text.partition(":")
    if kind == "picamera2":
        return _picamera(text, rest, timeout_s, warn)
    if kind == "usb" or re.fullmatch(r"/dev/video\d+", text):
        return _usb(text, rest if kind == "usb" else text, timeout_s, warn, decoder)
    if "://" in text:
        return _stream(text, timeout_s, warn, decoder)
    return _file(text, timeout_s, warn, decoder)


def resolved(text: str) -> str:
    """Return a source itself where it is ``@FILE``, a file that holds it; raise InputError if that cannot be read."""
    if not text.startswith("@"):
        return text
    path = Path(text[1:])
    try:
        with open(path, encoding="utf-8", opener=files.regular) as file:
            held = file.read(_LONGEST).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(
            f"{path}, which should hold the camera's source, cannot be read ({reason}): check it"
        ) from None
    if not held or "\n" in held:
        raise InputError(f"{path} does not hold a camera's source: write one into it, in one line")
    return held


def is_played(text: str) -> bool:
    """Whether a source is a video file or a folder, whose images come one after the other whenever they are taken."""
    text = resolved(text)
    kind = text.partition(":")[0]
    return kind not in ("picamera2", "usb") and "://" not in text and not text.startswith("/dev/")


def shown(source: str) -> str:
    """Return a source without what may be secret: of an address its scheme, host and port; others as they are."""
    scheme, _, rest = source.partition(":")
    if "@" not in rest and not rest.startswith("//"):
        return source
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    return f"{scheme}://{host or '…'}" + (f":{port}" if port is not None else "")


def _picamera(text: str, number: str, timeout_s: float, warn: Warn) -> Opener:
    if not re.fullmatch(r"picamera2(:\d)?", text):
        raise InputError(f"{text!r} is not a camera: write picamera2, or picamera2:1 for the second one")

    def opened(settings: Settings) -> Camera:
        from cellseg_device.camera.picamera import PiCamera

        return PiCamera(int(number or 0), settings, timeout_s, warn)

    return opened


def _usb(text: str, device: str, timeout_s: float, warn: Warn, decoder: Decoder) -> Opener:
    if not re.fullmatch(r"\d{1,3}|/dev/[^\0]+", device):
        raise InputError(f"{text!r} is not a USB camera: write usb:0 for /dev/video0, or usb:/dev/v4l/by-id/NAME")
    return partial(_opened_apart, decoder, Place("usb", device, timeout_s), warn)


def _stream(url: str, timeout_s: float, warn: Warn, decoder: Decoder) -> Opener:
    if url.partition("://")[0].lower() not in _SCHEMES:
        raise InputError(f"{shown(url)!r} is not a source: it has to be {FORMS}")
    return partial(_opened_apart, decoder, Place("stream", url, timeout_s), warn)


def _file(text: str, timeout_s: float, warn: Warn, decoder: Decoder) -> Opener:
    path = Path(text)
    if not text or not path.exists():
        raise InputError(f"{shown(text)!r} is neither a source nor an existing file: it has to be {FORMS}")

    def opened(settings: Settings) -> Camera:
        if path.is_dir():
            from cellseg_device.camera.folder import Folder

            return Folder(path, settings, warn, decoder.decode)
        return _opened_apart(decoder, Place("video", text, timeout_s), warn, settings)

    return opened


def _opened_apart(decoder: Decoder, place: Place, warn: Warn, settings: Settings) -> Camera:
    """Return a source of OpenCV's in another process; in this one only where the system lacks what that needs."""
    if decoder.is_apart:
        from cellseg_device.camera.apart import Apart

        return Apart(decoder, place, settings, warn)
    from cellseg_device.camera import opencv

    return opencv.opened(place, settings, warn)
