"""The command ``cellseg-host average``."""

from __future__ import annotations

from pathlib import Path

import click

from cellseg_device.command_line import Command


@click.command(cls=Command, short_help="Make a run of the mean weights of several.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the new run.")
def average(runs: tuple[Path, ...], out: Path) -> None:
    """Make a run whose weights are the mean of those of several RUNs.

    If the runs started from the same network, with different seeds or augmentation, the mean is often better than each
    of them and costs no more to run. If they started from different networks, the mean is useless.

    \b
    Examples:
      cellseg-host train nuclei-data --init runs/nuclei --seed 1 --out runs/one
      cellseg-host train nuclei-data --init runs/nuclei --seed 2 --out runs/two
      cellseg-host average runs/one runs/two --out runs/mean
      cellseg-host quantize runs/mean --int8 --data nuclei-data --out mean.tflite
    """
    from cellseg_host.data.whole_folder import check_new, check_place
    from cellseg_host.tensorflow_quietly import import_tensorflow

    check_new(out, "choose another --out")
    check_place(out)
    import_tensorflow()
    from cellseg_host.training.averaging import mean_run
    from cellseg_host.training.runs import open_run

    mean_run([open_run(run) for run in runs], out)
    click.echo(f"{out}: the mean of {len(runs)} runs")
