"""The model that is adapted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg_device.errors import InputError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card
from cellseg_device.model.interpreter import bundled_path
from cellseg_device.system import files

ARCH = "edge-unet"
BUNDLED = ("nuclei", "chamber")


@dataclass(frozen=True)
class Start:
    """A model file to go on from.

    Attributes
    ----------
    path : Path
    sha256 : str
    card : Card
    why : str
        Why it is this one, in words.
    """

    path: Path
    sha256: str
    card: Card
    why: str

    def settings(self) -> dict[str, Any]:
        """Return the settings of a training run that follow from it."""
        made = self.card.provenance.get("settings")
        border = made.get("border_weight") if isinstance(made, Mapping) else None
        heads = {output.quantity for output in self.card.outputs}
        return {
            "arch": ARCH,
            "heads": () if heads == {"foreground", "distance"} else tuple(sorted(heads, key="foreground".__ne__)),
            **({"border_weight": border} if isinstance(border, int | float) else {}),
            "init": str(self.path),
        }

    def at(self, path: Path) -> Start:
        """Return the same start from a copy of its file."""
        return dataclasses.replace(self, path=path)


def find(init: Path | None, card: Card | None, sha256: str, where: Path) -> Start:
    """Return the model to start from: the one that is named, else the one that the corrections were made with.

    Parameters
    ----------
    init : Path or None
    card : Card or None
        Of the model that the corrections were made with.
    sha256 : str
        Of its file; "" if that is not known.
    where : Path
        The corrections, for messages.

    Raises
    ------
    InputError
        If it cannot be trained on, or the corrections' model is not bundled and none is named.
    ModelError
        If the file is not a model.
    """
    if init is not None:
        return _start(init, "it is named by --init")
    if card is None:
        return _start(bundled_path(), "the corrections do not say which model made them")
    known = {name: files.sha256(bundled_path(name)) for name in BUNDLED}
    for name, digest in known.items():
        if digest == sha256:
            return _start(bundled_path(name), "the corrections were made with it")
    if card.name in known:
        return _start(bundled_path(card.name), "the corrections were made with another version of it")
    raise InputError(
        f"{where}: was made with the model {card.name}, which does not come with cellseg: name its file with --init"
    )


def _start(path: Path, why: str) -> Start:
    data = cards.read_model_file(path)
    card = cards.read_from(data)
    if card.output("foreground") is None:
        raise InputError(f"{path}: is a gate, which finds no cells: name a model that does with --init")
    made = card.provenance.get("settings")
    arch = made.get("arch") if isinstance(made, Mapping) else None
    if arch not in (None, ARCH):
        raise InputError(f"{path}: is of the network {arch}, which adapt does not train: use a model of {ARCH}")
    return Start(path, files.sha256(path), card, why)
