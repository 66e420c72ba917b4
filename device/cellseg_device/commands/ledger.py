"""``cellseg-device ledger``: check the record of what has been counted, or rebuild it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Group
from cellseg_device.commands.common import PATH, results_argument
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, InputError
from cellseg_device.stderr import say, say_warning
from cellseg_device.units import plural

if TYPE_CHECKING:
    from cellseg_device.results.audit import Audit


@click.group(cls=Group, short_help="Check the record of what has been counted, or rebuild it.")
def ledger() -> None:
    """Check the ledger of an output folder, or rebuild it from the files there.

    The ledger, cellseg.sqlite, records which images have been counted, and digests of their files. RESULTS may also be
    the folder that was watched, if the results are in cellseg-results there.

    \b
    Examples:
      cellseg-device ledger verify cellseg-results
      cellseg-device ledger rebuild cellseg-results --originals /captures
    """


@ledger.command()
@results_argument
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def verify(*, out: Path, as_json: bool) -> None:
    """Compare every result file in the folder RESULTS with its digest in the ledger, and the tables with the ledger.

    Nothing is changed, and you can do this beside a running watch. Exit code 1 if something is not as it was written.

    \b
    Examples:
      cellseg-device ledger verify cellseg-results
      cellseg-device ledger verify /results --json
    """
    from cellseg_device.results import audit as audits

    _check_folder(out)
    with _progress("verifying") as step:
        audit = audits.verify(out, step)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(audit), indent=2, ensure_ascii=False))
    else:
        for problem in audit.problems:
            say(problem)
        click.echo("; ".join([_state(audit), *_notes(audit)]))
    raise SystemExit(EXIT_IMAGES_FAILED if audit.problems else 0)


@ledger.command()
@results_argument
@click.option(
    "--originals",
    type=PATH,
    help="The watched folder: images that have not changed there are not counted again.  [default: where RESULTS is]",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def rebuild(*, out: Path, originals: Path | None, as_json: bool) -> None:
    """Rebuild the ledger of the folder RESULTS from its table of counts and its label images.

    The former ledger is kept beside it. An image whose files do not match its row is left out, and counted again by the
    next 'run' or 'watch'; so are images that failed. If rows are left out, the exit code is 1, and the former
    counts.csv is kept as counts-1.csv, or under the next free number.

    \b
    Examples:
      cellseg-device ledger rebuild cellseg-results
      cellseg-device ledger rebuild /results --originals /captures
    """
    from cellseg_device.results import rebuild as rebuilding
    from cellseg_device.results.folder import Output

    _check_folder(out)
    with _progress("reading") as step:
        rebuilt = rebuilding.rebuild(out, originals, step)
    output = Output(out, say_warning)
    output.open()  # which writes the tables again if they differ from the ledger
    output.close()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(rebuilt), indent=2, ensure_ascii=False))
    else:
        for line in rebuilt.left_out:
            say(f"left out {line}")
        kept = f"; the former ledger is kept as {rebuilt.aside}" if rebuilt.aside else ""
        kept += f"; the former counts.csv is kept as {rebuilt.counts_aside}" if rebuilt.counts_aside else ""
        click.echo(f"{plural(rebuilt.images, 'image')} in the ledger, {len(rebuilt.left_out)} left out{kept}")
    raise SystemExit(EXIT_IMAGES_FAILED if rebuilt.left_out else EXIT_OK)


def _state(audit: Audit) -> str:
    state = plural(len(audit.problems), "problem") if audit.problems else "all as written"
    return f"{plural(audit.images, 'image')}, {plural(audit.files, 'file')}: {state}"


def _notes(audit: Audit) -> Iterator[str]:
    """Yield what is to be known besides the problems."""
    if audit.unknown:
        were = "was" if audit.unknown == 1 else "were"
        yield f"{plural(audit.unknown, 'image')} {were} counted by an older version without digests"
    if audit.strays:
        belong = "belongs" if len(audit.strays) == 1 else "belong"
        yield f"{plural(len(audit.strays), 'result file')} {belong} to no image of the ledger"
    if audit.behind:
        yield f"{' and '.join(audit.behind)} will be brought up to date"


def _check_folder(out: Path) -> None:
    if not out.is_dir():
        raise InputError(f"{out} is not a folder of results: check the path")


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal; yields a function to call after each step with the number of all steps."""
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def step(total: int) -> None:
            bar.length = total
            bar.update(1)

        yield step
