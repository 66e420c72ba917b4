"""The options that say how cells are counted, the same for every command that counts; they become one `Counting`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cellseg_device.options import CHANNELS, PIXEL_SIZES_UM, Number

if TYPE_CHECKING:
    from cellseg_device.counting import Counting, Length


def _length(context: click.Context, parameter: click.Parameter, value: str | None) -> Length | None:
    from cellseg_device.counting import parse_length

    return parse_length(value) if value else None


def _frame(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    from cellseg_device.counting import parse_frame

    return parse_frame(value)


_OPTIONS = (
    click.option(
        "--pixel-size-um",
        type=Number(*PIXEL_SIZES_UM),
        metavar="UM",
        help="Edge of a pixel in micrometres.  [default: what the image file says]",
    ),
    click.option("--calibration", metavar="NAME", help="Take the pixel size that 'calibrate' saved under this name."),
    click.option(
        "--channel",
        type=click.Choice(CHANNELS),
        help="Of colour images, the one that shows the cells, where others show other stains. All are measured.  "
        "[default: the image as it is]",
    ),
    click.option(
        "--diameter",
        metavar="LENGTH",
        callback=_length,
        help="Of your cells, as 12um or 40px: images are scaled to the size the model knows. "
        "[default: as they are, or smaller where cells turn out to be much larger]",
    ),
    click.option("--min-diameter", metavar="LENGTH", callback=_length, help="Leave smaller cells out, as 5um or 15px."),
    click.option("--max-diameter", metavar="LENGTH", callback=_length, help="Leave larger cells out."),
    click.option(
        "--region",
        metavar="REGION",
        help="Count the cells whose centre lies inside: rectangle:TOP,LEFT,HEIGHT,WIDTH or circle:ROW,COL,RADIUS in "
        "pixels, circle (the largest), or a mask image.",
    ),
    click.option(
        "--frame",
        metavar="EDGES",
        callback=_frame,
        default="top,left",
        show_default=True,
        help="Counting frame: cells that touch these edges of the image are not in count_in_frame; or none.",
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
        help="Of the sample in the chamber: 2 for one part in two.",
    ),
)


def counting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as the argument `counting`."""

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
    "calibration",
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
    pixel_size_um: float | None,
    calibration: str | None,
    channel: str | None,
    diameter: Length | None,
    min_diameter: Length | None,
    max_diameter: Length | None,
    region: str | None,
    frame: tuple[str, ...],
    depth_mm: float | None,
    dilution: float,
) -> Counting:
    from cellseg_device import calibrations
    from cellseg_device import region as regions
    from cellseg_device.counting import Counting
    from cellseg_device.errors import InputError

    if calibration is not None and pixel_size_um is not None:
        # On the command line one of them stands in for the other in a file of settings
        source_of = click.get_current_context().get_parameter_source
        typed = [source_of(name) == ParameterSource.COMMANDLINE for name in ("calibration", "pixel_size_um")]
        if typed[0] == typed[1]:
            raise InputError("--pixel-size-um and --calibration say the same twice: give one of them")
        calibration = calibration if typed[0] else None
    if calibration is not None:
        pixel_size_um = calibrations.pixel_size_um(calibration)
    least, most = min_diameter, max_diameter
    if least and most and least.unit == most.unit and least.value > most.value:
        raise InputError(
            f"--min-diameter {least.value:g}{least.unit} is above --max-diameter {most.value:g}{most.unit}: "
            "no cell would be left"
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
