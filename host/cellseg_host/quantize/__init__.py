"""Quantization: from a trained run to the .tflite that the device runs, and what that costs in accuracy.

`pipeline` makes a model file from a run with the help of the rest: `convert` (Keras to flatbuffer), `calibrate` (ranges
of activations), `with_card` (the card), `separation` and `joining` (how cells are told apart), `fold` and `qat` (the
network as int8 will compute it), `finetune` (training that), `scored` (accuracy), `max_drop` and `layers` (what was
lost, in all and where).
"""

from cellseg_host.quantize.calibrate import Calibration
from cellseg_host.quantize.convert import MODES, convert
from cellseg_host.quantize.errors import QuantizationError
from cellseg_host.quantize.finetune import Tuning
from cellseg_host.quantize.pipeline import Quantized, float_model, int8_model, quantize, write
from cellseg_host.quantize.with_card import match_outputs

__all__ = [
    "MODES",
    "Calibration",
    "QuantizationError",
    "Quantized",
    "Tuning",
    "convert",
    "float_model",
    "int8_model",
    "match_outputs",
    "quantize",
    "write",
]
