"""Quantization: from a trained run to the .tflite that the device runs, and what that costs in accuracy.

`road` is the way from a run to a model file, and uses the rest: `convert` (Keras to flatbuffer), `calibrate` (ranges of
activations), `carded` (the card), `fold` and `qat` (the network as int8 will compute it), `finetune` (training it),
`judged` (accuracy), `gate` and `layers` (what was lost, in all and where).
"""

from cellseg_host.quantize.calibrate import Calibration
from cellseg_host.quantize.carded import match_outputs
from cellseg_host.quantize.convert import MODES, convert
from cellseg_host.quantize.errors import QuantizationError
from cellseg_host.quantize.finetune import Tuning
from cellseg_host.quantize.road import Quantized, float_model, quantize, write

__all__ = [
    "MODES",
    "Calibration",
    "QuantizationError",
    "Quantized",
    "Tuning",
    "convert",
    "float_model",
    "match_outputs",
    "quantize",
    "write",
]
