"""Overlays and captures go after a while; counts, labels and tables stay, and so does every file of someone else.

A file is ours if the ledger names it and it still has the digest that the ledger has of it.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from cellseg_device import files, results
from cellseg_device.ledger import Entry
from cellseg_device.output import Output, utc

CAPTURES_NAME = "captures"
CAPTURE = re.compile(r"\d{8}T\d{6}\.\d{3}Z-\d{6,}\.png")
_EVERY_S = 3600.0


class Retention:
    """Removes what has been kept for long enough, once an hour.

    Parameters
    ----------
    output : Output
    retain_s : float
        How long an overlay or capture is kept after its result was recorded.
    """

    def __init__(self, output: Output, retain_s: float) -> None:
        self._output = output
        self._retain_s = retain_s
        self._due = -_EVERY_S
        self._began_ns, self._began_wall_ns = time.monotonic_ns(), time.time_ns()

    def tidy(self) -> int:
        """Remove what is due, if an hour has passed since the last time.

        Returns
        -------
        int
            Number of files removed.
        """
        now = time.monotonic()
        if now < self._due + _EVERY_S or not self._output.is_open:
            return 0
        self._due = now
        try:
            return self._remove_before(utc(self._now_ns() - round(self._retain_s * 1e9)))
        except OSError as error:
            self._output.warn(f"old overlays and captures cannot be removed ({error.strerror}): trying later")
            return 0

    def _now_ns(self) -> int:
        """The time, but at first no later than a clock would have it that has not been set since.

        A Raspberry Pi has no clock of its own: what it took before the network told it the time would be old at once.
        After `retain_s` all of that has been kept for long enough.
        """
        passed_ns = time.monotonic_ns() - self._began_ns
        now_ns = time.time_ns()
        return now_ns if passed_ns >= self._retain_s * 1e9 else min(now_ns, self._began_wall_ns + passed_ns)

    def _remove_before(self, recorded_at: str) -> int:
        folder, ledger = self._output.folder, self._output.ledger
        removed = 0
        for name in _names(folder):
            stem = name.removesuffix(results.OVERLAY)
            owner = ledger.stem_owner(stem) if stem != name else None
            entry = ledger.get(owner) if owner else None
            if entry and _is_due(entry, recorded_at) and _has(folder / name, entry.digests().get(name)):
                with files.turn(folder):
                    (folder / name).unlink(missing_ok=True)
                with ledger.transaction():
                    ledger.drop_file(entry, name)
                removed += 1
        captures = folder / CAPTURES_NAME
        for name in _names(captures):
            entry = ledger.get(name) if CAPTURE.fullmatch(name) else None
            if entry and _is_due(entry, recorded_at) and _has(captures / name, entry.sha256):
                (captures / name).unlink(missing_ok=True)
                removed += 1
        return removed


def _is_due(entry: Entry, recorded_at: str) -> bool:
    """Whether an image had its counts before that; a capture that failed is kept for whoever looks into it."""
    return entry.counts is not None and entry.recorded_at < recorded_at


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are all it takes
    except FileNotFoundError:
        return []


def _has(path: Path, sha256: str | None) -> bool:
    if sha256 is None or path.is_symlink():
        return False
    try:
        return files.sha256(path) == sha256
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        return False
