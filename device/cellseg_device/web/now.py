"""What the page says about now: the newest image, what was counted, what failed, and how the computer is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cellseg_device.doctor import board, storage
from cellseg_device.doctor.finding import ABSENT, Finding, Subject
from cellseg_device.results.lock import is_held
from cellseg_device.web.gallery import Listed, Row

_MOST_FAILED, _MOST_IN_CHART = 20, 300


def now(out: Path, listed: Listed) -> dict[str, Any]:
    """Return it, as it goes to the browser."""
    rows = list(listed.rows.values())
    done = [row for row in rows if row.count is not None]
    failed = [row for row in rows if row.count is None]
    return {
        "version": listed.version,
        "folder": str(out.absolute()),
        "is_counting": is_held(out),
        "begun": list(listed.begun),
        "done": len(done),
        "cells": sum(row.best_count or 0 for row in done),
        "checked": sum(row.corrected is not None for row in done),
        "flagged": sum(bool(row.flags) for row in done),
        "failed": len(failed),
        "newest": shown(done[-1]) if done else None,
        "failures": [shown(row) for row in reversed(failed[-_MOST_FAILED:])],
        "counts": [[row.image, row.taken_at, row.best_count, row.flags] for row in done[-_MOST_IN_CHART:]],
        "computer": [dataclasses.asdict(finding) for finding in _computer(out)],
    }


def shown(row: Row) -> dict[str, Any]:
    """Return a row of the list, as it goes to the browser."""
    return {
        "image": row.image,
        "count": row.count,
        "corrected": row.corrected,
        "state": row.state,
        "in_frame": row.in_frame,
        "flags": row.flags.split("; ") if row.flags else [],
        "reason": row.reason,
        "taken_at": row.taken_at,
        "recorded_at": row.recorded_at,
        "stamp": row.stamp,
    }


def _computer(out: Path) -> list[Finding]:
    """Return what can be told at once of the computer; the rest is what `doctor` takes seconds for."""
    subject = Subject(out)
    findings = [storage.room(subject), board.temperature(subject), board.power(subject), board.clock(subject)]
    return [finding for finding in findings if finding.state != ABSENT]
