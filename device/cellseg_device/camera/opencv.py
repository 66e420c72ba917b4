"""What OpenCV opens: USB cameras through V4L2, network streams, video files."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from pathlib import Path

import cv2

from cellseg_device.camera.source import CameraFault, EndOfImages, Pixels, Settings, Warn, warn_of_unused
from cellseg_device.errors import InputError

# FFmpeg's own words on standard error; what they mean is said in ours
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_MANUAL, _AUTOMATIC = 1, 3  # V4L2's exposure menu: manual, aperture priority (exposure automatic)
_EXPOSURE_UNIT_S = 1e-4  # of V4L2's absolute exposure time
_LARGEST = 10_000, 10_000  # a driver answers with the size that is nearest
_STALE_S = 0.2


class UsbCamera:
    """A camera that V4L2 knows: USB (UVC) and others.

    Parameters
    ----------
    device : int or str
        The number N of ``/dev/videoN``, or a path.
    settings : Settings
    timeout_s : float
        How long a frame may take.
    warn : callable
        Told of what the camera refuses.
    """

    def __init__(self, device: int | str, settings: Settings, timeout_s: float, warn: Warn) -> None:
        path = f"/dev/video{device}" if isinstance(device, int) else device
        if not os.path.exists(path):  # noqa: PTH110, for a text
            raise CameraFault(f"is not there ({path}): plug it in; 'ls /dev/v4l/by-id' lists the cameras")
        if not os.access(path, os.R_OK | os.W_OK):
            raise CameraFault(f"may not be used ({path}): 'sudo usermod -aG video $USER', and log in again")
        os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(max(round(timeout_s), 1))
        self._warn = warn
        self._capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        try:
            if not self._capture.isOpened():
                raise CameraFault(f"cannot be opened ({path}): another program may use it")
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            self._queued = max(int(self._capture.get(cv2.CAP_PROP_BUFFERSIZE)), 1)
            self._set_size(settings.size)
            self.settings = self._locked(settings)
            height, width = self.capture().shape[:2]
        except BaseException:
            self._capture.release()
            raise
        self.description = f"{path}, {width}×{height}"

    def capture(self) -> Pixels:
        """Take a frame, after those that were queued up before."""
        for _ in range(self._queued):
            self._capture.grab()
        return _rgb(self._capture)

    def close(self) -> None:
        """Let go of the device."""
        self._capture.release()

    def _set_size(self, size: tuple[int, int] | None) -> None:
        """Set (height, width), by default the largest of the uncompressed formats, which OpenCV prefers."""
        if size is None:
            self._try_size(_LARGEST)
            return
        got = self._try_size(size)
        if got != size and self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")):
            got = self._try_size(size)
        if got != size:
            self._warn(f"the camera has no size {size[1]}x{size[0]}: it gives {got[1]}x{got[0]}")

    def _try_size(self, size: tuple[int, int]) -> tuple[int, int]:
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
        return int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))

    def _locked(self, settings: Settings) -> Settings:
        """Let the automatics settle on what was not asked for, then lock all of it."""
        if isinstance(settings.awb, tuple):
            raise InputError("the white balance of a USB camera is a temperature: write --awb 5000K")
        self._capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _AUTOMATIC)
        self._capture.set(cv2.CAP_PROP_AUTO_WB, 1)
        end = time.monotonic() + settings.warm_up_s
        while time.monotonic() < end:
            _rgb(self._capture)
        exposure = settings.exposure_s / _EXPOSURE_UNIT_S if settings.exposure_s is not None else None
        exposure = self._lock(cv2.CAP_PROP_EXPOSURE, exposure, cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL)
        gain = self._lock(cv2.CAP_PROP_GAIN, settings.gain)
        kelvin = self._lock(cv2.CAP_PROP_WB_TEMPERATURE, settings.awb, cv2.CAP_PROP_AUTO_WB, 0)
        names = {"exposure": exposure, "gain": gain, "white balance": kelvin}
        refused = ", ".join(name for name, value in names.items() if value is None)
        if refused:
            self._warn(f"the camera does not let its {refused} be locked: counts may drift with the light")
        return dataclasses.replace(
            settings,
            exposure_s=exposure * _EXPOSURE_UNIT_S if exposure is not None else None,
            gain=gain,
            awb=round(kelvin) if kelvin is not None else None,
        )

    def _lock(self, name: int, wanted: float | None, automatic: int | None = None, manual: int = 0) -> float | None:
        """Set one of the driver's values, or leave it where it is, without its automatic; None where it is refused."""
        value = self._capture.get(name) if wanted is None else wanted
        if automatic is not None and not self._capture.set(automatic, manual):
            return None
        if not self._capture.set(name, value):
            return None
        taken = self._capture.get(name)
        return taken if wanted is None or abs(taken - value) <= max(1, 0.05 * value) else None


class Stream:
    """MJPEG over HTTP, RTSP, and what else FFmpeg reads from a network.

    Parameters
    ----------
    url : str
    settings : Settings
        The sender has its own; told where some were asked for.
    timeout_s : float
        How long it may take to connect, and to give a frame.
    warn : callable

    Notes
    -----
    A connection is not kept between images that lie apart: what queues up in it is old by then, several seconds of
    video. To connect anew is quick.
    """

    def __init__(self, url: str, settings: Settings, timeout_s: float, warn: Warn) -> None:
        self._url = url
        self._timeout_ms = round(timeout_s * 1e3)
        self._capture: cv2.VideoCapture | None = None
        self._read_at = 0.0
        height, width = self.capture().shape[:2]
        self.settings = warn_of_unused(settings, "a stream", warn)
        self.description = f"{re.sub('//[^/@]*@', '//', url)}, {width}×{height}"  # without a password

    def capture(self) -> Pixels:
        """Take the frame that is sent now."""
        if self._capture is not None and time.monotonic() - self._read_at > _STALE_S:
            self.close()
        if self._capture is None:
            timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, self._timeout_ms]
            timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, self._timeout_ms]
            capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, timeouts)
            if not capture.isOpened():
                raise CameraFault("cannot be reached: check the address, the network and the sender")
            self._capture = capture
        pixels = _rgb(self._capture)
        self._read_at = time.monotonic()
        return pixels

    def close(self) -> None:
        """Disconnect."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


class Video:
    """A video file, played frame by frame.

    Parameters
    ----------
    path : Path
    settings : Settings
    warn : callable
    """

    def __init__(self, path: Path, settings: Settings, warn: Warn) -> None:
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise InputError(f"{path} is not a video that can be read: convert it, for images use 'cellseg-device run'")
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.settings = warn_of_unused(settings, "a video file", warn)
        self.description = f"{path}, {width}×{height}"
        self._path, self._warn = path, warn
        self._frames = 0

    def capture(self) -> Pixels:
        """Give the next frame."""
        try:
            pixels = _rgb(self._capture)
        except CameraFault:
            told = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
            if self._frames < told - 1:  # some containers round it up
                self._warn(f"{self._path} ends after {self._frames} of {told} frames: it is damaged, or cut short")
            raise EndOfImages from None
        self._frames += 1
        return pixels

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


def _rgb(capture: cv2.VideoCapture) -> Pixels:
    taken, pixels = capture.read()
    if not taken or pixels is None:
        raise CameraFault("gave no image")
    rgb: Pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return rgb
