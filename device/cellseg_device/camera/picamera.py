"""The Raspberry Pi's cameras, through picamera2 and the system's libcamera."""

from __future__ import annotations

import dataclasses
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from cellseg_device.camera.source import CameraFault, Pixels, Settings, Warn
from cellseg_device.errors import InputError

_LOCKS = {"ExposureTime": "exposure", "AnalogueGain": "gain", "ColourGains": "white balance"}
_SAME_FRAMES, _MOST_FRAMES = 6, 30  # a setting takes effect after two or three frames, and may be off in those before
# Conversions to RGB from libcamera's formats, which name the bytes from the last to the first
_CONVERSIONS = {
    "RGB888": cv2.COLOR_BGR2RGB,
    "XRGB8888": cv2.COLOR_BGRA2RGB,
    "XBGR8888": cv2.COLOR_RGBA2RGB,
    "YUV420": cv2.COLOR_YUV2RGB_I420,
    "YVU420": cv2.COLOR_YUV2RGB_YV12,
    "NV12": cv2.COLOR_YUV2RGB_NV12,
    "NV21": cv2.COLOR_YUV2RGB_NV21,
    "YUYV": cv2.COLOR_YUV2RGB_YUYV,
    "YVYU": cv2.COLOR_YUV2RGB_YVYU,
    "UYVY": cv2.COLOR_YUV2RGB_UYVY,
}


class PiCamera:
    """A camera of picamera2, configured once and running until it is closed.

    Parameters
    ----------
    number : int
        Which of the cameras; the first is 0.
    settings : Settings
    timeout_s : float
        How long a frame may take, in addition to its exposure.
    warn : callable
        Receives a line for what the camera refuses.
    """

    def __init__(self, number: int, settings: Settings, timeout_s: float, warn: Warn) -> None:
        self._warn = warn
        self._timeout_s = timeout_s + (settings.exposure_s or 0)
        picamera2 = _library()
        with _faults("cannot be opened"):
            if number >= len(picamera2.global_camera_info()):
                raise CameraFault("is not there: check its cable; 'rpicam-hello --list-cameras' lists the cameras")
            self._camera = picamera2(number)
        try:
            with _faults("cannot be started"):
                self._format, (width, height) = self._start(settings)
                time.sleep(settings.warm_up_s)
                self.settings = self._locked(settings)
        except BaseException:
            self.close()
            raise
        model = self._camera.camera_properties.get("Model", "camera")
        self.description = f"{model}, {width}×{height} {self._format}"

    def capture(self) -> Pixels:
        """Return the next frame."""
        with _faults("gave no image"):
            request = self._camera.capture_request(wait=self._timeout_s)
            try:
                array = request.make_array("main")
            finally:
                request.release()
        return to_rgb(array, self._format, self._camera.camera_configuration()["main"]["size"])

    def close(self) -> None:
        """Stop the camera, and free the device and its buffers."""
        try:
            with _faults("cannot be closed"):
                self._camera.close()
        finally:
            del self._camera
            # picamera2's objects refer to each other, and so keep contiguous memory until the next garbage collection
            gc.collect()

    def _start(self, settings: Settings) -> tuple[str, tuple[int, int]]:
        camera = self._camera
        main: dict[str, object] = {"format": "BGR888"}  # libcamera's name for bytes in the order of RGB
        if settings.size is not None:
            main["size"] = (settings.size[1], settings.size[0])
        # The whole field of view at any size: otherwise libcamera may choose a mode that crops
        raw = {"size": camera.sensor_resolution}
        # Without a queue, so that `capture` returns the next frame and not one kept since the last image
        camera.configure(camera.create_still_configuration(main=main, raw=raw, buffer_count=2, queue=False))
        got: dict[str, Any] = camera.camera_configuration()["main"]
        width, height = got["size"]
        if got["format"] not in (*_CONVERSIONS, "BGR888", "MJPEG"):
            raise InputError(f"the camera gives {got['format']}, which cannot be read: use another --size or camera")
        if settings.size is not None and settings.size != (height, width):
            wanted = f"{settings.size[1]}x{settings.size[0]}"
            self._warn(f"the camera has no size {wanted}: using {width}x{height}")
        camera.set_controls(self._controls(settings))
        camera.start()
        return got["format"], (width, height)

    def _controls(self, settings: Settings) -> dict[str, object]:
        """Return the settings as libcamera's controls, as far as the camera has them."""
        wanted: dict[str, object] = {}
        if settings.exposure_s is not None:
            wanted["ExposureTime"] = round(settings.exposure_s * 1e6)
        if settings.gain is not None:
            wanted["AnalogueGain"] = settings.gain
        if len(wanted) == 2:
            wanted["AeEnable"] = False
        if settings.awb is not None:
            wanted["AwbEnable"] = False
            wanted["ColourGains" if isinstance(settings.awb, tuple) else "ColourTemperature"] = settings.awb
        return {name: value for name, value in wanted.items() if name in self._camera.camera_controls}

    def _locked(self, settings: Settings) -> Settings:
        """Lock what the camera has found by itself, wait until its frames report it, and return it."""
        available = self._camera.camera_controls
        found = self._metadata()
        held = {name: found[name] for name in _LOCKS if name in available and name in found}
        refused = ", ".join(what for name, what in _LOCKS.items() if name not in held)
        if refused:
            self._warn(f"the camera does not let its {refused} be locked: counts may drift with the light")
        off = {name: False for name in ("AeEnable", "AwbEnable") if name in available}
        self._camera.set_controls(off | held)
        same = 0
        for _ in range(_MOST_FRAMES if held else 0):
            found = self._metadata()
            is_same = all(np.allclose(found.get(name, np.inf), value, rtol=0.01) for name, value in held.items())
            same = same + 1 if is_same else 0
            if same == _SAME_FRAMES:
                break
        else:
            if held:
                self._warn("the camera does not hold exposure, gain and white balance: counts may drift with the light")
        return dataclasses.replace(
            settings,
            exposure_s=held["ExposureTime"] * 1e-6 if "ExposureTime" in held else None,
            gain=held.get("AnalogueGain"),
            awb=tuple(held["ColourGains"]) if "ColourGains" in held else None,
        )

    def _metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self._camera.capture_metadata(wait=self._timeout_s)
        return metadata


