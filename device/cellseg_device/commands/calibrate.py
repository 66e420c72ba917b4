"""``cellseg-device calibrate``: the pixel size of an objective, from a stage micrometer or by number."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cellseg_device.command_line import Command
from cellseg_device.commands.common import PATH
from cellseg_device.commands.option_types import Number
from cellseg_device.units import PIXEL_SIZES_UM


@click.command(cls=Command, short_help="Save the pixel size of an objective.")
@click.argument("name", required=False)
@click.argument("image", type=PATH, required=False)
@click.option(
    "--division-um",
    type=Number(*PIXEL_SIZES_UM),
    metavar="UM",
    default=10.0,
    show_default=True,
    help="Distance between two neighbouring lines of the stage micrometer.",
)
@click.option(
    "--pixel-size-um", type=Number(*PIXEL_SIZES_UM), metavar="UM", help="Save this pixel size instead of using IMAGE."
)
@click.option("--picture", type=PATH, help="Write IMAGE with the lines marked that were found, for checking.")
@click.option("--file", "path", type=PATH, help="Where to save it.  [default: ~/.config/cellseg/calibrations.toml]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def calibrate(
    *,
    name: str | None,
    image: Path | None,
    division_um: float,
    pixel_size_um: float | None,
    picture: Path | None,
    path: Path | None,
    as_json: bool,
) -> None:
    """Save the pixel size of an objective, for --objective NAME of the other commands.

    IMAGE shows a stage micrometer, in focus, with its lines in any direction. Without NAME, the saved calibrations are
    listed. A service looks for calibrations in /etc/cellseg/calibrations.toml.

    \b
    Examples:
      cellseg-device calibrate 40x micrometer.png --picture check.png
      cellseg-device calibrate 10x --pixel-size-um 0.65
      cellseg-device calibrate
      cellseg-device run field.png --objective 40x
    """
    from cellseg_device.calibration import store

    path = path or store.users_path()
    if name is None:
        _show(store.read(path), path, as_json=as_json)
        return
    if (image is None) == (pixel_size_um is None):
        raise click.UsageError("name an IMAGE of a stage micrometer, or give --pixel-size-um")
    found: dict[str, object] = {"name": name, "pixel_size_um": pixel_size_um, "file": str(path)}
    if image is not None:
        found |= _measured(image, division_um, picture)
    assert isinstance(found["pixel_size_um"], float)
    store.save(path, name, found["pixel_size_um"])
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if image is not None:
        click.echo(f"{found['divisions']} divisions of {found['spacing_px']:.2f} px, at {found['angle_deg']:.1f}°")
    click.echo(f"{name}: {found['pixel_size_um']:.6g} µm per pixel, saved in {path}")


def _measured(image: Path, division_um: float, picture: Path | None) -> dict[str, object]:
    import cv2

    from cellseg_device.calibration import micrometer
    from cellseg_device.errors import NO_MEMORY, ImageError, InputError
    from cellseg_device.image.sandbox import Decoder
    from cellseg_device.system import files

    try:
        with Decoder() as decoder:
            pixels = decoder.decode(image)[1].pixels
        lines = micrometer.find_lines(pixels)
    except OSError as error:
        raise InputError(f"{image}: cannot be read ({error.strerror}): check its path") from None
    except MemoryError:
        raise InputError(f"{image}: {NO_MEMORY}") from None
    except ImageError as error:
        raise InputError(f"{image}: {error.message}") from None
    if picture is not None:
        if picture.exists() and picture.samefile(image):
            raise InputError(f"{picture} is the image itself: choose another --picture")
        drawn = cv2.cvtColor(micrometer.draw_lines(pixels, lines), cv2.COLOR_RGB2BGR)
        try:
            _, data = cv2.imencode(picture.suffix, drawn)
            files.write(picture, bytes(data))
        except cv2.error:
            raise InputError(f"{picture} does not name a picture: let it end in .png or .jpg") from None
        except OSError as error:
            raise InputError(f"{picture} cannot be written ({error.strerror}): choose another --picture") from None
    return {
        "pixel_size_um": division_um / lines.spacing_px,
        "spacing_px": lines.spacing_px,
        "angle_deg": lines.angle_deg,
        "divisions": lines.count,
    }


def _show(sizes: dict[str, float], path: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(sizes, indent=2, ensure_ascii=False))
    elif not sizes:
        click.echo(f"no calibration in {path} yet")
    for name, size in sizes.items() if not as_json else ():
        click.echo(f"{name}: {size:.6g} µm per pixel")
