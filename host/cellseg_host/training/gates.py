"""The gate in a classifier's card: what follows for an image of each class, before anybody says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from cellseg_device.model.gate_card import Gate, GateClass

# A presence classifier's classes, in the order in which the device has their probabilities
_PRESENCE = (GateClass("empty", "empty", None, "a field without a cell"), GateClass("cells", "segment", None, "cells"))


def usual(heads: Sequence[str], kinds: Sequence[str], side_px: int) -> Gate | None:
    """Return the gate of a network with these heads: None if it predicts maps.

    Parameters
    ----------
    heads : sequence of str
    kinds : sequence of str
        That the network tells apart, in the order of its output; images of each are segmented by the default model.
    side_px : int
        Side at which it was trained.
    """
    if tuple(heads) == ("presence",):
        return Gate(_PRESENCE, side_px, "squares")
    if tuple(heads) == ("kind",):
        return Gate(tuple(GateClass(kind, "segment", None, kind) for kind in kinds), side_px, "field")
    return None
