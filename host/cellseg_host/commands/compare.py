"""The command ``cellseg-host compare``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cellseg_device.command_line import Command, section


@click.command(cls=Command, short_help="Compare models side by side in a report.")
@click.argument("models", metavar="MODEL…", nargs=-1, required=True, type=click.Path(path_type=Path))
@section(
    "Data and report",
    click.option("--data", "dataset", type=click.Path(path_type=Path, file_okay=False), required=True, help="Dataset."),
    click.option("--split", default="test", show_default=True, help="Images to compare on."),
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("report"),
        show_default=True,
        help="Folder of the report, new or empty.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
)
@section(
    "Time",
    click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads of each network."),
    click.option(
        "--runs", type=click.IntRange(3), default=20, show_default=True, help="Timed runs on each field, at most."
    ),
)
@section(
    "Statistics",
    click.option(
        "--resamples",
        type=click.IntRange(1000),
        default=2000,
        show_default=True,
        help="Bootstrap resamples for the intervals.",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the resamples."),
    click.option(
        "--threshold",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.5,
        show_default=True,
        help="Classifiers: probability from which an image counts as having cells.",
    ),
)
def compare(*, models: tuple[Path, ...], dataset: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Compare models side by side and write a report.

    Each MODEL is a .tflite file or the folder of a training run, which is compared as its float32 model with thresholds
    chosen on DATASET's val split. Differences are from the first model. Every model scores every image once, with the
    code of the device; then the models take turns on the same fields to measure their times.

    The folder --out gets index.html, a single file with all charts and pictures, scores.csv (a row for each model and
    image), models.csv, latency.csv and summary.json.

    \b
    Examples:
      cellseg-host compare nuclei.tflite runs/unet runs/edge-unet --data nuclei-data --out report
      cellseg-host compare a.tflite b.tflite --data nuclei-data --split val --json | jq '.models[].accuracy.all.ap50'
    """
    import tempfile

    from cellseg_host.commands.console import ERR, bar, print_table
    from cellseg_host.data.dataset import load
    from cellseg_host.data.whole_folder import check_new, check_place
    from cellseg_host.report import contenders, write
    from cellseg_host.report.build import build
    from cellseg_host.report.settings import Settings

    check_new(out, "choose a new folder for --out")
    check_place(out)
    loaded, settings = load(dataset), Settings(**options)
    loaded.labelled(settings.split)  # fails at once if it is empty
    with tempfile.TemporaryDirectory(prefix="cellseg-compare-") as folder:
        with ERR.status("opening") as status:
            opened = contenders.open_all(models, loaded, Path(folder), status.update)
        with bar() as progress:

            def track(what: str, steps: int) -> Callable[[], None]:
                task = progress.add_task(what, total=steps)
                return lambda: progress.advance(task)

            report = build(opened, loaded, settings, track)
    write.write(out, report)
    if as_json:
        click.echo(write.json_bytes(report.document), nl=False)
        return
    rows = [list(row.values()) for row in report.printed]
    print_table(f"{loaded.root.resolve().name}, split {settings.split}", list(report.printed[0]), rows)
    click.echo(f"report: {out / write.PAGE}")
