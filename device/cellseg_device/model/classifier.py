"""A classifier ready to run: of which class an image is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Output
from cellseg_device.model.gate_card import PRESENCE_CLASSES
from cellseg_device.model.interpreter import Model, Network

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
        values = self.answer(levels).astype(np.float64)
        _, quantized = self.output_detail(self._output)
        if quantized is not None:
            step, zero = quantized
            values = (values - zero) * float(step)
        if not np.isfinite(values).all():
            raise ModelError("the classifier's answer is not finite: quantize it again")
        is_logit = self._output.scale == "logit"
        if self._output.quantity == "presence":
            (value,) = values
            # The softmax of 0 and a logit is its sigmoid
            values = np.array([0.0 if is_logit else 1 - value, value])
        values = np.exp(values - values.max()) if is_logit else np.maximum(values, 1e-9)
        return np.asarray(values / values.sum())

    def answer(self, levels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the values of the output tensor, int8 or float32, shape (n,); as for `probabilities`."""
        self.resize(*levels.shape[:2])
        values = self.input_table(np.arange(256, dtype=np.uint8))[levels]
        self.input_view()[...] = values if levels.ndim == 3 else values[..., None]
        self.invoke()
        detail, _ = self.output_detail(self._output)
        found: npt.NDArray[Any] = self.interpreter.get_tensor(detail["index"]).reshape(-1)
        return found

    @property
    def _output(self) -> Output:
        return next(output for output in map(self.card.output, QUANTITIES) if output is not None)

    def _check_card(self) -> None:
        if not any(self.card.output(quantity) for quantity in QUANTITIES):
            raise ModelError(
                "predicts where cells are, not what an image shows: a gate is a classifier, as 'cellseg-host train' "
                "makes with --arch kind-net"
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


def open_network(path: Path, threads: int = 1, *, data: bytes | None = None) -> Model | Classifier:
    """Open a model of either kind; as `Network`."""
    card = cards.of_file(path) if data is None else cards.read_from(data)
    is_classifier = card.output("foreground") is None and any(map(card.output, QUANTITIES))
    return (Classifier if is_classifier else Model)(path, threads, data=data)


def _shown(shape: list[Any]) -> str:
    return "×".join(map(str, shape)) or "of a single number"
