"""A disk that loses what was not synced: all states in which a power cut may leave an output folder.

What a block does to the folder is recorded: which files are made, written, renamed, removed and synced, and each commit
of the ledger. Before each of these steps the power may fail. Then of the content of a file that was written since it
was synced nothing, a part or all may be on the disk; of the names that were made, changed or removed since the folder
was synced any; and of the ledger the last commit that was synced or a later one. SQLite's own files are taken to be as
safe as SQLite promises: a ledger is always that of a commit.
"""

from __future__ import annotations

import itertools
import math
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cellseg_device.results.ledger import FILE_NAME, SQLITE_ENDINGS

_LEDGER_ITSELF = 0  # number of the ledger that SQLite writes
_NOT_KEPT = {".cellseg.lock", ".cellseg.turn", *(FILE_NAME + ending for ending in SQLITE_ENDINGS)}
_MOST_AT_ONCE = 4  # of so many names all subsets are tried; of more, those that lack or have one, and what came first
_MOST_WAYS = 100  # to combine what may be in several files


@dataclass(frozen=True)
class Content:
    """What a file holds, and its time."""

    data: bytes
    mtime_ns: int


State = tuple[tuple[str, Content], ...]  # of a folder: its files by name


class _Connection(sqlite3.Connection):
    """A connection that reports each commit, and whether it is synced."""

    on_commit: Callable[[bool], None]
    _is_synced = True

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        cursor = super().execute(sql, *arguments)
        if sql.startswith("PRAGMA synchronous"):
            self._is_synced = sql.endswith("FULL")
        if sql == "COMMIT":
            self.on_commit(self._is_synced)
        return cursor

    def executescript(self, sql: str) -> sqlite3.Cursor:
        cursor = super().executescript(sql)
        self.on_commit(self._is_synced)
        return cursor


class Disk:
    """What is known of one folder: as it is, and as it would be after a power cut.

    Parameters
    ----------
    folder : Path
        It may have files, which are on the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.states: set[State] = set()
        self._numbers = itertools.count(1)
        self._inodes: dict[str, int] = {}  # by name
        self._names: dict[str, int] = {}  # by name, a number that no other file ever had: inodes are used again
        self._contents: dict[int, list[Content]] = {}  # by such a number: as it was synced last, and as it is
        self._find()
        self._on_the_disk = dict(self._names)
        self._pending: list[tuple[str, int | None]] = []  # a name, and the file that it got, or None if it was removed
        for content in self._contents.values():
            content[0] = content[1]
        self._ledgers = [_serialized(folder / FILE_NAME)]  # as of the last synced commit, and since

    def look(self) -> None:
        """Take note of what was made and written since, and of all that a power cut would leave now."""
        before = dict(self._names)
        self._find()
        self._pending += [(name, number) for name, number in self._names.items() if before.get(name) != number]
        self._pending += [(name, None) for name in before if name not in self._names]
        for kept in _subsets(self._pending):
            left = dict(self._on_the_disk)
            for name, number in kept:
                if number is None:
                    left.pop(name, None)
                else:
                    left[name] = number
            self.states |= set(self._states(left))

    def renamed(self, old: str, new: str) -> None:
        """Take note that a file has got another name, in one step."""
        self._inodes[new] = self._inodes.pop(old)
        self._names[new] = self._names.pop(old)
        self._pending += [(new, self._names[new]), (old, None)]

    def synced(self, descriptor: int) -> None:
        """Take note that a file or the folder is on the disk."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path == self._folder:
            self._on_the_disk, self._pending = dict(self._names), []
        elif path.parent == self._folder and path.name in self._names:
            content = self._contents[self._names[path.name]]
            content[0] = content[1]

    def committed(self, is_synced: bool) -> None:
        """Take note of a commit of the ledger."""
        now = _serialized(self._folder / FILE_NAME)
        self._ledgers = [now] if is_synced else [*self._ledgers, now]

    def _find(self) -> None:
        names = {}
        for entry in os.scandir(self._folder):
            if entry.name in _NOT_KEPT or not entry.is_file(follow_symlinks=False):
                continue
            if entry.name == FILE_NAME:  # a rebuilt one is an ordinary file, which gets that name
                names[entry.name] = self._names.get(FILE_NAME, _LEDGER_ITSELF)
                continue
            info = entry.stat(follow_symlinks=False)
            if self._inodes.get(entry.name) != info.st_ino:
                self._inodes[entry.name] = info.st_ino
                self._names[entry.name] = next(self._numbers)
            number = names[entry.name] = self._names[entry.name]
            now = Content(Path(entry.path).read_bytes(), info.st_mtime_ns)
            self._contents.setdefault(number, [Content(b"", 0), now])[1] = now
        self._names = names
        self._inodes = {name: inode for name, inode in self._inodes.items() if name in names}

    def _states(self, names: dict[str, int]) -> Iterator[State]:
        choices = [
            [(name, Content(data, 0)) for data in self._ledgers]
            if number == _LEDGER_ITSELF
            else [(name, content) for content in _versions(*self._contents[number])]
            for name, number in names.items()
        ]
        for files in _combined(choices):
            yield tuple(sorted(files, key=lambda file: file[0]))


