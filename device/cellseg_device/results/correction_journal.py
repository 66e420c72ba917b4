"""The journal of an image's correction: a line of JSON for each thing that was done, synced before it counts as done.

The first line says what the correction began from. A line of an edit has the change itself (`cells.patch.Patch`), so
that neither a model nor the code that made the edit is needed to repeat it; ``undo`` and ``redo`` refer to the edits
before them. The number of lines is the correction's revision.

| key              | value                                                                          |
|------------------|--------------------------------------------------------------------------------|
| what             | begin, an edit's name, undo, redo, checked, left out or taken back             |
| at, by           | when, ISO 8601 in UTC; who, if a name was given                                |
| box, change      | of an edit: where, and what (`Patch.as_json`)                                  |
| given            | of an edit: what was asked for, in pixels, for people                          |
| image, image_sha256, labels_sha256, format | of the first line                                    |
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellseg_device.errors import InputError
from cellseg_device.system import files

BEGIN, UNDO, REDO = "begin", "undo", "redo"
CHECKED, LEFT_OUT, TAKEN_BACK = "checked", "left out", "taken back"
FORMAT = 1
_NO_EDITS = (BEGIN, UNDO, REDO, CHECKED, LEFT_OUT, TAKEN_BACK)

Line = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """A journal, as far as its lines are whole; without lines there is no correction.

    Attributes
    ----------
    lines : tuple of dict
    done, undone : tuple of int
        Indices of the lines of edits: those that hold, and those that `redo` makes again, the next one last.
    steps : tuple of int
        Of each line, the index of the line with the change that it makes or undoes; -1 for none.
    size : int
        Bytes of the whole lines; what follows was being written when the power failed.
    found_size : int
        Bytes of the file.
    """

    lines: tuple[Line, ...] = ()
    done: tuple[int, ...] = ()
    undone: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    size: int = 0
    found_size: int = 0

    @property
    def revision(self) -> int:
        """How many lines there are."""
        return len(self.lines)

    @property
    def state(self) -> str:
        """`CHECKED` or `LEFT_OUT` if that is the last word, else "begun"; "" without lines."""
        if not self.lines:
            return ""
        last = self.lines[-1]["what"]
        return last if last in (CHECKED, LEFT_OUT) else "begun"

    def has_changed_since(self, revision: int) -> bool:
        """Return whether a line after that revision changes labels; marks do not."""
        return revision > self.revision or any(step >= 0 for step in self.steps[revision:])


def read(path: Path) -> Journal:
    """Return the journal in a file; one without lines if there is none, or its first line was never whole.

    Raises
    ------
    InputError
        If a line is not what a journal has.
    OSError
        If it cannot be read, or is a link.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: files.open_regular(Path(name), flags)) as file:
            data = file.read()
    except FileNotFoundError:
        return Journal()
    return replace(parse(data[: data.rfind(b"\n") + 1], path), found_size=len(data))


def parse(data: bytes, path: Path) -> Journal:
    """Return the journal in these lines; `path` is named in errors."""
    lines: list[Line] = []
    done: list[int] = []
    undone: list[int] = []
    steps: list[int] = []
    for number, text in enumerate(data.splitlines()):
        try:
            line = json.loads(text)
            what = line["what"]
            if (number == 0) != (what == BEGIN):
                raise ValueError("it does not begin as a journal does")
            step = _step(what, number, done, undone)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"{path}: line {number + 1} is not of a correction ({error}): restore the file, or move it away"
            ) from None
        lines.append(line)
        steps.append(step)
    if lines and lines[0].get("format") != FORMAT:
        raise InputError(f"{path}: is of another version of cellseg-device: update it, or move the file away")
    return Journal(tuple(lines), tuple(done), tuple(undone), tuple(steps), len(data), len(data))


def _step(what: str, number: int, done: list[int], undone: list[int]) -> int:
    """Return the line with the change that a line makes or undoes, and move that between the two lists."""
    if what == UNDO:
        undone.append(done.pop())
        return undone[-1]
    if what == REDO:
        done.append(undone.pop())
        return done[-1]
    if what in _NO_EDITS:
        return -1
    done.append(number)
    undone.clear()
    return number


def append(path: Path, journal: Journal, line: Line) -> Journal:
    """Append a line, and return the journal with it; it is on the disk when this returns.

    To be called within `corrections.writing`, with the journal as it was read there.

    Raises
    ------
    OSError
        If the disk is full or faulty; the journal is as it was.
    """
    data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    done, undone = list(journal.done), list(journal.undone)
    step = _step(line["what"], journal.revision, done, undone)
    _cut_to(path, journal.size)
    files.append(path, data)
    if not journal.lines:
        files.sync_folder(path.parent)
    size = journal.size + len(data)
    return Journal((*journal.lines, line), tuple(done), tuple(undone), (*journal.steps, step), size, size)


def _cut_to(path: Path, size: int) -> None:
    """Remove what follows the whole lines: the start of one that was never acknowledged."""
    try:
        descriptor = files.open_regular(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        if os.fstat(descriptor).st_size > size:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
