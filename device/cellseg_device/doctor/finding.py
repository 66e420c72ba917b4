"""A finding, what it is about, and its two sources: the system's files and the output of programs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellseg_device.pipeline.models import GateChoice

OK, WARNING, PROBLEM, ABSENT = "ok", "warning", "problem", "absent"
_SEVERITY = (ABSENT, OK, WARNING, PROBLEM)


@dataclass(frozen=True)
class Finding:
    """The result of one check.

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
class Subject:
    """What is checked.

    Attributes
    ----------
    out : Path
        Where results go, or will go.
    model : Path or None
        None for the bundled one.
    gate : Path, "none" or None
        As for `models.load`.
    root : Path
        Where ``/proc``, ``/sys``, ``/dev``, ``/run`` and ``/etc`` are.
    """

    out: Path
    model: Path | None = None
    gate: GateChoice = None
    root: Path = Path("/")


def worst(states: list[str]) -> str:
    """Return the most serious of these states; `ABSENT` for none."""
    return max(states, key=_SEVERITY.index, default=ABSENT)


def file_text(path: Path) -> str | None:
    """Return the text of a small file of the system, or None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def output_of(command: list[str], timeout_s: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Return what a program prints, and its exit code.

    Raises
    ------
    OSError
        If it cannot be run, or takes longer than `timeout_s`.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} does not answer within {timeout_s:.0f} s") from None
