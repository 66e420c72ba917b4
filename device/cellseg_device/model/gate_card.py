"""What a classifier's card says of it as a gate: which classes it tells apart, and what follows for each."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from cellseg_device.model.fields import Fields

FOLLOWS = ("segment", "empty", "flag")
SEES = ("field", "squares")
PRESENCE_CLASSES = 2  # no cell, a cell
LONGEST_NAME = 255  # as that of a file, after which models are named

_MOST_CLASSES = 64
_SIDE_PX = 16, 4096  # of what a gate sees
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class GateClass:
    """What follows if an image is of this class.

    Attributes
    ----------
    name : str
        Goes into ``counts.csv``.
    follows : str
        ``"segment"``; ``"empty"``: nothing is segmented, the count is 0, which the flags say; or ``"flag"``: segment,
        and flag the image as unlike what the models are made for.
    model : str or None
        Name of the model that an image of this class is segmented with; None for the default one.
    looks_like : str
        What an image of this class looks like, in words that a flag can end with, as "a blood smear".
    """

    name: str
    follows: str
    model: str | None
    looks_like: str

    @property
    def is_segmented(self) -> bool:
        """Whether cells are looked for in an image of this class."""
        return self.follows != "empty"


@dataclass(frozen=True)
class Gate:
    """How a classifier is used before the segmentation.

    Attributes
    ----------
    classes : tuple of GateClass
        In the order of the output's channels. Of a presence output, with its one channel, the class without a cell and
        the class with one.
    side_px : int
        See `sees`.
    sees : str
        ``"field"``: the image as a whole, made small until its longer side is at most `side_px`; or ``"squares"``:
        squares of this side, which together cover it.
    sure_from : float
        An image whose class has a lower probability is flagged as unlike what the models are made for.
    """

    classes: tuple[GateClass, ...]
    side_px: int
    sees: str
    sure_from: float = 0.0


def parse(raw: object) -> Gate:
    """Return the gate in a card's field of this name; raises ValueError with a reason."""
    given = Fields(raw, "'gate'")
    classes = given.take("classes")
    if not isinstance(classes, list) or not 2 <= len(classes) <= _MOST_CLASSES:
        raise ValueError(f"'classes' is not a list of 2 to {_MOST_CLASSES}")
    gate = Gate(
        tuple(map(_gate_class, classes)),
        given.whole("side_px", *_SIDE_PX),
        given.word("sees", SEES),
        given.number("sure_from", 0, 1, 0.0),
    )
    given.end()
    return gate


def check(gate: Gate, quantities: Collection[str]) -> None:
    """Raise ValueError for a gate that no classifier with outputs of these quantities can be."""
    if "foreground" in quantities:
        raise ValueError("a model with maps is no gate")
    if len({found.name for found in gate.classes}) < len(gate.classes):
        raise ValueError("two classes of one name")
    if "kind" not in quantities and len(gate.classes) != PRESENCE_CLASSES:
        raise ValueError("a gate that says whether there is a cell has two classes")
    if "kind" in quantities and gate.sees != "field":
        raise ValueError("a gate that sees squares only says whether there is a cell")


def _gate_class(raw: object) -> GateClass:
    given = Fields(raw, "a class")
    found = GateClass(
        given.line("name", LONGEST_NAME),
        given.word("follows", FOLLOWS),
        given.line("model", LONGEST_NAME) if given.has("model") else None,
        given.line("looks_like", LONGEST_NAME),
    )
    given.end()
    if found.model is not None and not _MODEL_NAME.fullmatch(found.model):
        raise ValueError("'model' is not a name of letters, digits, '-', '_' and '.'")  # it becomes that of a file
    return found
