"""A model that lost too much accuracy by quantization is refused."""

from __future__ import annotations

from cellseg_device.errors import EXIT_IMAGES_FAILED, CellsegError, InputError
from cellseg_device.suggestions import unknown
from cellseg_host.quantize.pipeline import Quantized

# The first of these that a model has is the one that counts
_USUAL = ("ap50", "auc", "accuracy")


class DropError(CellsegError):
    """The quantized model is worse than its float network by more than is allowed."""

    exit_code = EXIT_IMAGES_FAILED


def check(quantized: Quantized, max_drop: float, metric: str | None = None) -> None:
    """Raise if a model lost too much.

    Parameters
    ----------
    quantized : Quantized
    max_drop : float
        Largest loss of `metric` against the float network, on the validation split.
    metric : str or None
        One of `Scored.metrics`; None for ``"ap50"``, or, of a classifier, ``"auc"`` or ``"accuracy"`` of kinds.

    Raises
    ------
    DropError
        If it lost more than `max_drop`.
    InputError
        If the model has no such number.
    """
    metric = metric or next(name for name in _USUAL if name in quantized.before.metrics)
    before, after = (scored.metrics.get(metric) for scored in (quantized.before, quantized.after))
    if not (isinstance(before, float) and isinstance(after, float)):
        known = [k for k, v in quantized.before.metrics.items() if isinstance(v, float)]
        raise InputError(f"--metric: the model has {unknown('score', metric, known)}")
    if before - after > max_drop:
        raise DropError(
            f"{metric} fell from {before:.4f} (float32) to {after:.4f} ({quantized.card.quantization}), by "
            f"{before - after:.4f}, more than --max-drop {max_drop:g}: nothing was written. Fine-tune with --qat, or "
            "calibrate with other --images"
        )
