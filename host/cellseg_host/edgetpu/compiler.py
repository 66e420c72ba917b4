"""Google's ``edgetpu_compiler``, where it is installed: run it, read its log, and compare the prediction with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellseg_device.errors import CellsegError
from cellseg_device.model import card as cards
from cellseg_host.edgetpu.check import Verdict

COMMAND = "edgetpu_compiler"
TIME_LIMIT_S = 180  # the compiler's own default
MAPPED = "Mapped to Edge TPU"

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ROW = re.compile(r"^(\S+)\s+(\d+)\s+(\S.*?)\s*$")
# Starts of lines that say what went wrong; and what to do about it
_COMPLAINTS = ("ERROR: ", "Invalid model", "Model could not", "Model not ", "Compilation failed: ", "Internal compiler")
_HINTS = {
    "could not be parsed": "an operator is newer than the compiler: see what the check names",
    "not quantized": "quantize the model with --int8",
    "dynamic-sized": "fix the input's size: quantize with --tile 256",
    "large activation": "use a smaller --tile, or a network of fewer channels",
    "Internal compiler error": "try a smaller --tile: some sizes break the compiler",
}


class CompilerError(CellsegError):
    """The compiler does not run, or does not compile the model."""

    exit_code = 1


@dataclass(frozen=True)
class Row:
    """A line of the compiler's table: a number of operators of one kind with the same status."""

    op: str
    count: int
    status: str


@dataclass(frozen=True)
class Compilation:
    """A compiled model, with what the compiler's log says.

    Attributes
    ----------
    version : str
        ``"16.0.384591198"``
    subgraphs : int
        Parts that run on the TPU.
    on_chip_bytes, off_chip_bytes : int
        Of parameters, as precisely as the log's two decimals say.
    rows : tuple of Row
    data : bytes
        The compiled .tflite, without a card.
    """

    version: str
    subgraphs: int
    on_chip_bytes: int
    off_chip_bytes: int
    rows: tuple[Row, ...]
    data: bytes = field(default=b"", repr=False)

    @property
    def mapped(self) -> Counter[str]:
        """Number of operators of each kind on the TPU."""
        return Counter({r.op: r.count for r in self.rows if r.status == MAPPED})

    @property
    def on_tpu(self) -> int:
        """Number of operators on the TPU."""
        return self.mapped.total()

    @property
    def on_cpu(self) -> int:
        """Number of operators on the CPU."""
        return sum(r.count for r in self.rows) - self.on_tpu

    def as_dict(self) -> dict[str, Any]:
        """Return all but the compiled model, for JSON."""
        return {
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "data"},
            "operators_on_tpu": self.on_tpu,
            "operators_on_cpu": self.on_cpu,
        }


@dataclass(frozen=True)
class Difference:
    """A kind of operator of which the compiler maps more or fewer than predicted, and the status of the others."""

    op: str
    predicted: int
    mapped: int
    statuses: tuple[str, ...]


def find() -> Path | None:
    """Return the compiler's path, or None if it is not on the PATH."""
    found = shutil.which(COMMAND)
    return Path(found) if found else None


def compile_model(data: bytes, command: Path, time_limit_s: float = TIME_LIMIT_S) -> Compilation:
    """Compile a model in a temporary folder.

    Parameters
    ----------
    data : bytes
        A .tflite; its card is left out, since the compiler does not keep it.
    command : Path
    time_limit_s : float

    Raises
    ------
    CompilerError
        If the compiler cannot be run, fails, takes too long or writes nothing.
    """
    version = _version(command)
    with tempfile.TemporaryDirectory() as folder:
        model, out = Path(folder) / "model.tflite", Path(folder) / "out"
        model.write_bytes(cards.strip(data))
        out.mkdir()
        limit = ["-t", str(max(round(time_limit_s), 1))] if int(version.split(".")[0]) >= 16 else []
        said = _run([str(command), "-s", *limit, "-o", str(out), str(model)], time_limit_s)
        compiled, log = out / "model_edgetpu.tflite", out / "model_edgetpu.log"
        if not compiled.is_file():
            raise CompilerError(f"{COMMAND} {version} wrote no model: {_reason(said)}")
        table = log.read_text(errors="replace") if log.is_file() else said
        return parse_log(said, table, version, compiled.read_bytes())


