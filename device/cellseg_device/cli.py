"""The command line: each command has a file of its own in `cellseg_device.commands`."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import click

import cellseg_device
from cellseg_device.commands.bench import bench
from cellseg_device.commands.calibrate import calibrate
from cellseg_device.commands.camera import camera
from cellseg_device.commands.config import config
from cellseg_device.commands.doctor import doctor
from cellseg_device.commands.export import export
from cellseg_device.commands.info import info
from cellseg_device.commands.install_service import install_service
from cellseg_device.commands.ledger import ledger
from cellseg_device.commands.run import run
from cellseg_device.commands.snap import snap
from cellseg_device.commands.summary import summary
from cellseg_device.commands.watch import watch
from cellseg_device.errors import EXIT_USAGE
from cellseg_device.quiet import drop_pending_output, is_of_printing, say
from cellseg_device.settings import config_option


class _Commands(click.Group):
    """Ends with a line, too, where what it prints cannot be written, on a full disk say."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            if not is_of_printing(error):
                raise  # a bug
            drop_pending_output()
            with suppress(OSError):
                say(f"error: standard output cannot be written ({error.strerror}): send it elsewhere")
            raise SystemExit(EXIT_USAGE) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(cellseg_device.__version__, prog_name="cellseg-device")
def main() -> None:
    """Segment and count cells in microscope images, on this computer, offline.

    Results go to a folder: counts.csv with a row per image, and for every image STEM.labels.tif (a number per
    cell), STEM.cells.csv (a row per cell) and, where wanted, a picture and files for ImageJ, QuPath and others.

    Exit codes: 0 all well, 1 some images failed, 2 the command cannot work as given, 3 the camera failed.
    """
    _open_standard_streams()


for command in (run, watch, camera, snap, bench):
    main.add_command(config_option(command))
for command in (export, summary, ledger, calibrate, info, config, doctor, install_service):
    main.add_command(command)


def _open_standard_streams() -> None:
    """Open what of the three the caller closed: else a file of ours takes its number, and native code's messages."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
