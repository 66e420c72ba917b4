"""What the user sees of the outcomes: a line per image, or a JSON object per image, and a summary."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.cells import surround
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK
from cellseg_device.results.entry import DONE, FAILED
from cellseg_device.stderr import drop_pending_output, say, say_error, say_warning
from cellseg_device.units import plural
from cellseg_device.watching.outcome import UNCHANGED, Outcome, in_words

if TYPE_CHECKING:
    from cellseg_device.pipeline.models import LaterModel, Models
    from cellseg_device.pipeline.predict import Runnable
    from cellseg_device.watching.standing import Standing

_CLEAR_LINE = "\r\x1b[K"


class Report:
    """Prints outcomes as they come, and counts them.

    Parameters
    ----------
    as_json : bool
        One JSON object per line and image on standard output, and nothing else there.
    strict : bool
        Whether a flagged count is a failure.
    total : int or None
        How many are to come, if known: progress is then shown, where standard error is a terminal.
    quiet : bool
        Whether only JSON, warnings and errors are printed.
    """

    def __init__(self, *, as_json: bool, strict: bool = False, total: int | None = None, quiet: bool = False) -> None:
        self.counts = {DONE: 0, FAILED: 0, UNCHANGED: 0}
        self.cells = self.cells_in_frame = 0
        self.flagged = 0
        self._as_json = as_json
        self._strict = strict
        self._quiet = quiet
        self._total = total
        self._start = time.monotonic()
        self._has_lost_lines = False
        self._is_terminal = not quiet and sys.stderr is not None and sys.stderr.isatty()

    @property
    def exit_code(self) -> int:
        """1 if an image failed, or has a flag and the report is strict; else 0."""
        return EXIT_IMAGES_FAILED if self.counts[FAILED] or (self._strict and self.flagged) else EXIT_OK

    @property
    def is_empty(self) -> bool:
        """Whether no outcome has come."""
        return not any(self.counts.values())

    @property
    def _shows_progress(self) -> bool:
        return self._is_terminal and self._total is not None and self._total > 1

    def begin(self, work: str, out: Path, models: Models) -> None:
        """Print on standard error what is going to be done, where its results go, and with which models."""
        if self._quiet:
            return
        self._clear()
        default = models.default
        where = "an Edge TPU" if default.accelerator == "edgetpu" else plural(default.threads, "thread")
        say(work)
        say(f"results: {out}")
        say(f"model: {_in_words(models)}, on {where}")

    def begin_folder(self, folder: Path, standing: Standing, out: Path, models: Models, *, is_watch: bool) -> None:
        """Print what is going to be done with a folder, as `begin` does."""
        if not is_watch:
            self._total = standing.done + standing.failed + standing.to_do
        parts = [f"{standing.done:,} done", *([f"{standing.failed:,} failed"] if standing.failed else [])]
        images = plural(standing.done + standing.failed + standing.to_do, "image")
        what = f"{'watching' if is_watch else 'images in'} {folder}"
        self.begin(f"{what}: {images}, {', '.join(parts)}, {standing.to_do:,} to do", out, models)

    def add(self, outcome: Outcome) -> None:
        """Print one outcome; what was done before shows in JSON and in the summary only."""
        self.counts[outcome.status] += 1
        self.cells += outcome.cells or 0
        self.cells_in_frame += outcome.cells_in_frame or 0
        self.flagged += bool(outcome.flags)
        self._clear()
        if self._as_json:
            self._print(json.dumps(_json_object(outcome), ensure_ascii=False))
        elif outcome.status == DONE and not self._quiet:
            flags = f"  ! {outcome.flags}" if outcome.flags else ""
            self._print(f"{outcome.image}  {_cells(outcome)}  {outcome.ms:.0f} ms{flags}")
        elif outcome.made and not self._quiet:
            self._print(f"{outcome.image}  {_cells(outcome)}, counted before; made now: {', '.join(outcome.made)}")
        if outcome.status == FAILED:
            say_error(f"{outcome.image}: {outcome.reason}")
        self._progress()

    def _print(self, line: str) -> None:
        """Print on standard output; where that fails (a log on a full disk) the work goes on without the line."""
        try:
            click.echo(line)
        except BrokenPipeError:
            raise
        except OSError as error:
            drop_pending_output()
            if not self._has_lost_lines:
                self.warn(f"standard output cannot be written ({error.strerror}): results go on being written")
            self._has_lost_lines = True

    def warn(self, line: str) -> None:
        """Print a line for the user on standard error."""
        self._clear()
        say_warning(line)

    def finish(self, out: Path, *, is_stopped: bool = False, is_endless: bool = False) -> None:
        """Print the summary: on standard error where standard output is for programs, or has a line per image alone."""
        self._clear()
        if self._quiet:
            return
        parts = [f"{self.counts[DONE]} done", f"{self.counts[FAILED]} failed"]
        if self.counts[UNCHANGED]:
            parts.append(f"{self.counts[UNCHANGED]} done before")
        if self.flagged:
            parts.append(f"{self.flagged} flagged as doubtful")
        images = plural(sum(self.counts.values()), "image")
        took = _duration(time.monotonic() - self._start)
        cells = in_words(self.cells, self.cells_in_frame)
        stopped = "stopped after " if is_stopped else ""
        line = f"{stopped}{images}: {', '.join(parts)}; {cells}; {took}; {out}"
        (say if self._as_json or is_endless else self._print)(line)

    def finish_empty(self, *folders: Path) -> None:
        """Print, in place of the summary, that there was nothing to do."""
        if not self._quiet:
            (say if self._as_json else self._print)(f"no images in {' and '.join(map(str, folders))}: nothing to do")

    def _clear(self) -> None:
        if self._shows_progress:
            say(_CLEAR_LINE, nl=False)

    def _progress(self) -> None:
        if not self._shows_progress or self._total is None:
            return
        done = sum(self.counts.values())
        rate = done / max(time.monotonic() - self._start, 1e-3)
        left = (self._total - done) / rate
        say(f"{done} of {self._total}, {rate:.1f} a second, {left:.0f} s left", nl=False)


def _in_words(models: Models) -> str:
    """Return the models by name, and where each is from; of those that are bundled with the gate, once."""
    from cellseg_device.model.interpreter import bundled_path

    def source(path: Path) -> str:
        return "bundled" if path.parent == bundled_path().parent else str(path)

    of_gate = None if models.gate is None else source(models.gate.path)
    parts: list[Runnable | LaterModel] = [models.default, *models.others.values()]
    named = [
        part.card.name if source(part.path) == of_gate == "bundled" else f"{part.card.name} ({source(part.path)})"
        for part in parts
    ]
    by_gate = "" if models.gate is None else f", by the gate {models.gate.card.name} ({of_gate})"
    return f"{' or '.join(named)}{by_gate}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.0f} h" if hours < 100 else f"{hours / 24:.0f} days"


def _json_object(outcome: Outcome) -> dict[str, object]:
    return {
        "image": outcome.image,
        "status": outcome.status,
        "cells": outcome.cells,
        "cells_in_frame": outcome.cells_in_frame,
        "ms": round(outcome.ms, 1),
        "labels": outcome.labels,
        "flags": outcome.flags,
        "surround": outcome.surround,
        "class": outcome.class_name,
        "class_probability": outcome.class_probability,
        "made": outcome.made,
        "reason": outcome.reason,
    }


def _cells(outcome: Outcome) -> str:
    """Return how many cells an image has, and what was left out."""
    left_out = f", {surround.in_words(outcome.surround)}" if outcome.surround else ""
    return in_words(outcome.cells or 0, outcome.cells_in_frame or 0) + left_out
