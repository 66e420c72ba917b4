"""Virtual environments for the peers, made once and kept: each holds one peer and what it needs, nothing else."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEVICE = "cellseg-device"  # stands for this working copy's package, not an index's


class UnavailableError(Exception):
    """A peer cannot take part; the message says why."""


@dataclass(frozen=True)
class Environment:
    """What a peer needs.

    Attributes
    ----------
    name : str
        Of its folder.
    requirements : tuple of str
        As pip takes them.
    """

    name: str
    requirements: tuple[str, ...]


def ready(environment: Environment, folder: Path) -> Path:
    """The environment's Python; made first where it is not there, or was made for something else.

    Parameters
    ----------
    environment : Environment
    folder : Path
        Holds all environments.

    Raises
    ------
    UnavailableError
        If it cannot be installed.
    """
    place = folder.resolve() / environment.name
    python, stamp = place / "bin" / "python", place / "installed.txt"
    wanted = "\n".join(_stamped(environment))
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(place, ignore_errors=True)
    print(f"installing {', '.join(environment.requirements)} into {place}", flush=True)
    try:
        venv.create(place, with_pip=False, symlinks=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"no virtual environment could be made: {error}") from None
    with tempfile.TemporaryDirectory() as temporary:
        named = [_device(Path(temporary)) if r == DEVICE else r for r in environment.requirements]
        # The peer's environment is left without pip, so that its size is the peer's alone
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *named]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"not installed: {_reason(done.stderr)}")
    stamp.write_text(wanted)
    return python


def size_mb(python: Path) -> float:
    """Megabytes of all files that were installed into an environment."""
    packages = python.parent.parent.glob("lib/python*/site-packages/**/*")
    return sum(path.stat().st_size for path in packages if path.is_file() and not path.is_symlink()) / 1e6


def _stamped(environment: Environment) -> list[str]:
    """The requirements; this working copy's package with what it holds now."""
    return [f"{r} {_device_digest()}" if r == DEVICE else r for r in environment.requirements]


def _device_files() -> list[Path]:
    files = [ROOT / "device" / "setup.cfg", *(ROOT / "device" / "cellseg_device").rglob("*")]
    return sorted(path for path in files if path.is_file() and "__pycache__" not in path.parts)


def _device_digest() -> str:
    digest = hashlib.sha256()
    for path in _device_files():
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _device(folder: Path) -> str:
    """A copy of the package to install from, since a build leaves its traces beside the sources."""
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    return str(shutil.copytree(ROOT / "device", folder / "device", ignore=ignored))


def _reason(output: str) -> str:
    """The first of pip's lines that says what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    wrong = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    return (wrong or lines[-1:] or ["pip failed and does not say why"])[0]
