"""How much each random change may alter a view of a training image."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from cellseg_device.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; (1, 1) or 0 turns one off.

    Attributes
    ----------
    scale : tuple of float
        Magnification, drawn log-uniformly.
    stretch : float
        Largest difference in magnification between the axes, as a share.
    rotate : bool
        Any angle, and mirror images.
    contrast, gamma : tuple of float
        Factor around the mean level; exponent on levels in 0…1.
    brightness : float
        Largest shift, as a share of the range.
    colour, saturation : float
        Largest change of a channel's gain, and of saturation, as a share; colour images only.
    hue : float
        Largest turn of the hue, as a share of the full circle; colour images only.
    stain : float
        Strength, 0 to 1, of changes of the stain in optical density (`augment.stain`): dyes' amounts and colours, other
        dyes, a yellow or grey ground; colour images on a bright ground only.
    blur_px : float
        Largest standard deviation of a Gaussian blur.
    noise : float
        Largest standard deviation of Gaussian noise, as a share of the range.
    invert : float
        Probability that a view is inverted.
    grey : float
        Probability that a colour view loses its colour.
    tint : float
        Probability that a grey view is shown in one colour, black staying black: as a fluorescent dye's.
    elastic_px : float
        Largest displacement of a pixel by a smooth random field.
    grid : float
        Largest change in width of a row or column of a 5 × 5 grid over the view, as a share.
    optical : float
        Largest barrel or pincushion distortion: shift of a corner, as a share of its distance from the centre.
    probability : float
        Share of the views that are blurred; that get noise; and that get each of the three distortions.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    scale: tuple[float, float] = (0.6, 1.8)
    stretch: float = 0.15
    rotate: bool = True
    contrast: tuple[float, float] = (0.6, 1.3)
    gamma: tuple[float, float] = (0.6, 1.6)
    brightness: float = 0.1
    colour: float = 0.12
    saturation: float = 0.24
    hue: float = 0.0
    stain: float = 0.0
    blur_px: float = 1.5
    noise: float = 0.06
    invert: float = 0.03
    grey: float = 0.1
    tint: float = 0.0
    elastic_px: float = 0.0
    grid: float = 0.0
    optical: float = 0.0
    probability: float = 1 / 3

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check(item.name, getattr(self, item.name))


# Largest value of each; with a stronger distortion of one kind a view would fold over itself
_AT_MOST = {
    "stretch": 0.9,
    "brightness": 1.0,
    "colour": 1.0,
    "saturation": 1.0,
    "hue": 0.5,
    "stain": 1.0,
    "blur_px": 50.0,
    "noise": 1.0,
    "invert": 1.0,
    "grey": 1.0,
    "tint": 1.0,
    "elastic_px": 8.0,
    "grid": 0.9,
    "optical": 0.3,
    "probability": 1.0,
}
_RANGES = {"scale": 0.05, "contrast": 0.0, "gamma": 0.05}  # smallest value of each
_RANGES_END = 20.0


def _check(name: str, value: Any) -> None:
    if name in _AT_MOST:
        if not _is_number(value) or not 0 <= value <= _AT_MOST[name]:
            raise InputError(f"augmentation '{name}' must be a number from 0 to {_AT_MOST[name]:g}, not {value!r}")
    elif name in _RANGES:
        low, high = _RANGES[name], _RANGES_END
        whole = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
        if not whole or not low <= value[0] <= value[1] <= high:
            raise InputError(
                f"augmentation '{name}' must be two numbers, the smaller first, from {low:g} to {high:g}, not {value!r}"
            )
    elif not isinstance(value, bool):
        raise InputError(f"augmentation '{name}' must be true or false, not {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


NONE = Augmentation(
    scale=(1, 1),
    stretch=0,
    rotate=False,
    contrast=(1, 1),
    gamma=(1, 1),
    brightness=0,
    colour=0,
    saturation=0,
    hue=0,
    stain=0,
    blur_px=0,
    noise=0,
    invert=0,
    grey=0,
    tint=0,
)
