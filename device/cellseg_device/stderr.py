"""Standard error without the messages of libraries, and standard output that cannot be written.

Libraries' own messages are held back; messages for the user are printed all the same.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import click

# All threads share standard error: while one of them holds it back, the others wait before they print
_STDERR = threading.RLock()
_MOST_KEPT_BYTES = 4096


@contextmanager
def quiet_stderr() -> Iterator[Callable[[], bytes]]:
    """Hold back what a library's C code prints on standard error.

    Yields a function that returns what was printed, because some libraries report a fault nowhere else.
    """
    with _STDERR, _memory_file() as held:
        kept = os.dup(2)
        try:
            os.dup2(held.fileno(), 2)
            yield lambda: os.pread(held.fileno(), _MOST_KEPT_BYTES, 0)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _memory_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):  # only Linux has it
        return open(os.memfd_create("cellseg-stderr"), "r+b", buffering=0)
    return tempfile.TemporaryFile()


def say(text: str, *, nl: bool = True) -> None:
    """Print for the user on standard error, after any thread that holds it back."""
    with _STDERR:
        click.echo(text, nl=nl, err=True)


def say_error(text: str) -> None:
    """Print an error: something was not done."""
    say(f"error: {text}")


def say_warning(text: str) -> None:
    """Print a warning: the work goes on."""
    say(f"warning: {text}")


def is_of_printing(error: OSError) -> bool:
    """Return whether an error was raised by printing, and not by a file of ours."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code is click.echo.__code__


def drop_pending_output() -> None:
    """Discard output that could not be written, which would otherwise be tried again with every line and at the end."""
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        sys.stdout.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
