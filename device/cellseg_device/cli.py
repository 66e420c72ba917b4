"""The command line: each command has a file of its own in `cellseg_device.commands`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

import cellseg_device
from cellseg_device.command_line import Group
from cellseg_device.commands.bench import bench
from cellseg_device.commands.calibrate import calibrate
from cellseg_device.commands.camera import camera
from cellseg_device.commands.config import config
from cellseg_device.commands.config_file import config_option
from cellseg_device.commands.corrections import corrections
from cellseg_device.commands.doctor import doctor
from cellseg_device.commands.export import export
from cellseg_device.commands.info import info
from cellseg_device.commands.install_service import install_service
from cellseg_device.commands.ledger import ledger
from cellseg_device.commands.recount import recount
from cellseg_device.commands.run import run
from cellseg_device.commands.serve import serve
from cellseg_device.commands.snap import snap
from cellseg_device.commands.summary import summary
from cellseg_device.commands.tune import tune
from cellseg_device.commands.watch import watch
from cellseg_device.errors import EXIT_STOPPED, EXIT_USAGE
from cellseg_device.stderr import drop_pending_output, is_of_printing, say, say_error


class _Commands(Group):
    """Commands that end with one line if they are stopped, or if their output cannot be written, as on a full disk."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _stopped_in_one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _stopped_in_one_line():
            return super().invoke(ctx)

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            if not is_of_printing(error):
                raise  # a bug
            drop_pending_output()
            with suppress(OSError):
                say_error(f"standard output cannot be written ({error.strerror}): send it elsewhere")
            raise SystemExit(EXIT_USAGE) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(cellseg_device.__version__, prog_name="cellseg-device")
def main() -> None:
    """Segment and count cells in microscope images, on this computer, offline.

    Results go to a folder: counts.csv with a row for each image, and for every image STEM.labels.tif (a number for
    each cell), STEM.cells.csv (a row for each cell) and, on request, a picture and files for ImageJ, QuPath and others.

    Exit codes: 0 all is well, 1 some images failed, 2 the command cannot work as given, 3 the camera failed.
    """
    _open_standard_streams()


main.add("Count", map(config_option, (run, watch, camera)))
main.add("Results", (summary, export, recount, serve, ledger))
main.add("Model", (corrections, tune))
main.add("Microscope and camera", (calibrate, config_option(snap)))
main.add("This computer", (doctor, config, install_service, info, config_option(bench)))


@contextmanager
def _stopped_in_one_line() -> Iterator[None]:
    """End the process on Ctrl-C, in what does not stop by itself as a watch does."""
    try:
        yield
    except KeyboardInterrupt:
        if sys.stderr is not None and sys.stderr.isatty():
            say("")  # ends the line with ^C, or with the progress
        say("stopped: what was finished stays")
        raise SystemExit(EXIT_STOPPED) from None


def _open_standard_streams() -> None:
    """Open those of the three streams that the caller closed.

    Otherwise a file of ours would get the number of one, and with it the messages that native code prints.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
