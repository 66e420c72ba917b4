"""The memory of this process: how much it took, and that what it lets go of goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE_BYTES = 8 << 20
_KEPT_BYTES = 64 << 20  # of smaller blocks, so that images of two megapixels do not fetch their memory anew each time


def return_large_blocks() -> None:
    """Have the C library give freed blocks of 8 MiB and more back at once; where it is not glibc, do nothing.

    Left to itself it raises that limit to the largest block it has seen, up to 32 MiB, and what a large image leaves
    behind then stays with the process: 100 MB and more of holes.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def peak_rss_mb() -> float:
    """Largest memory this process has held, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def limit_to_available(most_bytes: int) -> None:
    """Let this process take no more memory than is available now, nor than `most_bytes`: more is a MemoryError.

    Without /proc do nothing.
    """
    with contextlib.suppress(OSError, ValueError, OverflowError):  # the last two where addresses have 32 bits
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if available:
            limit = taken + min(int(available[1]) * 1024, most_bytes)
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
