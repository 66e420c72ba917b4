"""What a forked process keeps of the one it came from."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_FIRST = 3  # after standard input, output and error


def close_all_but(*descriptors: int) -> None:
    """Close every open file but standard input, output and error, and these."""
    try:
        there = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    except OSError:
        there = list(range(_FIRST, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16)))
    for descriptor in there:
        if descriptor >= _FIRST and descriptor not in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def end_with_parent() -> None:
    """Have the system kill this process when the thread that forked it ends; does nothing where it cannot."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def give_up_first() -> None:
    """Have the system kill this process first if memory runs short, and leave no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def cpu_s(pid: int) -> float:
    """Return the seconds of the processor that a process has taken; raise OSError if there is none."""
    return time.clock_gettime(~pid << 3 | 2)  # its clock's number, as clock_getcpuclockid(3) gives it
