"""The folder for the results: its free space, its speed, and whether it can be written to."""

from __future__ import annotations

import errno
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from cellseg_device.doctor.finding import OK, PROBLEM, WARNING, Finding, Subject
from cellseg_device.system import files
from cellseg_device.system.rights import existing, own_name

_LITTLE, _ALMOST_NONE = 1e9, 2e8  # bytes
_SLOW_MS = 250.0
_BLOCK = b"\x5a" * 262_144  # about the size of an image's results
_WRITES = 5


def room(subject: Subject) -> Finding:
    """Check how much space is free."""
    folder = existing(subject.out.absolute())
    usage = shutil.disk_usage(folder)
    nodes = os.statvfs(folder)
    text = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.0f} GB free for {subject.out}"
    fix = "make room: move old results and originals to another disk"
    if nodes.f_files and nodes.f_favail < 1000:
        return Finding("disk", PROBLEM, f"{text}, but only for {nodes.f_favail} files", fix)
    state = PROBLEM if usage.free < _ALMOST_NONE else WARNING if usage.free < _LITTLE else OK
    return Finding("disk", state, text, None if state == OK else fix)


def writing(subject: Subject) -> Finding:
    """Check whether results can be written, and how long the disk takes to store them."""
    folder = existing(subject.out.absolute())
    try:
        took = median(_write_ms(folder / files.temporary_name()) for _ in range(_WRITES))
    except OSError as error:
        return Finding("writing", PROBLEM, f"{folder} cannot be written to ({error.strerror})", _fix(folder, error))
    text = f"{took:.0f} ms to store {len(_BLOCK) // 1024} kB on the disk of {folder}"
    if took > _SLOW_MS:
        return Finding("writing", WARNING, f"{text}: slow", "use a faster card (class A1 or A2) or a USB disk")
    return Finding("writing", OK, text)


def _write_ms(path: Path) -> float:
    start = time.perf_counter()
    try:
        with os.fdopen(files.new_file(path), "wb") as file:
            file.write(_BLOCK)
            file.flush()
            os.fsync(file.fileno())
        return (time.perf_counter() - start) * 1e3
    finally:
        with suppress(OSError):
            path.unlink()


def _fix(folder: Path, error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "mount it for writing; replace a card that has become read-only, which is worn out"
    if error.errno == errno.ENOSPC:
        return "make room: move old results and originals to another disk"
    return f"sudo chown {own_name()} {folder}, or name another --out"
