"""Whether this computer's runtime gives the bits that the model was evaluated with.

The model's card holds what it answered on the host for a field that ships in the package. Runtimes whose int8
kernels round otherwise (tflite-runtime; ai-edge-litert without XNNPACK) give other maps, and so other counts.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from cellseg_device import image as images
from cellseg_device.card import KnownAnswer
from cellseg_device.image import Image
from cellseg_device.model import RUNTIME, Model
from cellseg_device.segment import label, maps_digest, predict

_EDGETPU_TOLERANCE = 0.05  # of the cells; its arithmetic rounds otherwise


def known_image() -> Image:
    """The known field: fluorescent nuclei, 256 × 256 px, 8-bit grey."""
    return images.decode((resources.files("cellseg_device") / "data" / "field.png").read_bytes())


def answer(model: Model) -> KnownAnswer:
    """What the model answers here, on the known field."""
    field = known_image()
    maps = predict(field, model)
    labels = label(maps, field.shape, model.maps, model.card.separation)
    return KnownAnswer(
        maps_digest(maps), int(labels.max(initial=0)), hashlib.sha256(labels.astype("<u2").tobytes()).hexdigest()
    )


def agree(found: KnownAnswer, expected: KnownAnswer) -> bool:
    """Whether an answer is the expected one: the same maps and, where the card knows them, the same labels."""
    if expected.labels_sha256 not in (None, found.labels_sha256):
        return False
    return (found.sha256, found.cells) == (expected.sha256, expected.cells)


def check(model: Model) -> str | None:
    """Warning when the answer differs from the card's; None when it does not, or when it proves nothing.

    Only int8 arithmetic is expected to agree to the bit on different machines; of an Edge TPU, about the same number
    of cells is.
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
            "again, and look into 'cellseg-device doctor'"
        )
    if agree(found, expected):
        return None
    return (
        f"{RUNTIME} computes otherwise than the runtime this model was evaluated with (known field: {found.cells} "
        f"cells, expected {expected.cells}): counts may differ by a little. Install ai-edge-litert; in a chroot, "
        "mount /proc and /sys"
    )
