"""The command ``cellseg-host average``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the new run.")
def average(runs: tuple[Path, ...], out: Path) -> None:
    """Make a run whose weights are the mean of those of several RUNs.

    Of runs that went on from the same network, with other seeds or augmentation, the mean is often better than any of
    them and costs no more to run. Of runs that started apart it is worth nothing.

    \b
    Examples:
      cellseg-host train nuclei-data --init runs/nuclei --seed 1 --out runs/one
      cellseg-host train nuclei-data --init runs/nuclei --seed 2 --out runs/two
      cellseg-host average runs/one runs/two --out runs/mean
      cellseg-host quantize runs/mean --int8 --data nuclei-data --out mean.tflite
    """
    from cellseg_host.tensorflow_quietly import import_tensorflow

    import_tensorflow()
    from cellseg_host.averaging import mean_run
    from cellseg_host.runs import open_run

    mean_run([open_run(run) for run in runs], out)
    click.echo(f"{out}: the mean of {len(runs)} runs")
