"""Pictures and captures are removed after a while; counts, labels and tables stay, and so do the files of others.

A file is ours if the ledger names it and it still has the digest that the ledger has of it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from cellseg_device.results import image_files
from cellseg_device.results.capture_names import FOLDER_NAME, is_kept_capture
from cellseg_device.results.entry import Entry
from cellseg_device.results.folder import Output
from cellseg_device.results.tables import utc
from cellseg_device.system import files

_EVERY_S = 3600.0


class Retention:
    """Removes what has been kept for long enough, once an hour.

    Parameters
    ----------
    output : Output
    retain_s : float
        How long a picture of `image_files.PICTURES` or a capture is kept after its result was recorded.
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
            return self._remove()
        except OSError as error:
            self._output.warn(f"old overlays and captures cannot be removed ({error.strerror}): trying later")
            return 0

    def _now_ns(self) -> int:
        """Return the time, but until `retain_s` have passed that of a clock which was not put forward since the start.

        A Raspberry Pi has no clock that runs on without power: what it took before it got the time from the network
        would be old at once. After `retain_s` all of that has been kept for long enough.
        """
        passed_ns = time.monotonic_ns() - self._began_ns
        now_ns = time.time_ns()
        return now_ns if passed_ns >= self._retain_s * 1e9 else min(now_ns, self._began_wall_ns + passed_ns)

    def is_due(self, entry: Entry) -> bool:
        """Whether the pictures of an image are to be removed; a capture that failed stays, so that somebody looks."""
        return entry.counts is not None and entry.recorded_at < utc(self._now_ns() - round(self._retain_s * 1e9))

    def _remove(self) -> int:
        folder, ledger = self._output.folder, self._output.ledger
        removed = 0
        for name in _names(folder):
            suffix = next((end for end in image_files.PICTURES.values() if name.endswith(end)), None)
            owner = ledger.stem_owner(name.removesuffix(suffix)) if suffix else None
            entry = ledger.get(owner) if owner else None
            if entry and self.is_due(entry) and _has(folder / name, entry.digests().get(name)):
                with files.write_lock(folder):
                    (folder / name).unlink(missing_ok=True)
                ledger.drop_file(entry, name)
                removed += 1
        captures = folder / FOLDER_NAME
        for name in _names(captures):
            entry = ledger.get(name) if is_kept_capture(name) else None
            if entry and self.is_due(entry) and _has(captures / name, entry.sha256):
                (captures / name).unlink(missing_ok=True)
                removed += 1
        return removed


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are all it takes
    except FileNotFoundError:
        return []


def _has(path: Path, sha256: str | None) -> bool:
    if sha256 is None or not files.is_regular(path):
        return False
    try:
        return files.sha256(path) == sha256
    except (FileNotFoundError, PermissionError):
        return False
