"""The tables of the ledger in SQL, and what each later version of them added."""

from __future__ import annotations

from cellseg_device.cells.counts import Counts
from cellseg_device.results.entry import DONE, FAILED

_FIRST_SCHEMA = f"""
CREATE TABLE images (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of processing
    image TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT,
    status TEXT NOT NULL CHECK (status IN ('{DONE}', '{FAILED}')),
    reason TEXT,
    stem TEXT UNIQUE COLLATE NOCASE,  -- some file systems hold A and a for one name
    model TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    total_ms REAL NOT NULL,
    {", ".join(f"{name} {stored.sql}" for name, stored in Counts.storage().items() if stored.since == 1)}
);
"""

# What a later version added, beside fields of `Counts`; a ledger of an earlier one gets it when it is opened. Unknown
# (NULL) in its old rows.
_ADDED = {
    2: """
ALTER TABLE images ADD COLUMN settings TEXT;  -- counting.Counting.key
ALTER TABLE images ADD COLUMN files TEXT;  -- JSON: SHA-256 by name, of the result files
""",
    3: """
CREATE TABLE tables (  -- the CSV files as they were left
    name TEXT PRIMARY KEY,
    columns TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL
);
""",
    4: """
ALTER TABLE images ADD COLUMN place TEXT;  -- path of the image file from the output folder
CREATE INDEX images_by_place ON images (place);
CREATE INDEX images_by_time ON images (size, mtime_ns);
""",
    5: """
CREATE INDEX images_by_sha256 ON images (sha256);
CREATE TABLE in_hand (  -- images that were begun and are not recorded yet
    image TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    is_begun INTEGER NOT NULL,  -- whether a process has it in hand, or had it when it was killed
    kills INTEGER NOT NULL,  -- how many processes were killed while they had it in hand
    files TEXT  -- JSON: names of result files that are being replaced; its result is in doubt then
);
""",
    7: """
ALTER TABLE images ADD COLUMN gate_sha256 TEXT;
""",
}
VERSION = max(*_ADDED, *(stored.since for stored in Counts.storage().values()))


def migration(version: int) -> str:
    """Return the SQL that makes a ledger of the version before one of this version."""
    if version == 1:
        return _FIRST_SCHEMA
    added = [name for name, stored in Counts.storage().items() if stored.since == version]
    columns = [f"ALTER TABLE images ADD COLUMN {name} {Counts.storage()[name].sql};" for name in added]
    return "\n".join([_ADDED.get(version, ""), *columns])