def to_rgb(array: Pixels, form: str, size: tuple[int, int]) -> Pixels:
    """Return a frame from picamera2 as RGB.

    Parameters
    ----------
    array : ndarray of uint8
        In the layout of `form`; planes of YUV lie below each other, and rows may be padded.
    form : str
        The format's name, as in the camera's configuration once that is set.
    size : tuple of int
        (width, height) in pixels.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
    """
    width, height = size
    rgb = array if form not in _CONVERSIONS else cv2.cvtColor(np.ascontiguousarray(array), _CONVERSIONS[form])
    return np.ascontiguousarray(rgb[:height, :width, :3])


def _library() -> Any:
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")  # otherwise it logs every opening on standard error
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise InputError(
            f"picamera2 is not there ({error}): run 'sudo apt install python3-picamera2', and make the virtual "
            "environment with 'python3 -m venv --system-site-packages'; or choose another --source"
        ) from None
    except ValueError as error:  # one of its compiled parts was built for another NumPy
        raise InputError(
            f"picamera2 does not fit this NumPy ({error}): run 'pip install --upgrade simplejpeg'"
        ) from None
    return Picamera2


@contextmanager
def _faults(what: str) -> Iterator[None]:
    """Turn what libcamera and picamera2 raise into faults of the camera."""
    try:
        yield
    except TimeoutError:
        raise CameraFault(f"{what} in time") from None
    except (RuntimeError, OSError) as error:
        raise CameraFault(f"{what} ({str(error).strip() or type(error).__name__})") from None
