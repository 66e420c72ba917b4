"""Progress bars, tables and JSON for the commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cellseg_device.errors import CellsegError
from cellseg_host.evaluation.evaluate import Summary

T = TypeVar("T")

EXIT_STOPPED = 1

# Bars go to standard error, and only to a terminal; results go to standard output
ERR = Console(stderr=True)

# Of `Summary`, with their titles: a table for the labels and one for the counts, which fit into a terminal
_LABELS = {
    "images": "images",
    "ap50": "AP@0.5",
    "ap75": "AP@0.75",
    "mean_ap": "mean AP",
    "mean_iou": "mean IoU@0.4",
    "dice": "Dice",
}
_COUNTS = {
    "cells_true": "cells",
    "cells_counted": "counted",
    "cells_matched": "matched",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "total_count_error": "count error",
    "mean_count_error": "count error per image",
}


class StoppedError(CellsegError):
    """The work was stopped by Ctrl-C, and can be continued."""

    exit_code = EXIT_STOPPED


def tracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items, with a progress bar where standard error is a terminal."""
    with bar() as progress:
        yield from progress.track(items, total=total, description=what)


@contextmanager
def bar() -> Iterator[Progress]:
    """A progress bar on standard error, silent where that is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=ERR, disable=not ERR.is_terminal, transient=True) as progress:
        yield progress


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, first column left, others right; long texts are folded, never cut off."""
    console = Console()
    table = Table(title=title or None, title_justify="left", show_header=any(columns))
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def print_next(*words: object) -> None:
    """Print the command that one would give next, as it can be pasted into a shell."""
    click.echo(f"next: {shlex.join(map(str, words))}")


def print_confusion(title: str, confusion: Mapping[str, Mapping[str, int]]) -> None:
    """Print how many images of each kind, a row each, are found to be of which."""
    kinds = list(next(iter(confusion.values())))
    rows = [[name, *(str(row[kind] or "–") for kind in kinds)] for name, row in confusion.items()]
    click.echo(title)  # as a line, since a table folds its title to its own width
    print_table("", ["", *kinds], rows)


def print_summaries(title: str, first: str, summaries: Mapping[str, Summary]) -> None:
    """Print the accuracy of labels and of counts, a table each with a row for each named summary."""
    for words, columns in ((title, _LABELS), ("Cells counted, and matched at IoU above 0.5", _COUNTS)):
        rows = [[name, *(_text(key, getattr(s, key)) for key in columns)] for name, s in summaries.items()]
        print_table(words, [first, *columns.values()], rows)


def _text(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return str(value)
    return f"{value:.1%}" if key.endswith("error") else f"{value:.3f}"
