"""Waiting for what fails for a while, such as a full disk or a network drive: longer each time, and said once."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from cellseg_device.system import notify
from cellseg_device.system.delays import Delays

# After these at the start, the output folder may take results later; after any other it never will.
_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def may_pass(error: OSError) -> bool:
    """Whether an output folder that fails with this error at the start may take results later."""
    return error.errno in _MAY_PASS


class Backoff:
    """Keeps track of one thing that may fail for a while: says so once, and waits twice as long each time.

    Parameters
    ----------
    fault, passed : str
        What is said of the first fault, and when it works again.
    warn : callable
        Receives a line for the user.
    """

    def __init__(self, fault: str, passed: str, warn: Callable[[str], None]) -> None:
        self._fault, self._passed, self._warn = fault, passed, warn
        self._delays = Delays()
        self._is_failing = False
        self._until = 0.0

    def fault(self, error: OSError) -> float:
        """Take note of a fault; returns the seconds to wait."""
        if not self._is_failing:
            fault = f"{self._fault} ({error.strerror}): trying again until it works"
            self._warn(fault)
            notify.status(fault)
        self._is_failing = True
        delay_s = self._delays.next_s()
        self._until = time.monotonic() + delay_s
        return delay_s

    def passed(self) -> bool:
        """Take note that it works; returns whether it did not before."""
        if not self._is_failing:
            return False
        self._warn(self._passed)
        self._is_failing = False
        self._delays.reset()
        return True

    def left_s(self) -> float:
        """Return how many seconds of the time to wait are left."""
        return max(self._until - time.monotonic(), 0.0)
