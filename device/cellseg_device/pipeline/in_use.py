"""The model that a results folder is counted with: ``OUT/models/in-use.tflite``, where none is named.

It replaces the model of its kind (`models.load`). The one that was in use before it is kept as ``before.tflite``, with
which it can be exchanged; and whatever was put there, under its digest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.errors import InputError, ModelError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card
from cellseg_device.pipeline import accelerator as accelerators
from cellseg_device.pipeline import models
from cellseg_device.pipeline.models import GateChoice, Models, Warn
from cellseg_device.system import files

FOLDER_NAME = "models"
IN_USE, BEFORE = "in-use.tflite", "before.tflite"
_DIGITS = 16  # of the digest that a kept model is named by


@dataclass(frozen=True)
class Kept:
    """A model that was put into the folder.

    Attributes
    ----------
    path : Path
    sha256 : str
    card : Card
    """

    path: Path
    sha256: str
    card: Card


def path_in(out: Path) -> Path:
    """Return where the model in use of a results folder is, if there is one."""
    return out / FOLDER_NAME / IN_USE


def keep(out: Path, data: bytes) -> Kept:
    """Put a model into the folder of a results folder under its digest, and return it; it is not used by that.

    The card is read, and it must be of a model with maps; the graph is not run here.

    Raises
    ------
    ModelError
        If it is not a model that cells can be found with.
    OSError
        If the disk fails.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    folder = _made(out)
    path = folder / f"{sha256[:_DIGITS]}.tflite"
    if not files.is_regular(path) or files.sha256(path) != sha256:
        files.write(path, data)
    try:
        return Kept(path, sha256, accelerators.card_of(path))
    except ModelError:
        path.unlink()
        raise


def kept(out: Path) -> list[Kept]:
    """Return the models that were put into the folder, the newest first; files that are no models are left out."""
    names = sorted((out / FOLDER_NAME).glob("[0-9a-f]" * _DIGITS + ".tflite"), key=_changed_ns, reverse=True)
    found = [_read(path) for path in names]
    return [one for one in found if one is not None]


def in_use(out: Path) -> Kept | None:
    """Return the model in use; None if there is none, or it is damaged."""
    return _read(path_in(out))


def before(out: Path) -> Kept | None:
    """Return the model that was in use before; None if there was none."""
    return _read(out / FOLDER_NAME / BEFORE)


def use(out: Path, data: bytes) -> Kept:
    """Use a model from now on, in place of the one in use, which is kept as the one before; it is replaced at once.

    Raises
    ------
    ModelError
        If it is not a model that cells can be found with.
    OSError
        If the disk fails; what was in use stays so.
    """
    made = keep(out, data)
    former = in_use(out)
    if former is None or former.sha256 != made.sha256:
        _set(out, data, None if former is None else former.path.read_bytes())
    return made


def back(out: Path) -> Kept | None:
    """Exchange the model in use and the one before it, and return what is in use now; None for the bundled ones.

    Raises
    ------
    InputError
        If no model was ever put into use.
    OSError
        If the disk fails.
    """
    now, former = in_use(out), before(out)
    if now is None and former is None:
        raise InputError(f"{out} never had a model of its own in use: the bundled ones count")
    _set(out, *(None if one is None else one.path.read_bytes() for one in (former, now)))
    return in_use(out)


def _set(out: Path, new: bytes | None, former: bytes | None) -> None:
    """Set the model in use and the one before; that one first, so that a stop between loses neither."""
    folder = _made(out)
    with files.write_lock(folder):
        for name, data in ((BEFORE, former), (IN_USE, new)):
            if data is not None:
                files.write(folder / name, data)
        for name, data in ((IN_USE, new), (BEFORE, former)):
            if data is None:
                (folder / name).unlink(missing_ok=True)
        files.sync_folder(folder)


def _made(out: Path) -> Path:
    """Return the folder, made if it is not there; raise an OSError if it is a link, which may lead anywhere."""
    folder = out / FOLDER_NAME
    folder.mkdir(exist_ok=True)
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{FOLDER_NAME} is a link: remove it", str(folder))
    return folder


def _read(path: Path) -> Kept | None:
    try:
        data = cards.read_model_file(path)
        return Kept(path, hashlib.sha256(data).hexdigest(), cards.read_from(data))
    except ModelError:
        return None


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@dataclass(frozen=True)
class Loading:
    """Loads what the images of a results folder are counted with.

    Attributes
    ----------
    out : Path
    model, gate, threads, accelerator, warn
        As for `models.load`.
    """

    out: Path
    model: Path | None
    gate: GateChoice
    threads: int
    accelerator: str
    warn: Warn

    @property
    def awaited(self) -> Path | None:
        """The file that changes what is used when it comes or goes; None where a model is named."""
        return path_in(self.out) if self.model is None else None

    def first(self) -> Models:
        """Return the models to begin with: if the one in use is refused those with the one before, or the bundled ones.

        Raises
        ------
        InputError, ModelError, AcceleratorError
            As from `models.load` without a model in use.
        """
        path = self.awaited
        if path is None or not os.path.lexists(path):
            return self._load(None)
        try:
            return self._load(path)
        except ModelError as error:
            fault = error.message
        former = path.with_name(BEFORE)
        if os.path.lexists(former):
            with contextlib.suppress(ModelError):
                found = self._load(former)
                self.warn(f"{fault}: counting with {former}, the model that was in use before it")
                return found
        found = self._load(None)
        self.warn(f"{fault}: counting with the bundled models")
        return found

    def again(self) -> Models:
        """Return the models as the files are now.

        Raises
        ------
        ModelError
            If one is refused, be it the one in use.
        """
        awaited = self.awaited
        return self._load(awaited if awaited is not None and os.path.lexists(awaited) else None)

    def _load(self, in_use: Path | None) -> Models:
        return models.load(self.model, self.gate, self.threads, self.accelerator, self.warn, in_use=in_use)
