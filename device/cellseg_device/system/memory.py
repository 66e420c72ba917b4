"""The memory of this process: its peak, its limits, what is left of them, and returning freed memory to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE_BYTES = 8 << 20
_KEPT_BYTES = 64 << 20  # of smaller blocks, so that images of two megapixels can reuse their memory

_PROC = Path("/proc")


@dataclass(frozen=True)
class _Files:
    """Files of a memory control group.

    Attributes
    ----------
    limits : tuple of str
    usage : str
    reclaimable : str
        The line of ``memory.stat`` with what of the usage the system takes back at once when it is needed.
    """

    limits: tuple[str, ...]
    usage: str
    reclaimable: str


_V1 = _Files(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Files(("memory.max", "memory.high"), "memory.current", "inactive_file")
_NO_LIMIT = 1 << 62  # version 1 has a number for it, about twice this


def return_large_blocks() -> None:
    """Make the C library return freed blocks of 8 MiB and more to the system at once; does nothing without glibc.

    By default glibc raises that limit to the largest block freed so far, up to 32 MiB, after which a large image leaves
    100 MB or more of unused memory with the process.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def return_all() -> bool:
    """Return all memory to the system that this process has freed; returns whether that was much (8 MiB and more)."""
    before = _held_bytes()
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    return before - _held_bytes() >= _LARGE_BYTES


def peak_rss_mb() -> float:
    """Return the largest memory that this process has held, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def available_bytes() -> int | None:
    """Return how much more memory this process can take now; None where that cannot be known, as without /proc.

    It is the least of what the machine has left without swapping, what the process's own limits leave (``ulimit -v``
    and ``-d``), and what the limit of each control group that it is in leaves (``MemoryMax=`` of a service, the limit
    of a container). Files that the system keeps in memory only in case that they are read again count as free.
    """
    left = [*_left_of_machine(), *_left_of_limits(), *_left_of_groups()]
    return max(min(left), 0) if left else None


def _held_bytes() -> int:
    """Return the memory that this process holds; 0 without /proc."""
    with contextlib.suppress(OSError):
        return int((_PROC / "self" / "statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def limit_to_available(pid: int, most_bytes: int) -> None:
    """Limit a process to the memory available now, and to `most_bytes`: more raises MemoryError in it.

    A lower limit that it must not exceed stays. Does nothing without /proc.
    """
    with contextlib.suppress(OSError, ValueError, OverflowError):  # the last two where addresses have 32 bits
        most = resource.prlimit(pid, resource.RLIMIT_AS)[1]
        resource.prlimit(pid, resource.RLIMIT_AS, (most, most))  # without what was set for an earlier image
        available = available_bytes()
        if available is not None:
            limit = _taken_bytes(pid)[0] + min(available, most_bytes)
            limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, most))


def _left_of_machine() -> Iterator[int]:
    with contextlib.suppress(OSError):
        available = re.search(r"MemAvailable:\s+(\d+) kB", (_PROC / "meminfo").read_text())
        if available:
            yield int(available[1]) * 1024


def _left_of_limits() -> Iterator[int]:
    """Yield what this process's own limits leave, of addresses and of data."""
    with contextlib.suppress(OSError):
        for kind, taken in zip((resource.RLIMIT_AS, resource.RLIMIT_DATA), _taken_bytes(), strict=True):
            limit, _ = resource.getrlimit(kind)
            if limit != resource.RLIM_INFINITY:
                yield limit - taken


def _taken_bytes(pid: int | None = None) -> tuple[int, int]:
    """Return the size of a process's addresses (of this one's without a number), and of the data among them."""
    pages = (_PROC / ("self" if pid is None else str(pid)) / "statm").read_text().split()
    return int(pages[0]) * resource.getpagesize(), int(pages[5]) * resource.getpagesize()


def _left_of_groups() -> Iterator[int]:
    """Yield what the memory limit of each control group leaves that this process is in."""
    with contextlib.suppress(OSError):
        for folder, group in _groups((_PROC / "self" / "cgroup").read_text(errors="surrogateescape")):
            limits = [int(text) for name in group.limits if (text := _text(folder / name)).isdecimal()]
            if limits and min(limits) < _NO_LIMIT:
                yield min(limits) - _taken_by(folder, group)


def _taken_by(folder: Path, group: _Files) -> int:
    reclaimable = re.search(rf"^{group.reclaimable} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
    return int(_text(folder / group.usage) or 0) - (int(reclaimable[1]) if reclaimable else 0)


def _text(path: Path) -> str:
    """Return what a file of a control group says; nothing where there is none, as in the topmost group."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@lru_cache(maxsize=1)
def _groups(groups: str) -> tuple[tuple[Path, _Files], ...]:
    """Return the folders of the memory control groups of this process, its own and all above it, and their files.

    Parameters
    ----------
    groups : str
        Its ``/proc/self/cgroup``: where that is the same, so are the folders.
    """
    mounts = (_PROC / "self" / "mountinfo").read_text(errors="surrogateescape")
    found = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        for mount, root in _mounts(mounts, "memory" if controllers else ""):
            # In a container the path may be that of the machine, of which only the container's own part is mounted
            inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
            found += [(mount / part, _V1 if controllers else _V2) for part in (inside, *inside.parents)]
    return tuple(found)


def _mounts(mounts: str, controller: str) -> Iterator[tuple[Path, str]]:
    """Yield where groups of this controller are mounted, and which of them is at the top there; of version 2 without.

    ``man 5 proc_pid_mountinfo`` describes the lines.
    """
    for line in mounts.splitlines():
        place, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        if kind == "cgroup" and controller in options.split(",") if controller else kind == "cgroup2":
            root, mount = (re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), n) for n in place.split(" ")[3:5])
            yield Path(mount), root
