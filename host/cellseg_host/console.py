"""Progress bars, tables and JSON for the commands."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cellseg_device import files
from cellseg_host.evaluate import ImageScore, Summary

T = TypeVar("T")

# Bars go to standard error, and only to a terminal; results go to standard output
ERR = Console(stderr=True)

_COLUMNS = {
    "images": "images",
    "cells_true": "cells",
    "cells_predicted": "found",
    "ap50": "AP@0.5",
    "ap75": "AP@0.75",
    "mean_ap": "mean AP",
    "mean_iou": "mean IoU@0.4",
    "dice": "Dice",
    "total_count_error": "count error",
}


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


def print_summaries(title: str, first: str, summaries: Mapping[str, Summary]) -> None:
    """Print a row of accuracies for each named summary."""
    rows = [[name, *(_text(key, getattr(s, key)) for key in _COLUMNS)] for name, s in summaries.items()]
    print_table(title, [first, *_COLUMNS.values()], rows)


def write_scores(folder: Path, scores: Sequence[ImageScore], document: Mapping[str, Any]) -> None:
    """Write scores.csv, a row per image, and summary.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    rows = [s.row() for s in scores]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    files.write(folder / "scores.csv", text.getvalue().encode())
    files.write(folder / "summary.json", (to_json(document) + "\n").encode())


def to_json(document: Any, indent: int | None = 2) -> str:
    """JSON text of a document that may hold dataclasses; in one line without an indent."""
    return json.dumps(document, indent=indent, ensure_ascii=False, default=dataclasses.asdict)


def _text(key: str, value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.1%}" if key.endswith("error") else f"{value:.3f}"
