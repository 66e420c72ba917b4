"""The options for how cells are counted, the same for every command that counts; they become one `Counting`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cellseg_device.commands.option_types import Number
from cellseg_device.units import CHANNELS, PIXEL_SIZES_UM

if TYPE_CHECKING:
    from cellseg_device.cells.counting import Counting
    from cellseg_device.units import Length


def _length(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Length | None:
    from cellseg_device.units import parse_length

    return parse_length(value) if value else None


def _frame(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    from cellseg_device.cells.counting import parse_frame

    return parse_frame(value)


_OPTIONS = (
    click.option(
        "--pixel-size-um",
        type=Number(*PIXEL_SIZES_UM),
        metavar="UM",
        help="Edge of a pixel in micrometres.  [default: what the image file says]",
    ),
    click.option(
        "--objective", metavar="NAME", help="Use the pixel size that 'calibrate' saved for this objective, as 40x."
    ),
    click.option(
        "--channel",
        type=click.Choice(CHANNELS),
        help="Channel of colour images in which to look for cells, if the others show other stains. Intensities are "
        "measured in all.  [default: the image as it is]",
    ),
    click.option(
        "--diameter",
        metavar="LENGTH",
        callback=_length,
        help="Diameter of your cells, as 12um or 40px: images are scaled to the size the model knows.  "
        "[default: no scaling, unless cells turn out to be much larger]",
    ),
    click.option(
        "--min-diameter", metavar="LENGTH", callback=_length, help="Leave out smaller cells: a length as 5um or 15px."
    ),
    click.option("--max-diameter", metavar="LENGTH", callback=_length, help="Leave out larger cells."),
    click.option(
        "--region",
        metavar="REGION",
        help="Look only here, and count the cells whose centre lies inside: rectangle:TOP,LEFT,HEIGHT,WIDTH or "
        "circle:ROW,COL,RADIUS in pixels, circle (the largest that fits), whole, or a mask image.  [default: the whole "
        "image, without a dark or bright surround of the field of view]",
    ),
    click.option(
        "--frame",
        metavar="EDGES",
        callback=_frame,
        default="top,left",
        show_default=True,
        help="Counting frame: cells that touch these edges of the image (or none) are not in count_in_frame.",
    ),
    click.option(
        "--depth-mm",
        type=Number(1e-5, 1e3),
        metavar="MM",
        help="Depth of the counting chamber (0.1 in a Neubauer): gives cells per mL.",
    ),
    click.option(
        "--dilution",
        type=Number(1, 1e9),
        default=1.0,
        metavar="FACTOR",
        help="Dilution of the sample in the chamber: 2 for one part in two.",
    ),
)


def counting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add these options to a command, which gets them as the argument `counting`."""

    @wraps(command)
    def with_counting(*arguments: Any, **options: Any) -> Any:
        own = {name: options.pop(name) for name in _NAMES}
        return command(*arguments, counting=_counting(**own), **options)

    decorated: Callable[..., Any] = with_counting
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_NAMES = (
    "pixel_size_um",
    "objective",
    "channel",
    "diameter",
    "min_diameter",
    "max_diameter",
    "region",
    "frame",
    "depth_mm",
    "dilution",
)


def _counting(
    *,
    pixel_size_um: float | None,
    objective: str | None,
    channel: str | None,
    diameter: Length | None,
    min_diameter: Length | None,
    max_diameter: Length | None,
    region: str | None,
    frame: tuple[str, ...],
    depth_mm: float | None,
    dilution: float,
) -> Counting:
    from cellseg_device.calibration import store
    from cellseg_device.cells import region as regions
    from cellseg_device.cells.counting import Counting
    from cellseg_device.errors import InputError

    if objective is not None and pixel_size_um is not None:
        # One of them on the command line replaces the other in a settings file
        source_of = click.get_current_context().get_parameter_source
        typed = [source_of(name) == ParameterSource.COMMANDLINE for name in ("objective", "pixel_size_um")]
        if typed[0] == typed[1]:
            raise InputError("--pixel-size-um and --objective both give the pixel size: leave one of them out")
        objective = objective if typed[0] else None
    if objective is not None:
        pixel_size_um = store.pixel_size_um(objective)
    least, most = min_diameter, max_diameter
    if least and most and least.unit == most.unit and least.value > most.value:
        raise InputError(
            f"--min-diameter {least.value:g}{least.unit} is above --max-diameter {most.value:g}{most.unit}, so that no "
            "cell would be left: correct one of them"
        )
    return Counting(
        pixel_size_um=pixel_size_um,
        channel=channel,
        diameter=diameter,
        min_diameter=min_diameter,
        max_diameter=max_diameter,
        region=regions.parse(region) if region else None,
        frame=frame,
        depth_mm=depth_mm,
        dilution=dilution,
    )
