"""What the ledger has about one image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import NoneType

from cellseg_device.cells.counts import Counts

DONE, FAILED = "done", "failed"
LABELS, CELLS = ".labels.tif", ".cells.csv"  # how the two files end that every result has, after its stem
UNKNOWN = ""  # digest of a result file that was about to be written


@dataclass(frozen=True)
class Entry:
    """What the ledger has about one image.

    Attributes
    ----------
    image : str
        Its name: the path within the watched folder, or for ``run`` that of `places.name_of`.
    size, mtime_ns : int
        Of the file, when it was processed.
    sha256 : str or None
        Of the file's bytes; None where they could not be read.
    status : str
        `DONE` or `FAILED`.
    reason : str or None
        Why it failed.
    stem : str or None
        What its result files begin with; None where it failed.
    model, model_sha256 : str
        Name of the model, and the digest of its file; of the gate, where that says that nothing is to be looked for.
    recorded_at : str
        ISO 8601, UTC.
    total_ms : float
        Time from its turn until its results were on the disk.
    settings : str or None
        `counting.Counting.key`; None in a row of an older version.
    files : str or None
        JSON: SHA-256 by name, of the result files; `UNKNOWN` of one that was about to be written.
    counts : Counts or None
    place : str or None
        Path of the image file from the output folder (`places.place_of`); None in a row of an older version.
    gate_sha256 : str or None
        Digest of the gate that chose the model; None without one.
    """

    image: str
    size: int
    mtime_ns: int
    sha256: str | None
    status: str
    reason: str | None
    stem: str | None
    model: str
    model_sha256: str
    recorded_at: str
    total_ms: float
    settings: str | None = None
    files: str | None = None
    counts: Counts | None = None
    place: str | None = None
    gate_sha256: str | None = None

    def digests(self) -> dict[str, str]:
        """SHA-256 by name, of the result files; none in a row of an older version."""
        known: dict[str, str] = json.loads(self.files or "{}")
        return known


def _kinds(sql: str) -> tuple[type, ...]:
    """Return what a column of this type may hold, in Python."""
    return {"INTEGER": (int, NoneType), "REAL": (float, int, NoneType)}.get(sql.split()[0], (str, NoneType))


_TEXTS = (
    "sha256",
    "reason",
    "stem",
    "model",
    "model_sha256",
    "recorded_at",
    "settings",
    "files",
    "place",
    "gate_sha256",
)
_OWN_KINDS: list[tuple[str, tuple[type, ...]]] = [
    *[("size", (int,)), ("mtime_ns", (int,)), ("total_ms", (float, int)), ("image", (str,))],
    *[(name, (str, NoneType)) for name in _TEXTS],
]
_COUNT_KINDS = [(name, _kinds(stored.sql)) for name, stored in Counts.storage().items()]


def has_right_types(entry: Entry) -> bool:
    """Whether all values are of the kinds that their columns are declared for, which SQLite does not see to."""
    if entry.counts is not None and not all(isinstance(getattr(entry.counts, n), kinds) for n, kinds in _COUNT_KINDS):
        return False
    return all(isinstance(getattr(entry, name), kinds) for name, kinds in _OWN_KINDS)


def is_plain_name(name: str) -> bool:
    """Whether a name, which may come from anybody, is that of a file in the folder itself."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
