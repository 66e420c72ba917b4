"""A model is run once in another process before this one loads it.

The runtime checks that a file is a whole flatbuffer, not that its operators fit each other: where one number of the
released graph is changed (an input of an operator, a type, a scale), two of a hundred such files end the process with
SIGSEGV or SIGABRT. Others take all the memory there is, or never end. None of this may end a watch that counts with the
model it has.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellseg_device.errors import ModelError
from cellseg_device.model.faults import as_model_faults
from cellseg_device.system import memory, processes

if TYPE_CHECKING:
    from cellseg_device.model.interpreter import Network

# The host's largest networks, as float32 in tiles of 1024 × 1024 px, take 2 to 22 s and 0.8 to 2.7 GB on a PC
_LIMIT_S = 120  # of the processor
_PATIENCE_S = 150.0  # by the clock: less than the watchdog of a service has
_MOST_MEMORY_BYTES = 4 << 30
_SIDE_PX = 256  # of the input, if a graph takes any size; that of the known field
_LONGEST_REASON = 200

# SHA-256 of the graphs that need no trial: the released ones, and those that have passed. A trial takes 0.2 s, and
# 'cellseg-device run' without one 0.5 s.
_passed = {
    "a2f67401c3296e1e978b97c927270950c4927bc42f053b69a9a9ebf58ab9a3a4",  # models/nuclei.tflite
    "7c4125db45c5fcf9496acefd6415fc0f510851c4b616936d96ade472c80f2cc7",  # models/nuclei-nano.tflite
    "ff52819fb466cc7a7b7c94e016bc154b734c71afc541af5d51f16e69484f69ac",  # models/chamber.tflite
    "c41ac9ea2ebc7e5592b4a8fe4899a1c452d3721ba1035cd0b58421fa72f6ae62",  # models/kind.tflite
}

# Signals are sent to all processes of a terminal or service: the first of them ends this one's parent after its image
_CHILD = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "from cellseg_device.model import trial; trial.run_from_stdin()"
)


def check(path: Path, data: bytes, flatbuffer: bytes) -> None:
    """Run a model in another process, within limits of memory and time; only once for each graph.

    Parameters
    ----------
    path : Path
        Named in messages; the file is not read again.
    data : bytes
        The model file.
    flatbuffer : bytes
        The file without its card.

    Raises
    ------
    ModelError
        If it is refused, crashes the runtime, or needs too much memory or time.
    """
    digest = hashlib.sha256(flatbuffer).hexdigest()
    if digest in _passed:
        return
    command = [sys.executable, "-c", _CHILD, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        tried = subprocess.run(
            command, input=data, capture_output=True, env=environment, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _too_slow(path) from None
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be tried ({error.strerror}): start it again") from None
    if tried.returncode < 0:
        raise _crash(path, -tried.returncode)
    lines = tried.stdout.splitlines()
    if tried.returncode or not lines:
        reason = (tried.stderr.decode(errors="replace").splitlines() or ["no reason given"])[-1]
        raise ModelError(f"{path}: the model cannot be tried ({reason[:_LONGEST_REASON]}): see 'cellseg-device doctor'")
    refusal = json.loads(lines[-1])
    if refusal is not None:
        raise ModelError(refusal)
    _passed.add(digest)


def run_from_stdin() -> None:
    """Run the model on standard input, and print as JSON why it is refused, or null: the other process's work."""
    from cellseg_device.model.classifier import open_network

    _limit()
    path, refusal = Path(sys.argv[1]), None
    try:
        with as_model_faults():
            _run(open_network(path, data=sys.stdin.buffer.read()))
    except ModelError as error:
        refusal = error.message
    print(json.dumps(refusal), flush=True)


def _limit() -> None:
    processes.give_up_first()
    resource.setrlimit(resource.RLIMIT_CPU, (_limit_s(), resource.getrlimit(resource.RLIMIT_CPU)[1]))
    memory.limit_to_available(os.getpid(), _MOST_MEMORY_BYTES)


def _limit_s() -> int:
    """Return the seconds of the processor that a trial may take: less than where this user's own limit ends it."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    return _LIMIT_S if hard == resource.RLIM_INFINITY else max(min(_LIMIT_S, hard - 1), 1)


def _run(model: Network) -> None:
    with as_model_faults(model.path):
        side = -(-_SIDE_PX // model.card.stride) * model.card.stride
        model.resize(*(model.tile or (side, side)))
        view = model.input_view()
        levels = (np.arange(view.size, dtype=np.uint32) * 37).astype(np.uint8).reshape(view.shape)
        view[...] = model.input_table(np.arange(256, dtype=np.uint8))[levels]
        del view  # the runtime does not run while it is held
        model.invoke()
        for output in model.card.outputs:
            detail, _ = model.output_detail(output)
            model.interpreter.get_tensor(detail["index"])


def _crash(path: Path, number: int) -> ModelError:
    """Return the error for a model that ended its process by a signal."""
    if number == signal.SIGXCPU:
        return _too_slow(path)
    if number == signal.SIGKILL:  # sent by the system when memory is short
        return ModelError(f"{path}: the model needs more memory than there is: use a smaller one")
    return ModelError(
        f"{path}: the model crashes the runtime ({signal.Signals(number).name}): copy it again, or make it again with "
        "'cellseg-host quantize'"
    )


def _too_slow(path: Path) -> ModelError:
    return ModelError(f"{path}: the model takes more than {_limit_s()} s for one tile: use a smaller one")
