"""Which processor runs a model: the CPU, or an Edge TPU with the CPU in reserve.

A model for the Edge TPU is the compiled ``NAME_edgetpu.tflite`` beside the ``NAME.tflite`` that it was compiled from.
The two have the same card and are one model, known by the digest of the latter: an image is not counted again because
the Edge TPU came or went. Which of them looked at an image is in its label image.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from cellseg_device import card as cards
from cellseg_device import edgetpu, segment, selftest
from cellseg_device.card import Card
from cellseg_device.errors import AcceleratorError, ModelError
from cellseg_device.graph import is_for_edgetpu
from cellseg_device.image import Image
from cellseg_device.model import Model
from cellseg_device.segment import Look, Stopwatch

_ENDING = "_edgetpu"
_FIRST_DELAY_S, _LONGEST_DELAY_S = 10.0, 600.0

Warn = Callable[[str], None]


class Accelerated:
    """A model for the Edge TPU and, to fall back on, the same one for the CPU: every image is looked at by one of them.

    Parameters
    ----------
    path : Path
        The compiled model.
    plain : Path or None
        What it was compiled from, where that is there.
    spare : Model or None
        `plain`, loaded; None where nothing goes without the Edge TPU.
    threads : int
    warn : callable
        Receives a line for the user.
    is_missed : bool
        Whether to tell of an Edge TPU that is not there at the start.

    Raises
    ------
    ModelError
        If `path` is not compiled, or `plain` is another model.
    AcceleratorError
        If no Edge TPU can be had and there is no spare.
    """

    def __init__(
        self, path: Path, plain: Path | None, spare: Model | None, threads: int, warn: Warn, is_missed: bool
    ) -> None:
        compiled = cards.read_model_file(path)
        if not is_for_edgetpu(compiled):
            raise ModelError(f"{path}: is not compiled for an Edge TPU: make it anew with 'cellseg-host edgetpu'")
        self.path = plain or path
        self.card: Card = _card(path, compiled)
        self.threads = threads
        self.files = {path: hashlib.sha256(compiled).hexdigest()}
        if plain is not None:
            data = cards.read_model_file(plain)
            self.files[plain] = hashlib.sha256(data).hexdigest()
            if _card(plain, data) != self.card:
                raise ModelError(
                    f"{path} and {plain.name} are not the same model (their cards differ): compile it again with "
                    "'cellseg-host edgetpu', or move one of them away"
                )
        self.sha256 = self.files[self.path]
        self._compiled = path
        self._spare = spare
        self._warn = warn
        self._tpu: Model | None = None
        self._since = self._due = time.monotonic()
        self._delay_s = _FIRST_DELAY_S
        try:
            self._tpu = self._opened()
        except AcceleratorError as error:
            if spare is None:
                raise
            self._wait()
            if is_missed:
                self._tell_of_loss(error)

    @property
    def accelerator(self) -> str:
        """What looks at images now: ``"cpu"`` or ``"edgetpu"``."""
        return "cpu" if self._tpu is None else "edgetpu"

    def look(self, image: Image, watch: Stopwatch, diameter_px: float | None) -> Look:
        """As `segment.look`; an image in whose middle the Edge TPU fails is looked at again by the CPU.

        Raises
        ------
        AcceleratorError
            If the Edge TPU fails and there is no spare.
        """
        self._return()
        if self._tpu is not None:
            try:
                return segment.look(image, self._tpu, watch, diameter_px)
            except AcceleratorError as error:
                self._tpu = None  # to let go of the device
                if self._spare is None:
                    raise AcceleratorError(f"{error.message}: {self._way_out()}") from None
                if time.monotonic() - self._since > _LONGEST_DELAY_S:
                    self._delay_s = _FIRST_DELAY_S
                self._wait()
                self._tell_of_loss(error)
        if self._spare is None:
            raise AcceleratorError(f"the Edge TPU has failed: {self._way_out()}")
        return segment.look(image, self._spare, watch, diameter_px)

    def _return(self) -> None:
        """Go back to the Edge TPU if it works again; looked for now and then."""
        if self._tpu is not None or self._spare is None or time.monotonic() < self._due:
            return
        if not edgetpu.devices():
            self._due = time.monotonic() + _FIRST_DELAY_S  # a look into a few files
            return
        try:
            self._tpu = self._opened()
        except AcceleratorError:
            self._wait()
        else:
            self._since = time.monotonic()
            self._warn(f"the Edge TPU works: counting goes on with it ({self._compiled.name})")

    def _wait(self) -> None:
        """Let some time pass until the next try, twice as long each time."""
        self._due = time.monotonic() + self._delay_s
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)

    def _way_out(self) -> str:
        plain = self._compiled.stem.removesuffix(_ENDING) + ".tflite"
        return f"see 'cellseg-device doctor'; with --accelerator auto and {plain} beside it the CPU would go on"

    def _tell_of_loss(self, error: AcceleratorError) -> None:
        self._warn(f"{error.message}: counting goes on with the CPU until the Edge TPU works")

    def _opened(self) -> Model:
        """Load the model on an Edge TPU, and see whether it counts there as it should."""
        _try_edgetpu()
        try:
            model = Model(self._compiled, self.threads, edgetpu.delegate())
        except (ValueError, OSError) as error:
            reason = (str(error).splitlines() or ["no reason given"])[-1]
            raise AcceleratorError(f"the Edge TPU cannot be had ({reason})") from None
        except ModelError as error:
            raise AcceleratorError(error.message) from None
        if model.card != self.card:
            raise AcceleratorError(f"{self._compiled} has been replaced by another model")
        fault = selftest.check(model)
        if fault is not None:
            if self._spare is not None:
                raise AcceleratorError(fault)
            self._warn(fault)
        return model


def look(image: Image, model: Model | Accelerated, watch: Stopwatch, diameter_px: float | None) -> Look:
    """`segment.look`, by whichever processor is at hand."""
    if isinstance(model, Accelerated):
        return model.look(image, watch, diameter_px)
    return segment.look(image, model, watch, diameter_px)


def load(path: Path, threads: int, choice: str, warn: Warn) -> Model | Accelerated:
    """Load a model for the processor that is wanted.

    Parameters
    ----------
    path : Path
        Either file of a pair.
    threads : int
    choice : str
        ``"cpu"``; ``"edgetpu"``, without which nothing goes; ``"auto"``: the Edge TPU where there is a compiled model,
        as long as it works, and else the CPU.
    warn : callable
        Receives a line for the user.

    Raises
    ------
    ModelError
        If a file that it takes is missing or refused.
    AcceleratorError
        If an Edge TPU is needed and cannot be used.
    """
    is_compiled = is_for_edgetpu(cards.read_model_file(path))
    plain = _plain(path) if is_compiled else path
    if choice == "cpu":
        if is_compiled:
            instead = f"name {plain}" if plain else "name what it was compiled from"
            raise ModelError(f"{path}: is compiled for an Edge TPU and does not run on the CPU: {instead}")
        return _plain_model(path, threads, warn)
    compiled = path if is_compiled else _compiled_beside(path)
    if compiled is None:
        if choice == "edgetpu":
            raise ModelError(
                f"{path}: is not compiled for an Edge TPU, and there is no {path.stem}{_ENDING}.tflite beside it: "
                "make one with 'cellseg-host edgetpu'"
            )
        return _plain_model(path, threads, warn)
    spare = _plain_model(plain, threads, warn) if choice == "auto" and plain is not None else None
    if is_compiled or choice == "edgetpu" or spare is None:
        return Accelerated(compiled, plain, spare, threads, warn, is_missed=True)
    try:
        return Accelerated(compiled, plain, spare, threads, warn, is_missed=False)
    except ModelError as error:  # which was not asked for by name
        warn(f"{error.message}; counting on the CPU")
        return spare


def _plain_model(path: Path, threads: int, warn: Warn) -> Model:
    model = Model(path, threads)
    warning = selftest.check(model)
    if warning is not None:
        warn(warning)
    return model


def _compiled_beside(path: Path) -> Path | None:
    """The model for the Edge TPU beside one for the CPU, if it is there."""
    compiled = path.with_name(f"{path.stem}{_ENDING}.tflite")
    return compiled if compiled.is_file() else None


def is_pair(path: Path) -> bool:
    """Whether a model is compiled for an Edge TPU, or has one beside it that is."""
    return is_for_edgetpu(cards.read_model_file(path)) or _compiled_beside(path) is not None


def _plain(compiled: Path) -> Path | None:
    """The model for the CPU beside one for the Edge TPU, if it is there."""
    plain = compiled.with_name(compiled.stem.removesuffix(_ENDING) + ".tflite")
    return plain if plain != compiled and plain.is_file() else None


def _card(path: Path, data: bytes) -> Card:
    try:
        return cards.read_from(data)
    except ModelError as error:
        raise ModelError(f"{path}: {error.message}") from None


@cache
def _try_edgetpu() -> None:
    """See in a process of its own whether libedgetpu works here; only a success is remembered.

    Raises
    ------
    AcceleratorError
    """
    state = edgetpu.state()
    if state.fault:
        raise AcceleratorError(f"no Edge TPU can be used ({state.fault}): {state.fix}")
