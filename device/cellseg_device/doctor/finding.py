"""A finding, what is asked for, and the two ways of looking: into a file, and at what a program says."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

OK, WARNING, PROBLEM, ABSENT = "ok", "warning", "problem", "absent"
_SEVERITY = (ABSENT, OK, WARNING, PROBLEM)


@dataclass(frozen=True)
class Finding:
    """What one look has found.

    Attributes
    ----------
    name : str
    state : str
        `OK`; `WARNING`: it works, but worse or not for long; `PROBLEM`: it does not work; `ABSENT`: not here, and
        nothing needs it.
    text : str
        One line.
    fix : str or None
        What to do, in one line; None where there is nothing to do.
    """

    name: str
    state: str
    text: str
    fix: str | None = None


@dataclass(frozen=True)
class Asked:
    """What the looks are about.

    Attributes
    ----------
    out : Path
        Where results go, or will.
    model : Path or None
        None for the bundled one.
    root : Path
        Where ``/proc``, ``/sys``, ``/dev``, ``/run`` and ``/etc`` are.
    """

    out: Path
    model: Path | None = None
    root: Path = Path("/")


def worst(states: list[str]) -> str:
    """The state that matters most; `ABSENT` for none."""
    return max(states, key=_SEVERITY.index, default=ABSENT)


def told(path: Path) -> str | None:
    """What a small file of the system says; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def said(command: list[str], seconds: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Raises
    ------
    OSError
        Where it cannot be run, or takes longer.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} does not answer within {seconds:.0f} s") from None
