"""The start of a command line: half a second of imports on a small computer, in which Ctrl-C may come."""

from __future__ import annotations

import sys
from importlib import import_module

_EXIT_STOPPED = 1  # as `errors.EXIT_STOPPED`, which is not imported yet


def run(module: str) -> None:
    """Run the `main` of a module; Ctrl-C while that is being imported ends the process in one line."""
    try:
        main = import_module(module).main
    except KeyboardInterrupt:
        if sys.stderr is not None:
            print("stopped before anything was done", file=sys.stderr)
        raise SystemExit(_EXIT_STOPPED) from None
    main()
