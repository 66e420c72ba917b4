"""What the user sees of the outcomes: a line per image, or a JSON object per image, and a summary."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK
from cellseg_device.ledger import DONE, FAILED
from cellseg_device.quiet import drop_pending_output, say
from cellseg_device.worker import UNCHANGED, Outcome

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
    """

    def __init__(self, as_json: bool, strict: bool = False, total: int | None = None) -> None:
        self.counts = {DONE: 0, FAILED: 0, UNCHANGED: 0}
        self.cells = 0
        self.flagged = 0
        self._as_json = as_json
        self._strict = strict
        self._total = total
        self._start = time.monotonic()
        self._has_lost_lines = False
        self._shows_progress = total is not None and total > 1 and sys.stderr is not None and sys.stderr.isatty()

    @property
    def exit_code(self) -> int:
        """1 if an image failed, or has a flag and the report is strict; else 0."""
        return EXIT_IMAGES_FAILED if self.counts[FAILED] or (self._strict and self.flagged) else EXIT_OK

    @property
    def is_empty(self) -> bool:
        """Whether no outcome has come."""
        return not any(self.counts.values())

    def add(self, outcome: Outcome) -> None:
        """Print one outcome; what was done before shows in JSON and in the summary only."""
        self.counts[outcome.status] += 1
        self.cells += outcome.cells or 0
        self.flagged += bool(outcome.flags)
        self._clear()
        if self._as_json:
            self._print(json.dumps(_json_object(outcome), ensure_ascii=False))
        elif outcome.status == DONE:
            flags = f"  ! {outcome.flags}" if outcome.flags else ""
            self._print(f"{outcome.image}  {_number(outcome.cells or 0, 'cell')}  {outcome.ms:.0f} ms{flags}")
        if outcome.status == FAILED:
            say(f"{outcome.image}: {outcome.reason}")
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
        say(f"warning: {line}")

    def finish(self, out: Path, is_stopped: bool = False) -> None:
        """Print the summary: on standard error where standard output is for programs."""
        self._clear()
        parts = [f"{self.counts[DONE]} done", f"{self.counts[FAILED]} failed"]
        if self.counts[UNCHANGED]:
            parts.append(f"{self.counts[UNCHANGED]} done before")
        if self.flagged:
            parts.append(f"{self.flagged} flagged as doubtful")
        images = _number(sum(self.counts.values()), "image")
        seconds = time.monotonic() - self._start
        stopped = "stopped after " if is_stopped else ""
        line = f"{stopped}{images}: {', '.join(parts)}; {_number(self.cells, 'cell')}; {seconds:.1f} s; {out}"
        (say if self._as_json else self._print)(line)

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


def _json_object(outcome: Outcome) -> dict[str, object]:
    return {
        "image": outcome.image,
        "status": outcome.status,
        "cells": outcome.cells,
        "ms": round(outcome.ms, 1),
        "labels": outcome.labels,
        "flags": outcome.flags,
        "reason": outcome.reason,
    }


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