def parse_log(said: str, table: str, version: str = "", data: bytes = b"") -> Compilation:
    """Return what the compiler's output says.

    Parameters
    ----------
    said : str
        Its standard output.
    table : str
        Text that holds the table of operators: the operation log, or the same output with ``-s``.

    Raises
    ------
    CompilerError
        If the log is not of the form of compilers 14 to 16.
    """
    try:
        return Compilation(
            version or _match(r"Edge TPU Compiler version (\S+)", said),
            int(_match(r"Number of Edge TPU subgraphs: (\d+)", said)),
            _bytes(_match(r"On-chip memory used for caching model parameters: (\S+)", said)),
            _bytes(_match(r"Off-chip memory used for streaming uncached model parameters: (\S+)", said)),
            _rows(table),
            data,
        )
    except (LookupError, ValueError):
        raise CompilerError(f"{COMMAND}'s log cannot be read: {_reason(said)}") from None


def differences(verdict: Verdict, compilation: Compilation) -> tuple[Difference, ...]:
    """Return the kinds of operators of which the compiler maps more or fewer than predicted."""
    predicted = Counter(layer.op for layer in verdict.on_tpu)
    mapped = compilation.mapped
    return tuple(
        Difference(
            op,
            predicted[op],
            mapped[op],
            tuple(sorted({r.status for r in compilation.rows if r.op == op and r.status != MAPPED})),
        )
        for op in sorted(predicted | mapped)
        if predicted[op] != mapped[op]
    )


def _version(command: Path) -> str:
    """Return the compiler's version."""
    said = _run([str(command), "--version"], 30)
    found = re.search(r"(\d+\.\d+(\.\d+)*)", said)
    if not found:
        raise CompilerError(f"{command} does not print its version: {_reason(said)}: is it the Edge TPU compiler?")
    return found[1]


def _run(arguments: list[str], time_limit_s: float) -> str:
    """Run the compiler to its end and return its output; raise if it fails or takes too long."""
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it compiles in a child process, which must end with it
        )
    except OSError as error:
        raise CompilerError(f"{arguments[0]} cannot be run ({error.strerror}): install it again") from None
    with process:
        try:
            said = process.communicate(timeout=time_limit_s)[0].decode(errors="replace")
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CompilerError(
                    f"{COMMAND} was stopped after {time_limit_s:g} s: raise --time-limit, or use a smaller --tile"
                ) from None
            raise
    if process.returncode:
        raise CompilerError(f"{COMMAND} failed with exit code {process.returncode}: {_reason(said)}")
    return said


def _reason(said: str) -> str:
    """Return the compiler's error messages in one line, with what to do."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith(_COMPLAINTS) and "Registration failed" not in line]
    reason = "; ".join(dict.fromkeys(complaints)) or (lines[-1] if lines else "it printed nothing")
    hint = next((hint for words, hint in _HINTS.items() if words in reason), f"run {COMMAND} by hand to see more")
    return f"{reason[:300].rstrip('.')} ({hint})"


def _match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if not found:
        raise LookupError(pattern)
    return found[1]


def _bytes(text: str) -> int:
    """Return the number of bytes in a text such as ``1.21MiB``."""
    unit = text.lstrip("0123456789.")
    return round(float(text.removesuffix(unit)) * _UNITS[unit])


def _rows(table: str) -> tuple[Row, ...]:
    lines = iter(table.splitlines())
    for line in lines:
        if line.split() == ["Operator", "Count", "Status"]:
            break
    rows = [_ROW.match(line) for line in lines]
    return tuple(Row(r[1], int(r[2]), r[3]) for r in rows if r)
