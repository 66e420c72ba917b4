"""A classifier ready to run: of which class an image is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ModelError
from cellseg_device.model.card import PRESENCE_CLASSES, Output
from cellseg_device.model.interpreter import Network

QUANTITIES = ("kind", "presence")


class Classifier(Network):
    """A network that predicts of which class an image is; see `Network`.

    Attributes
    ----------
    classes : int
        Their number.
    """

    def probabilities(self, levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return the probability of each class, shape (n,): of a presence output, of no cell and of a cell.

        Parameters
        ----------
        levels : ndarray of uint8, shape (height, width) or (height, width, 3)
            Of a size that the graph takes: its tile, or multiples of the card's stride.

        Raises
        ------
        ModelError
            If the runtime fails.
        """
        self.resize(*levels.shape[:2])
        values = self.input_table(np.arange(256, dtype=np.uint8))[levels]
        self.input_view()[...] = values if levels.ndim == 3 else values[..., None]
        self.invoke()
        return self._as_probabilities()

    def _as_probabilities(self) -> npt.NDArray[np.float64]:
        """Return the probabilities that the network's answer means."""
        detail, quantized = self.output_detail(self._output)
        values = self.interpreter.get_tensor(detail["index"]).reshape(-1).astype(np.float64)
        if quantized is not None:
            step, zero = quantized
            values = (values - zero) * float(step)
        if not np.isfinite(values).all():
            raise ModelError(f"{self.path}: the classifier's answer is not finite: quantize it again")
        is_logit = self._output.scale == "logit"
        if self._output.quantity == "presence":
            (value,) = values
            # Of the softmax of (0, logit)
            values = np.array([0.0, value]) if is_logit else np.array([1 - value, value])
        if is_logit:
            values = np.exp(values - values.max())
        values = np.clip(values, 0, None)
        total = values.sum()
        return np.asarray(values / total if total else np.full(len(values), 1 / len(values)))

    @property
    def _output(self) -> Output:
        return next(output for output in map(self.card.output, QUANTITIES) if output is not None)

    def _check_card(self) -> None:
        if not any(self.card.output(quantity) for quantity in QUANTITIES):
            raise ModelError(
                "predicts where cells are, not what an image shows: a gate is a classifier, as 'cellseg-host train' "
                "makes with --arch densenet121"
            )

    def _check_fit(self) -> None:
        detail, _ = self.output_detail(self._output)
        shape = [int(n) for n in detail["shape"]]
        number = shape[-1] if shape else 0
        if shape != [1, 1, 1, number] or number < 1 or (number > 1) != (self._output.quantity == "kind"):
            raise ModelError(f"output {self._output.index} has the shape {_shown(shape)}: a classifier's is 1×1×1×n")
        self.classes = number if self._output.quantity == "kind" else PRESENCE_CLASSES
        gate = self.card.gate
        if gate is None:
            return
        if len(gate.classes) != self.classes:
            raise ModelError(f"the card names {len(gate.classes)} classes, but the graph has {self.classes}")
        if self.tile is not None and (gate.sees == "field" or self.tile != (gate.side_px, gate.side_px)):
            raise ModelError(
                f"the graph takes {self.tile[1]}×{self.tile[0]} px only, which does not fit what the gate sees: "
                "quantize it again without --tile"
            )


def _shown(shape: list[Any]) -> str:
    return "×".join(map(str, shape)) or "of a single number"