def _combined(choices: list[list[tuple[str, Content]]]) -> Iterator[tuple[tuple[str, Content], ...]]:
    """One of each, in all ways; if those are too many, all as synced, all as they are, and each one alone otherwise."""
    if math.prod(map(len, choices)) <= _MOST_WAYS:
        yield from itertools.product(*choices)
        return
    for end in (0, -1):
        plain = [choice[end] for choice in choices]
        yield tuple(plain)
        for at, choice in enumerate(choices):
            for other in choice:
                yield (*plain[:at], other, *plain[at + 1 :])


def _versions(synced: Content, now: Content) -> list[Content]:
    """What may be on the disk of a file: as it was, as it is, and torn."""
    if synced.data == now.data:
        return [now]
    start = len(synced.data) if now.data.startswith(synced.data) else 0
    torn = now.data[: (start + len(now.data)) // 2]
    return [synced, Content(torn, now.mtime_ns), now]


def _subsets(steps: list[tuple[str, int | None]]) -> list[list[tuple[str, int | None]]]:
    """Of the steps that may or may not be on the disk, those to try."""
    count = len(steps)
    if count <= _MOST_AT_ONCE:
        return [list(c) for size in range(count + 1) for c in itertools.combinations(steps, size)]
    subsets = [steps[:end] for end in range(count + 1)]
    subsets += [steps[:at] + steps[at + 1 :] for at in range(count)]
    return subsets + [[step] for step in steps]


def _serialized(path: Path) -> bytes:
    """The ledger as of its last commit, as one file; nothing if there is none."""
    if not path.exists() or not path.stat().st_size:
        return b""
    connection = sqlite3.connect(path)
    try:
        return connection.serialize()
    finally:
        connection.close()


@contextmanager
def recorded(folder: Path) -> Iterator[set[State]]:
    """Collect all states in which a power cut during the block may leave a folder."""
    disk = Disk(folder)
    with pytest.MonkeyPatch.context() as patch:

        def step(function: Callable[..., Any], after: Callable[..., None]) -> Callable[..., Any]:
            def stepped(*arguments: Any, **options: Any) -> Any:
                disk.look()
                result = function(*arguments, **options)
                after(*arguments)
                return result

            return stepped

        def renamed(old: Any, new: Any) -> None:
            old_path, new_path = Path(folder, old), Path(folder, new)
            if (old_path.parent, new_path.parent) == (folder, folder) and old_path.name not in _NOT_KEPT:
                disk.renamed(old_path.name, new_path.name)

        def nothing(*_: Any) -> None:
            pass

        def on_commit(is_synced: bool) -> None:
            disk.look()
            disk.committed(is_synced)
            disk.look()

        def connected(path: Any, plain: Any = sqlite3.connect, **options: Any) -> sqlite3.Connection:
            if Path(path) != folder / FILE_NAME:
                return plain(path, **options)
            connection = plain(path, factory=_Connection, **options)
            connection.on_commit = on_commit
            return connection

        patch.setattr(sqlite3, "connect", connected)
        for name in ("replace", "rename"):
            patch.setattr(os, name, step(getattr(os, name), renamed))
        for name in ("unlink", "write", "ftruncate"):
            patch.setattr(os, name, step(getattr(os, name), nothing))
        patch.setattr(os, "fsync", step(os.fsync, disk.synced))
        yield disk.states
        disk.look()


def materialise(state: State, folder: Path) -> None:
    """Make a folder as a state has it."""
    folder.mkdir()
    for name, content in state:
        (folder / name).write_bytes(content.data)
        os.utime(folder / name, ns=(content.mtime_ns, content.mtime_ns))
