"""Libraries that write on standard error are asked to keep it to themselves; what is for the user goes past them.

And what becomes of standard output that cannot be written.
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

# Standard error is one for all threads: while one holds it back, the others wait with what they have to say.
_STDERR = threading.RLock()
_MOST_HEARD_BYTES = 4096


@contextmanager
def quiet_stderr() -> Iterator[Callable[[], bytes]]:
    """Hold back what a library's C code writes on standard error; its errors are raised as well.

    Yields what tells it: a library that goes on after a fault may say so nowhere else.
    """
    with _STDERR, _memory_file() as held:
        kept = os.dup(2)
        try:
            os.dup2(held.fileno(), 2)
            yield lambda: os.pread(held.fileno(), _MOST_HEARD_BYTES, 0)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _memory_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):  # Linux has it
        return open(os.memfd_create("cellseg-stderr"), "r+b", buffering=0)
    return tempfile.TemporaryFile()


def say(text: str, nl: bool = True) -> None:
    """Print for the user on standard error, whatever other threads hold back."""
    with _STDERR:
        click.echo(text, nl=nl, err=True)


def is_of_printing(error: OSError) -> bool:
    """Whether an error came out of printing, rather than from a file of ours."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code is click.echo.__code__


def drop_pending_output() -> None:
    """Let go of what could not be written, or it would be tried again with every line and at the end."""
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        sys.stdout.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
