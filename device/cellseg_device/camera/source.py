"""What every source of images is to the rest: it is opened, gives arrays, says what it is, and is closed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[Any]
Warn: TypeAlias = Callable[[str], None]


class CameraFault(Exception):  # noqa: N818, since CameraError is what the user is told
    """No image came; one may come when the camera is opened again. The text goes on from the camera's name."""


class EndOfImages(Exception):  # noqa: N818, since it is no error
    """A source that is played, a video file or a folder, has given its last image."""


@dataclass(frozen=True)
class Settings:
    """How a camera is to take images; None is left to the camera, until it is locked after the warm-up.

    Attributes
    ----------
    size : tuple of int or None
        (height, width) in pixels; None for the camera's largest.
    exposure_s : float or None
    gain : float or None
        A factor for picamera2, a number of the driver's own for a USB camera.
    awb : tuple of float or int or None
        Gains of red and blue, or a colour temperature in kelvin.
    warm_up_s : float
        How long automatic exposure and white balance may settle.
    """

    size: tuple[int, int] | None = None
    exposure_s: float | None = None
    gain: float | None = None
    awb: tuple[float, float] | int | None = None
    warm_up_s: float = 2.0

    @property
    def options(self) -> str:
        """The locked values as options of a command; empty where nothing is locked."""
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


class Camera(Protocol):
    """A source that is open.

    Attributes
    ----------
    description : str
        What it is, for the user.
    settings : Settings
        Those that were asked for, and in place of None those that were found and locked: a camera that is opened with
        them gives the same images again.
    """

    description: str
    settings: Settings

    def capture(self) -> Pixels:
        """Take one image, exposed after the call or just before it.

        Returns
        -------
        ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)
            Grey or RGB.

        Raises
        ------
        CameraFault
            If none came.
        EndOfImages
            If it is played to its end.
        """

    def close(self) -> None:
        """Let go of the device and its memory."""


Opener: TypeAlias = Callable[[Settings], Camera]
"""Opens a source; raises CameraFault where that may succeed later, InputError where it never will."""


def warn_of_unused(settings: Settings, what: str, warn: Warn) -> Settings:
    """Tell of settings that this kind of source does not have; returns the settings without them."""
    unused = [
        f"--{name.removesuffix('_s')}"
        for name in ("size", "exposure_s", "gain", "awb")
        if getattr(settings, name) is not None
    ]
    if unused:
        warn(f"{what} cannot be set: {', '.join(unused)} left out")
    return dataclasses.replace(settings, size=None, exposure_s=None, gain=None, awb=None)
