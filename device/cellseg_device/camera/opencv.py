"""Sources that OpenCV opens: USB cameras through V4L2, network streams, video files."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from cellseg_device.camera.parse import shown
from cellseg_device.camera.source import (
    Camera,
    CameraFault,
    EndOfImages,
    Pixels,
    Place,
    Settings,
    Warn,
    warn_of_unused,
)
from cellseg_device.errors import ImageError, InputError
from cellseg_device.image.decode import decode

if TYPE_CHECKING:
    from cellseg_device.camera.stills import Stills

# Faults are reported in our own words; FFmpeg would print its own on standard error
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_MANUAL, _AUTOMATIC = 1, 3  # V4L2's exposure menu: manual, aperture priority (exposure automatic)
_EXPOSURE_UNIT_S = 1e-4  # of V4L2's absolute exposure time
_LARGEST = 10_000, 10_000  # a driver answers with the nearest size it has
_STALE_S = 0.2
_PAUSE_S = 0.1  # before another request to a sender whose last image was damaged
_NO_IMAGE = "gave no image"
_JPEGS = (b"MJPG", b"JPEG")  # codecs whose frames are JPEG files
_AS_IT_IS = -1  # the format of frames that are not decoded


def opened(place: Place, settings: Settings, warn: Warn) -> Camera:
    """Return the source at a place, opened."""
    where = place.where
    if place.kind == "usb":
        return UsbCamera(int(where) if where.isdigit() else where, settings, place.timeout_s, warn)
    if place.kind == "stream":
        return Stream(where, settings, place.timeout_s, warn)
    return Video(Path(where), settings, warn)


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
        Receives a line for what the camera refuses.
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
        """Return a new frame, after discarding those that were queued before."""
        for _ in range(self._queued):
            self._capture.grab()
        return _rgb(self._capture)

    def close(self) -> None:
        """Free the device."""
        self._capture.release()

    def _set_size(self, size: tuple[int, int] | None) -> None:
        """Set (height, width); by default the largest size in an uncompressed format, which OpenCV prefers."""
        if size is None:
            self._try_size(_LARGEST)
            return
        got = self._try_size(size)
        if got != size and self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")):
            got = self._try_size(size)
        if got != size:
            self._warn(f"the camera has no size {size[1]}x{size[0]}: using {got[1]}x{got[0]}")

    def _try_size(self, size: tuple[int, int]) -> tuple[int, int]:
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
        return int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))

    def _locked(self, settings: Settings) -> Settings:
        """Let the camera find what is not set, then lock everything and return it."""
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
        """Set a value, or keep it as it is, with its automatic off; return it, or None if the driver refuses."""
        value = self._capture.get(name) if wanted is None else wanted
        if automatic is not None and not self._capture.set(automatic, manual):
            return None
        if not self._capture.set(name, value):
            return None
        taken = self._capture.get(name)
        return taken if wanted is None or abs(taken - value) <= max(1, 0.05 * value) else None


class Stream:
    """MJPEG over HTTP, RTSP, and whatever else FFmpeg reads from a network; or one image for each request.

    Parameters
    ----------
    url : str
        Whether there are images or a stream is seen by the answer to a first request.
    settings : Settings
        Not used, since the sender has its own; the user is warned if some are given.
    timeout_s : float
        How long connecting, and waiting for a frame, may take.
    warn : callable
        Receives a line for the user.

    Notes
    -----
    The connection is not kept if the next image comes later, because by then several seconds of old video have queued
    up in it, and connecting again is quick.
    """

    def __init__(self, url: str, settings: Settings, timeout_s: float, warn: Warn) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._warn = warn
        self._frames: _Frames | Stills | None = None
        self._read_at = 0.0
        self._is_damaged = False  # the last frame
        self._are_stills = _are_stills(url, timeout_s)
        height, width = self.capture().shape[:2]
        self.settings = warn_of_unused(settings, "a stream", warn)
        self.description = f"{shown(url)}, {width}×{height}"

    def capture(self) -> Pixels:
        """Return the frame that is being sent now, or the next one that is whole."""
        if self._frames is not None and time.monotonic() - self._read_at > _STALE_S:
            self.close()
        end = time.monotonic() + self._timeout_s
        damage = ""
        while time.monotonic() < end:
            try:
                if self._frames is None:
                    self._frames = self._connected()
                pixels = self._frames.read()
            except ImageError as error:
                damage = error.message.partition(":")[0]
                if not self._is_damaged:
                    what = "an image of the camera" if self._are_stills else "a frame of the stream"
                    self._warn(f"{what} is left out: it {damage} (said once in a row)")
                self._is_damaged = True
                if self._are_stills:
                    time.sleep(_PAUSE_S)
            except CameraFault:
                if not damage:
                    raise
                break
            else:
                self._read_at = time.monotonic()
                self._is_damaged = False
                return pixels
        raise CameraFault(f"sends no whole frame: the last one {damage}" if damage else "gave no image")

    def _connected(self) -> _Frames | Stills:
        if not self._are_stills:
            return _Frames(self._url, self._timeout_s)
        from cellseg_device.camera.stills import Stills

        return Stills(self._url, self._timeout_s)

    def close(self) -> None:
        """Disconnect."""
        if self._frames is not None:
            self._frames.close()
            self._frames = None


def _are_stills(url: str, timeout_s: float) -> bool:
    """Return whether the sender answers each request with one image."""
    if not url.lower().startswith(("http://", "https://")):
        return False
    from cellseg_device.camera.stills import Stills  # here, since HTTP takes 50 ms to import

    return Stills(url, timeout_s).is_one()


class Video:
    """A video file, played frame by frame.

    Parameters
    ----------
    path : Path
    settings : Settings
    warn : callable
    """

    def __init__(self, path: Path, settings: Settings, warn: Warn) -> None:
        try:
            if not path.is_file():  # opening a pipe would wait for its other end
                raise CameraFault
            self._frames = _Frames(str(path))
        except CameraFault:
            fault = f"{path} is not a video that can be read: convert it, for images use 'cellseg-device run'"
            raise InputError(fault) from None
        self.settings = warn_of_unused(settings, "a video file", warn)
        self.description = f"{path}, {self._frames.width}×{self._frames.height}"
        self._path, self._warn = path, warn
        self._number = 0

    def capture(self) -> Pixels:
        """Return the next frame that is whole."""
        while True:
            try:
                pixels = self._frames.read()
            except ImageError as error:
                self._number += 1
                damage = error.message.partition(":")[0]
                self._warn(f"frame {self._number} of {self._path} is left out: it {damage}")
                continue
            except CameraFault:
                expected = self._frames.expected
                if self._number < expected - 1:  # some containers round the number up
                    ends = f"{self._path} ends after {self._number} of {expected} frames"
                    self._warn(f"{ends}: it is damaged, or cut short")
                raise EndOfImages from None
            self._number += 1
            return pixels

    def close(self) -> None:
        """Close the file."""
        self._frames.close()


class _Frames:
    """The frames that FFmpeg finds at an address or in a file.

    Those of MJPEG are decoded here: FFmpeg fills up one that is cut short with the frame before it, or with grey, and
    OpenCV does not say so.

    Parameters
    ----------
    where : str
    timeout_s : float or None
        How long connecting, and waiting for a frame, may take.

    Attributes
    ----------
    height, width : int
    expected : int
        How many frames there should be, where that is known.

    Raises
    ------
    CameraFault
        If it cannot be opened.
    """

    def __init__(self, where: str, timeout_s: float | None = None) -> None:
        timeouts = []
        if timeout_s is not None:
            for name in (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC):
                timeouts += [name, round(timeout_s * 1e3)]
        self._capture = cv2.VideoCapture(where, cv2.CAP_FFMPEG, timeouts)
        if not self._capture.isOpened():
            raise CameraFault("cannot be reached: check the address, the network and the sender")
        sizes = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_COUNT)
        self.height, self.width, self.expected = (int(self._capture.get(size)) for size in sizes)
        codec = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
        self._is_jpeg = codec.upper() in _JPEGS and self._capture.set(cv2.CAP_PROP_FORMAT, _AS_IT_IS)

    def read(self) -> Pixels:
        """Return the next frame.

        Raises
        ------
        CameraFault
            If there is none.
        ImageError
            If it is damaged.
        """
        if not self._is_jpeg:
            return _rgb(self._capture)
        taken, data = self._capture.read()
        if not taken or data is None:
            raise CameraFault(_NO_IMAGE)
        pixels = decode(data.tobytes()).pixels
        if pixels.shape[:2] != (self.height, self.width):  # as that of one field of an interlaced video
            height, width = pixels.shape[:2]
            raise ImageError(f"has {width}×{height} pixels, not {self.width}×{self.height}: convert the video")
        return pixels

    def close(self) -> None:
        """Disconnect, or close the file."""
        self._capture.release()


def _rgb(capture: cv2.VideoCapture) -> Pixels:
    taken, pixels = capture.read()
    if not taken or pixels is None:
        raise CameraFault(_NO_IMAGE)
    rgb: Pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return rgb
