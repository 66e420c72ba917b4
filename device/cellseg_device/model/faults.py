"""Which errors a model file causes: ModelError, whatever is in it, so that a running watch can go on without it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellseg_device.errors import AcceleratorError, CellsegError, InputError, ModelError

_LONGEST = 200


@contextmanager
def as_model_faults(path: Path | None = None) -> Iterator[None]:
    """Raise ModelError for a lack of memory, and for every error that the runtime, a library or we raise for a model.

    Parameters
    ----------
    path : Path or None
        The file that the message names first; None where the block's own ModelErrors do that.
    """
    name = "" if path is None else f"{path}: "
    try:
        yield
    except (InputError, AcceleratorError):  # of what was asked for, and of the device
        raise
    except CellsegError as error:
        raise ModelError(f"{name}{error.message}") from None
    except MemoryError:
        raise ModelError(f"{name}the model needs more memory than there is: use a smaller one") from None
    except Exception as error:
        raise ModelError(
            f"{name}the model cannot be run ({type(error).__name__}: {first_line(error)}): make it again with "
            "'cellseg-host quantize'"
        ) from error


def not_quantized(path: Path) -> ModelError | None:
    """Return the error for a training run, or a file of one, in place of a model; None for anything else."""
    run = path if path.is_dir() else path.parent
    if not (run / "run.json").is_file():
        return None
    what = "a training run" if run == path else "a file of a training run"
    return ModelError(
        f"{path} is {what}, not a .tflite model: quantize it first: cellseg-host quantize {shlex.quote(str(run))} "
        "--int8 --data DATASET --out NAME.tflite"
    )


def first_line(error: Exception) -> str:
    """Return what an error says, in one short line; names in a graph may hold control characters."""
    line = (str(error).splitlines() or ["no reason given"])[0][:_LONGEST]
    return "".join(character if character.isprintable() else "?" for character in line)
