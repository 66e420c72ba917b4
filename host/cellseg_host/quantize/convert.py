"""From a Keras network to a TFLite flatbuffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from cellseg_device.errors import CellsegError
from cellseg_device.stderr import quiet_stderr
from cellseg_host.quantize.errors import QuantizationError

MODES = ("int8", "dynamic", "float16", "float32")


def convert(
    network: keras.Model,
    mode: str,
    tile: tuple[int, int] | None = None,
    calibration: Callable[[], Iterator[np.ndarray]] | None = None,
) -> bytes:
    """Convert a Keras network to a TFLite flatbuffer.

    Parameters
    ----------
    network : keras.Model
        Input (None, height, width, 3).
    mode : str
        ``"int8"``: full integer, int8 in and out; ``"dynamic"``: int8 weights, float activations computed on the
        fly; ``"float16"``: half-precision weights; ``"float32"``.
    tile : (height, width) or None
        Static input size; None leaves it free.
    calibration : callable or None
        For ``"int8"``: returns float arrays (1, height, width, 3) in [0, 1], from which the ranges of activations are
        computed; None for a network that has them, from `qat.annotated`.

    Raises
    ------
    QuantizationError
        If TensorFlow cannot convert it.
    """
    # A batch of one, so that nothing in the graph depends on the size of a batch
    signature = tf.TensorSpec((1, *(tile or (None, None)), 3), tf.float32)
    function = tf.function(lambda image: network(image, training=False)).get_concrete_function(signature)
    # Only the variables, which must be kept alive: with the Keras model the converter would trace and save each layer
    holder = tf.Module()
    holder.held = network.variables
    converter: Any = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
        if calibration:
            converter.representative_dataset = lambda: ([image] for image in calibration())
            # Not for a network that has its ranges: the converter would then require a representative set too
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    try:
        with quiet_stderr():
            return bytes(converter.convert())
    except CellsegError:  # of an image for the ranges
        raise
    except Exception as error:  # the converter raises all kinds of errors
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise QuantizationError(f"TensorFlow cannot convert the network to {mode}: {lines[0]}") from error
