"""Whether this computer's runtime computes exactly what the model was evaluated with.

The model's card holds its answer, computed on the host, for a field that is part of the package. Runtimes whose int8
kernels round differently (tflite-runtime; ai-edge-litert without XNNPACK) give other maps, and so other counts.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from cellseg_device.image.decode import decode
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import KnownAnswer
from cellseg_device.model.classifier import Classifier
from cellseg_device.model.interpreter import RUNTIME, Model
from cellseg_device.pipeline import gate as gates
from cellseg_device.pipeline.predict import maps_digest, predict_maps
from cellseg_device.pipeline.segment import label

_EDGETPU_TOLERANCE = 0.05  # fraction of the cells; an Edge TPU rounds differently


def known_image() -> Image:
    """Return the known field: fluorescent nuclei, 256 × 256 px, 8-bit grey."""
    return decode((resources.files("cellseg_device") / "data" / "field.png").read_bytes())


def answer(model: Model) -> KnownAnswer:
    """Return what the model answers here for the known field."""
    field = known_image()
    maps = predict_maps(field, model)
    labels = label(maps, field.shape, model.maps, model.card.separation)
    return KnownAnswer(
        maps_digest(maps), int(labels.max(initial=0)), hashlib.sha256(labels.astype("<u2").tobytes()).hexdigest()
    )


def gate_answer(gate: Classifier) -> KnownAnswer:
    """Return what a gate answers here for the known field: a digest of the tensors, and the class's number as `cells`.

    Raises
    ------
    ModelError
        If the classifier has no gate in its card, or the runtime fails.
    """
    digest = hashlib.sha256()
    for view in gates.seen(known_image(), gate):
        digest.update(gate.answer(view).tobytes())
    found = gates.classify(known_image(), gate).found
    return KnownAnswer(digest.hexdigest(), gates.of(gate).classes.index(found))


def agree(found: KnownAnswer, expected: KnownAnswer) -> bool:
    """Return whether an answer is the expected one: the same maps and, if the card has them, the same labels."""
    if expected.labels_sha256 not in (None, found.labels_sha256):
        return False
    return (found.sha256, found.cells) == (expected.sha256, expected.cells)


def check_gate(gate: Classifier) -> str | None:
    """Return a warning if a gate's answer differs from its card's; None if it does not, or if that proves nothing."""
    expected = gate.card.known_answer
    if expected is None or gate.card.quantization != "int8" or agree(gate_answer(gate), expected):
        return None
    return (
        f"{RUNTIME} does not compute exactly what the gate {gate.card.name} was evaluated with, so a few images may be "
        "taken for another class: install ai-edge-litert; in a chroot, mount /proc and /sys"
    )


def check(model: Model) -> str | None:
    """Return a warning if the answer differs from the card's; None if it does not, or if that proves nothing.

    Only int8 arithmetic should give exactly the same on different machines; from an Edge TPU, about the same number of
    cells is expected.
    """
    expected = model.card.known_answer
    if expected is None or model.card.quantization != "int8":
        return None
    found = answer(model)
    if model.accelerator == "edgetpu":
        if abs(found.cells - expected.cells) <= max(_EDGETPU_TOLERANCE * expected.cells, 1):
            return None
        return (
            f"the Edge TPU finds {found.cells} cells in the known field, not about {expected.cells}: compile the model "
            "again, and run 'cellseg-device doctor'"
        )
    if agree(found, expected):
        return None
    return (
        f"{RUNTIME} does not compute exactly what this model was evaluated with (known field: {found.cells} cells, "
        f"expected {expected.cells}), so counts may differ a little: install ai-edge-litert; in a chroot, mount /proc "
        "and /sys"
    )
