"""tensorflow-model-optimization, imported quietly: it warns of its own use of distutils, which users cannot change."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tensorflow_model_optimization.quantization.keras import QuantizeConfig, QuantizeWrapperV2
    from tensorflow_model_optimization.quantization.keras.quantizers import Quantizer

__all__ = ["QuantizeConfig", "QuantizeWrapperV2", "Quantizer"]
