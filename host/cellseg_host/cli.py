"""The command line: each command has a file of its own in `cellseg_host.commands`."""

from __future__ import annotations

import errno
import os
from typing import Any

import click

from cellseg_device.command_line import Group
from cellseg_device.errors import OutputError
from cellseg_host import __version__
from cellseg_host.commands.adapt import adapt
from cellseg_host.commands.architectures import architectures
from cellseg_host.commands.average import average
from cellseg_host.commands.compare import compare
from cellseg_host.commands.data import data
from cellseg_host.commands.edgetpu import edgetpu
from cellseg_host.commands.evaluate import evaluate
from cellseg_host.commands.quantize import quantize
from cellseg_host.commands.sweep import sweep
from cellseg_host.commands.synth import synth
from cellseg_host.commands.train import train


class _Commands(Group):
    """A group whose commands report any fault of the disk in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None or error.strerror is None:
                raise
            raise OutputError(f"{error.filename}: {error.strerror}: check the path and the disk") from None
        except Exception as error:
            if os.strerror(errno.ENOSPC) not in str(error):  # TensorFlow's error when it cannot save a checkpoint
                raise
            raise OutputError(
                "no space is left on the disk: make room, then run the command again (train: with --resume)"
            ) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cellseg-host")
def main() -> None:
    """Make the models that cellseg-device runs: import data, train, quantize, evaluate, compare.

    \b
    From the DSB2018 download to a model for the Pi:
      cellseg-host data import --format dsb2018 stage1_train nuclei-data
      cellseg-host train nuclei-data --out runs/nuclei
      cellseg-host quantize runs/nuclei --int8 --data nuclei-data --out nuclei.tflite
      cellseg-host evaluate nuclei.tflite nuclei-data --split test

    Exit codes: 0 success, 1 the answer is no or incomplete (images left out, a model too much worse or not better, an
    operator that an Edge TPU does not support), 2 the command cannot work as given.
    """


main.add("Data", (data, synth))
main.add("Train", (adapt, architectures, train, average, sweep))
main.add("Deploy", (quantize, edgetpu))
main.add("Measure", (evaluate, compare))
