"""How long to wait before what has failed is tried again."""

from __future__ import annotations


class Delays:
    """The times to wait after faults in a row: each twice as long as the one before, up to a longest one.

    Parameters
    ----------
    first_s, longest_s : float

    Examples
    --------
    >>> delays = Delays(1.0, 5.0)
    >>> [delays.next_s() for fault in range(4)]
    [1.0, 2.0, 4.0, 5.0]
    >>> delays.reset()
    >>> delays.next_s()
    1.0
    """

    def __init__(self, first_s: float = 1.0, longest_s: float = 60.0) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the seconds to wait after one more fault."""
        delay_s = self._next_s
        self._next_s = min(2 * delay_s, self._longest_s)
        return delay_s

    def reset(self) -> None:
        """Begin again, since it works."""
        self._next_s = self._first_s
