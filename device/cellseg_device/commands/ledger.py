"""``cellseg-device ledger``: check the record of what has been done, or make it anew."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cellseg_device.commands.common import PATH
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, InputError
from cellseg_device.quiet import say


@click.group()
def ledger() -> None:
    """Check the ledger of an output folder, or make it anew from the files there.

    The ledger, cellseg.sqlite, says which image has been done, and what its files were when they were written.

    \b
    Examples:
      cellseg-device ledger verify cellseg-results
      cellseg-device ledger rebuild cellseg-results --originals /captures
    """


@ledger.command()
@click.argument("out", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def verify(out: Path, as_json: bool) -> None:
    """Compare every result file in the folder OUT with its digest in the ledger, and the tables with it.

    Nothing is changed, and it can be done beside a running watch. Exit code 1 if something is not as it was written.

    \b
    Examples:
      cellseg-device ledger verify cellseg-results
      cellseg-device ledger verify /results --json
    """
    from cellseg_device import audit as audits

    _check_folder(out)
    with _progress("verifying") as step:
        audit = audits.verify(out, step)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(audit), indent=2, ensure_ascii=False))
    else:
        for problem in audit.problems:
            say(problem)
        notes = [f"{audit.unknown} images were done by an older version without digests"] if audit.unknown else []
        notes += [f"{len(audit.strays)} result files belong to no image of the ledger"] if audit.strays else []
        state = f"{len(audit.problems)} problems" if audit.problems else "all as written"
        click.echo("; ".join([f"{audit.images} images, {audit.files} files: {state}", *notes]))
    raise SystemExit(EXIT_IMAGES_FAILED if audit.problems else 0)


@ledger.command()
@click.argument("out", type=PATH)
@click.option(
    "--originals",
    type=PATH,
    help="The folder that was watched: what has not changed there is not counted again.  [default: the one OUT is in]",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def rebuild(out: Path, originals: Path | None, as_json: bool) -> None:
    """Make the ledger of the folder OUT anew, from its tables of counts and its label images.

    A former ledger is kept beside it. An image whose files do not bear its row out is left out, and counted again by
    the next 'run' or 'watch'; so are images that failed. Where rows are left out the exit code is 1, and the former
    counts.csv is kept, as counts-1.csv or the next number that is free.

    \b
    Examples:
      cellseg-device ledger rebuild cellseg-results
      cellseg-device ledger rebuild /results --originals /captures
    """
    from cellseg_device import rebuild as rebuilding
    from cellseg_device.output import Output

    _check_folder(out)
    with _progress("reading") as step:
        rebuilt = rebuilding.rebuild(out, originals, step)
    output = Output(out, lambda line: say(f"warning: {line}"))
    output.open()  # which makes the tables say what the ledger says
    output.close()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(rebuilt), indent=2, ensure_ascii=False))
    else:
        for line in rebuilt.left_out:
            say(f"left out {line}")
        kept = f"; the former ledger is kept as {rebuilt.aside}" if rebuilt.aside else ""
        kept += f"; the former counts.csv is kept as {rebuilt.counts_aside}" if rebuilt.counts_aside else ""
        click.echo(f"{rebuilt.images} images in the ledger, {len(rebuilt.left_out)} left out{kept}")
    raise SystemExit(EXIT_IMAGES_FAILED if rebuilt.left_out else EXIT_OK)


def _check_folder(out: Path) -> None:
    if not out.is_dir():
        raise InputError(f"{out} is no folder of results: check the path")


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal; yields what is called after each step with the number of all."""
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def step(total: int) -> None:
            bar.length = total
            bar.update(1)

        yield step
