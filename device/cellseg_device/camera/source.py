"""The protocol of image sources: each is opened, returns arrays, describes itself, and is closed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[Any]
Warn: TypeAlias = Callable[[str], None]


class CameraFault(Exception):  # noqa: N818, since CameraError is the error for the user
    """No image came, but one may when the camera is opened again. The message continues "the camera …"."""


class EndOfImages(Exception):  # noqa: N818, since it is not an error
    """A video file or a folder has no more images."""


@dataclass(frozen=True)
class Settings:
    """How a camera takes images; None leaves a value to the camera, until it is locked after the warm-up.

    Attributes
    ----------
    size : tuple of int or None
        (height, width) in pixels; None for the camera's largest.
    exposure_s : float or None
    gain : float or None
        A factor for picamera2, a number with a meaning of the driver's own for a USB camera.
    awb : tuple of float or int or None
        Gains of red and blue, or a colour temperature in kelvin.
    warm_up_s : float
        Time for automatic exposure and white balance to settle.
    """

    size: tuple[int, int] | None = None
    exposure_s: float | None = None
    gain: float | None = None
    awb: tuple[float, float] | int | None = None
    warm_up_s: float = 2.0

    @property
    def options(self) -> str:
        """The locked values as options of a command; empty if nothing is locked."""
        parts = []
        if self.exposure_s is not None:
            parts.append(f"--exposure {self.exposure_s * 1e3:.6g}ms")
        if self.gain is not None:
            parts.append(f"--gain {self.gain:.4g}")
        if isinstance(self.awb, tuple):
            parts.append(f"--awb {self.awb[0]:.4g},{self.awb[1]:.4g}")
        elif self.awb is not None:
            parts.append(f"--awb {self.awb}K")
        return " ".join(parts)


@dataclass(frozen=True)
class Place:
    """A source that OpenCV opens.

    Attributes
    ----------
    kind : str
        ``"usb"``, ``"stream"`` or ``"video"``.
    where : str
        The number or path of a device, the address of a stream, or the path of a video.
    timeout_s : float
        How long connecting, and waiting for an image, may take.
    """

    kind: str
    where: str
    timeout_s: float


class Camera(Protocol):
    """An open source.

    Attributes
    ----------
    description : str
        Description for the user.
    settings : Settings
        The given settings, and in place of None those that were found and locked: opened with them, a camera gives the
        same images again.
    """

    description: str
    settings: Settings

    def capture(self) -> Pixels:
        """Return one image, exposed after the call or just before it.

        Returns
        -------
        ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)
            Grey or RGB.

        Raises
        ------
        CameraFault
            If none came.
        EndOfImages
            If a video file or a folder is at its end.
        """

    def close(self) -> None:
        """Free the device and its memory."""


Opener: TypeAlias = Callable[[Settings], Camera]
"""Opens a source; raises CameraFault if that may succeed later, InputError if it never will."""


def warn_of_unused(settings: Settings, what: str, warn: Warn) -> Settings:
    """Return the settings without those that this kind of source does not have, and warn of each of them."""
    unused = [
        f"--{name.removesuffix('_s')}"
        for name in ("size", "exposure_s", "gain", "awb")
        if getattr(settings, name) is not None
    ]
    if unused:
        warn(f"{what} cannot be set: {', '.join(unused)} left out")
    return dataclasses.replace(settings, size=None, exposure_s=None, gain=None, awb=None)
