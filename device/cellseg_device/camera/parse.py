"""From the text of ``--source`` to what opens it."""

from __future__ import annotations

import re
from pathlib import Path

from cellseg_device.camera.source import Camera, Opener, Settings, Warn
from cellseg_device.errors import InputError

FORMS = "picamera2, usb:0, a URL (http, https, rtsp), a video file or a folder of images"
_SCHEMES = ("http", "https", "rtsp", "rtsps")


def opener(text: str, timeout_s: float, warn: Warn) -> Opener:
    """Find out which kind of source is meant; nothing is opened yet.

    Parameters
    ----------
    text : str
        ``picamera2`` or ``picamera2:N`` (camera N of several), ``usb:N`` or ``usb:/dev/…``, a URL, or a path.
    timeout_s : float
        How long the source may take to connect, and to give an image.
    warn : callable
        Receives a line for the user.

    Raises
    ------
    InputError
        If it is none of these, or there is no such file.
    """
    kind, _, rest = text.partition(":")
    if kind == "picamera2":
        return _picamera(text, rest, timeout_s, warn)
    if kind == "usb" or re.fullmatch(r"/dev/video\d+", text):
        return _usb(text, rest if kind == "usb" else text, timeout_s, warn)
    if "://" in text:
        return _stream(text, timeout_s, warn)
    return _file(text, warn)


def _picamera(text: str, number: str, timeout_s: float, warn: Warn) -> Opener:
    if not re.fullmatch(r"picamera2(:\d)?", text):
        raise InputError(f"{text!r} is not a camera: write picamera2, or picamera2:1 for the second one")

    def opened(settings: Settings) -> Camera:
        from cellseg_device.camera.picamera import PiCamera

        return PiCamera(int(number or 0), settings, timeout_s, warn)

    return opened


def _usb(text: str, device: str, timeout_s: float, warn: Warn) -> Opener:
    if not re.fullmatch(r"\d{1,3}|/dev/[^\0]+", device):
        raise InputError(f"{text!r} is not a USB camera: write usb:0 for /dev/video0, or usb:/dev/v4l/by-id/NAME")

    def opened(settings: Settings) -> Camera:
        from cellseg_device.camera.opencv import UsbCamera

        return UsbCamera(int(device) if device.isdigit() else device, settings, timeout_s, warn)

    return opened


def _stream(url: str, timeout_s: float, warn: Warn) -> Opener:
    if url.partition("://")[0].lower() not in _SCHEMES:
        raise InputError(f"{url!r} is not a source: it has to be {FORMS}")

    def opened(settings: Settings) -> Camera:
        from cellseg_device.camera.opencv import Stream

        return Stream(url, settings, timeout_s, warn)

    return opened


def _file(text: str, warn: Warn) -> Opener:
    path = Path(text)
    if not text or not path.exists():
        raise InputError(f"{text!r} is no source, nor a file that is there: it has to be {FORMS}")

    def opened(settings: Settings) -> Camera:
        if path.is_dir():
            from cellseg_device.camera.folder import Folder

            return Folder(path, settings, warn)
        from cellseg_device.camera.opencv import Video

        return Video(path, settings, warn)

    return opened
