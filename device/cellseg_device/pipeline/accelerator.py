"""Which processor runs a model: the CPU, or an Edge TPU with the CPU in reserve.

A model for the Edge TPU is the compiled ``NAME_edgetpu.tflite`` beside the ``NAME.tflite`` that it was compiled from.
The two have the same card and count as one model, identified by the digest of the latter, so that an image is not
counted again because an Edge TPU was plugged in or out. Which of them was used is recorded in the label image.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from cellseg_device.errors import AcceleratorError, InputError, ModelError
from cellseg_device.model import card as cards
from cellseg_device.model import edgetpu
from cellseg_device.model.card import Card
from cellseg_device.model.faults import as_model_faults
from cellseg_device.model.graph import is_for_edgetpu
from cellseg_device.model.interpreter import NO_MAPS, Model
from cellseg_device.pipeline import selftest
from cellseg_device.pipeline.predict import Runnable
from cellseg_device.system.delays import Delays

_ENDING = "_edgetpu"
_FIRST_DELAY_S, _LONGEST_DELAY_S = 10.0, 600.0

Warn = Callable[[str], None]
_T = TypeVar("_T")


class FallbackModel:
    """A model for the Edge TPU that falls back on the same model for the CPU; each image is predicted by one of them.

    Parameters
    ----------
    path : Path
        The compiled model.
    plain : Path or None
        The model it was compiled from, if that is there.
    spare : Model or None
        `plain`, loaded; None to fail without an Edge TPU.
    threads : int
    warn : callable
        Receives a line for the user.
    warns_if_absent : bool
        Whether to warn if there is no Edge TPU at the start.

    Raises
    ------
    ModelError
        If `path` is not compiled, or `plain` is another model.
    AcceleratorError
        If no Edge TPU is available and there is no spare.
    """

    def __init__(
        self,
        path: Path,
        plain: Path | None,
        spare: Model | None,
        *,
        threads: int,
        warn: Warn,
        warns_if_absent: bool,
    ) -> None:
        compiled = cards.read_model_file(path)
        if not is_for_edgetpu(compiled):
            raise ModelError(f"{path} is not compiled for an Edge TPU: make it again with 'cellseg-host edgetpu'")
        self.path = plain or path
        self.card: Card = _card(path, compiled)
        self.threads = threads
        self.files = {path: hashlib.sha256(compiled).hexdigest()}
        if plain is not None:
            data = cards.read_model_file(plain)
            self.files[plain] = hashlib.sha256(data).hexdigest()
            if _card(plain, data) != self.card:
                raise ModelError(
                    f"{path} and {plain.name} are not the same model (their cards differ): compile {plain.name} again "
                    "with 'cellseg-host edgetpu', or move one of them away"
                )
        self.sha256 = self.files[self.path]
        self._compiled = path
        self._spare = spare
        self._warn = warn
        self._tpu: Model | None = None
        self._since = self._due = time.monotonic()
        self._delays = Delays(_FIRST_DELAY_S, _LONGEST_DELAY_S)
        try:
            self._tpu = self._opened()
        except AcceleratorError as error:
            if spare is None:
                raise
            self._delay_next_try()
            if warns_if_absent:
                self._warn_of_loss(error)

    @property
    def accelerator(self) -> str:
        """Where images are predicted now: ``"cpu"`` or ``"edgetpu"``."""
        return "cpu" if self._tpu is None else "edgetpu"

    def attempt(self, work: Callable[[Model], _T]) -> _T:
        """Return `work(model)`, done with the Edge TPU or, if that fails on the way, from the start with the CPU.

        Raises
        ------
        AcceleratorError
            If the Edge TPU fails and there is no spare.
        """
        self._reopen_if_due()
        if self._tpu is not None:
            try:
                return work(self._tpu)
            except AcceleratorError as error:
                self._tpu = None  # frees the device
                if self._spare is None:
                    raise AcceleratorError(f"{error.message}: {self._way_out()}") from None
                if time.monotonic() - self._since > _LONGEST_DELAY_S:
                    self._delays.reset()
                self._delay_next_try()
                self._warn_of_loss(error)
        if self._spare is None:
            raise AcceleratorError(f"the Edge TPU has failed: {self._way_out()}")
        return work(self._spare)

    def _reopen_if_due(self) -> None:
        """Go back to the Edge TPU if it works again; this is tried every now and then."""
        if self._tpu is not None or self._spare is None or time.monotonic() < self._due:
            return
        if not edgetpu.devices():
            self._due = time.monotonic() + _FIRST_DELAY_S  # without backoff: looking reads only a few files
            return
        try:
            self._tpu = self._opened()
        except AcceleratorError:
            self._delay_next_try()
        else:
            self._since = time.monotonic()
            self._warn(f"the Edge TPU works: counting goes on with it ({self._compiled.name})")

    def _delay_next_try(self) -> None:
        """Set the time of the next try, after a delay that doubles each time."""
        self._due = time.monotonic() + self._delays.next_s()

    def _way_out(self) -> str:
        plain = self._compiled.stem.removesuffix(_ENDING) + ".tflite"
        return f"see 'cellseg-device doctor'; with --accelerator auto and {plain} beside it, the CPU would take over"

    def _warn_of_loss(self, error: AcceleratorError) -> None:
        self._warn(f"{error.message}: counting goes on with the CPU until the Edge TPU works")

    def _opened(self) -> Model:
        """Return the model loaded on an Edge TPU, after checking that it counts there as it should."""
        _try_edgetpu()
        try:
            model = Model(self._compiled, self.threads, edgetpu.delegate())
            if model.card != self.card:
                raise AcceleratorError(f"{self._compiled} has been replaced by another model")
            with as_model_faults(self._compiled):
                fault = selftest.check(model)
        except (ValueError, OSError) as error:
            reason = (str(error).splitlines() or ["no reason given"])[-1]
            raise AcceleratorError(f"the Edge TPU is not available ({reason})") from None
        except ModelError as error:
            raise AcceleratorError(error.message) from None
        if fault is not None:
            if self._spare is not None:
                raise AcceleratorError(fault)
            self._warn(fault)
        return model


def load(path: Path, threads: int, choice: str, warn: Warn) -> Runnable:
    """Return a model, loaded for the chosen processor.

    Parameters
    ----------
    path : Path
        Either file of a pair.
    threads : int
    choice : str
        ``"cpu"``; ``"edgetpu"``, to fail without one; or ``"auto"``: if there is a compiled model, the Edge TPU as long
        as it works, and otherwise the CPU.
    warn : callable
        Receives a line for the user.

    Raises
    ------
    InputError
        If there is no such choice.
    ModelError
        If a file that is needed is missing or refused.
    AcceleratorError
        If an Edge TPU is needed and cannot be used.
    """
    if choice not in ("auto", "cpu", "edgetpu"):
        raise InputError(f"there is no accelerator {choice!r}: choose auto, cpu or edgetpu")
    is_compiled = is_for_edgetpu(cards.read_model_file(path))
    plain = _plain(path) if is_compiled else path
    if choice == "cpu":
        if is_compiled:
            instead = f"name {plain}" if plain else "name the model it was compiled from"
            raise ModelError(f"{path} is compiled for an Edge TPU and does not run on the CPU: {instead}")
        return _plain_model(path, threads, warn)
    compiled = path if is_compiled else _compiled_beside(path)
    if compiled is None:
        if choice == "edgetpu":
            raise _not_compiled(path)
        return _plain_model(path, threads, warn)
    spare = _plain_model(plain, threads, warn) if choice == "auto" and plain is not None else None
    if is_compiled or choice == "edgetpu" or spare is None:
        return FallbackModel(compiled, plain, spare, threads=threads, warn=warn, warns_if_absent=True)
    try:
        return FallbackModel(compiled, plain, spare, threads=threads, warn=warn, warns_if_absent=False)
    except ModelError as error:  # the compiled model was not named by the user
        warn(f"{error.message}; counting on the CPU")
        return spare


def files_of(path: Path, choice: str) -> dict[Path, str]:
    """Return the SHA-256 of the files that `load` takes for a model for the CPU: of that, and of one compiled from it.

    Raises
    ------
    ModelError
        If it cannot be read, or is not compiled although it is to run on an Edge TPU alone.
    """
    compiled = None if choice == "cpu" else _compiled_beside(path)
    if compiled is None and choice == "edgetpu":
        raise _not_compiled(path)
    paths = [path] if compiled is None else [path, compiled]
    return {each: hashlib.sha256(cards.read_model_file(each)).hexdigest() for each in paths}


def card_of(path: Path) -> Card:
    """Return the card of a model that predicts maps, without loading it.

    Raises
    ------
    ModelError
        If it cannot be read, has no card, or is a classifier.
    """
    card = cards.of_file(path)
    if card.output("foreground") is None:
        raise ModelError(f"{path}: {NO_MAPS}")
    return card


def _not_compiled(path: Path) -> ModelError:
    return ModelError(
        f"{path} is not compiled for an Edge TPU, and there is no {path.stem}{_ENDING}.tflite beside it: make one with "
        "'cellseg-host edgetpu'"
    )


def _plain_model(path: Path, threads: int, warn: Warn) -> Model:
    model = Model(path, threads)
    with as_model_faults(path):
        warning = selftest.check(model)
    if warning is not None:
        warn(warning)
    return model


def _compiled_beside(path: Path) -> Path | None:
    """Return the model for the Edge TPU beside one for the CPU, if it is there."""
    compiled = path.with_name(f"{path.stem}{_ENDING}.tflite")
    return compiled if os.path.isfile(compiled) else None  # noqa: PTH113 - raises nothing


def is_pair(path: Path) -> bool:
    """Return whether a model is compiled for an Edge TPU, or has one beside it that is."""
    return is_for_edgetpu(cards.read_model_file(path)) or _compiled_beside(path) is not None


def _plain(compiled: Path) -> Path | None:
    """Return the model for the CPU beside one for the Edge TPU, if it is there."""
    plain = compiled.with_name(compiled.stem.removesuffix(_ENDING) + ".tflite")
    return plain if plain != compiled and os.path.isfile(plain) else None  # noqa: PTH113 - raises nothing


def _card(path: Path, data: bytes) -> Card:
    with as_model_faults(path):
        return cards.read_from(data)


@cache
def _try_edgetpu() -> None:
    """Check in another process that libedgetpu works here; only a success is remembered.

    Raises
    ------
    AcceleratorError
        If it does not.
    """
    state = edgetpu.state()
    if state.fault:
        raise AcceleratorError(f"no Edge TPU can be used ({state.fault}): {state.fix}")
