"""The folder for the results: room, speed, and whether it may be written to."""

from __future__ import annotations

import errno
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from cellseg_device.doctor.finding import OK, PROBLEM, WARNING, Asked, Finding
from cellseg_device.rights import existing, own_name

_LITTLE, _ALMOST_NONE = 1e9, 2e8  # bytes
_SLOW_MS = 250.0
_BLOCK = b"\x5a" * 262_144  # about an image's results
_WRITES = 5


def room(asked: Asked) -> Finding:
    """How much room there is."""
    folder = existing(asked.out.absolute())
    usage = shutil.disk_usage(folder)
    nodes = os.statvfs(folder)
    text = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.0f} GB free for {asked.out}"
    fix = "make room: move old results and originals to another disk"
    if nodes.f_files and nodes.f_favail < 1000:
        return Finding("disk", PROBLEM, f"{text}, but for {nodes.f_favail} files only", fix)
    state = PROBLEM if usage.free < _ALMOST_NONE else WARNING if usage.free < _LITTLE else OK
    return Finding("disk", state, text, None if state == OK else fix)


def writing(asked: Asked) -> Finding:
    """Whether results can be written, and how long the disk takes to have them."""
    folder = existing(asked.out.absolute())
    name = folder / f".cellseg-{os.getpid()}-0.tmp"  # as `files` names what is temporary, so no scan minds it
    try:
        took = median(_write_ms(name) for _ in range(_WRITES))
    except OSError as error:
        return Finding("writing", PROBLEM, f"{folder} cannot be written to ({error.strerror})", _fix(folder, error))
    finally:
        with suppress(OSError):
            name.unlink()
    text = f"{took:.0f} ms to have {len(_BLOCK) // 1024} kB on the disk of {folder}"
    if took > _SLOW_MS:
        return Finding("writing", WARNING, f"{text}: slow", "use a faster card (class A1 or A2) or a USB disk")
    return Finding("writing", OK, text)


def _write_ms(path: Path) -> float:
    start = time.perf_counter()
    with open(path, "wb") as file:
        file.write(_BLOCK)
        file.flush()
        os.fsync(file.fileno())
    return (time.perf_counter() - start) * 1e3


def _fix(folder: Path, error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "mount it for writing; a card that has become read-only is worn out: replace it"
    if error.errno == errno.ENOSPC:
        return "make room: move old results and originals to another disk"
    return f"sudo chown {own_name()} {folder}, or name another --out"
