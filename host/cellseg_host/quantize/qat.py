"""The network as int8 will compute it, for fine-tuning: quantization-aware training with tensorflow-model-optimization.

Each tensor that is int8 on the device is rounded in the forward pass and passed through unchanged in the backward
pass [1]_. tensorflow-model-optimization's wrappers do this; what they wrap is decided here, since its own scheme leaves
the kernel of a convolution before a plain ReLU in float, gives each input of a concatenation its own scale, and starts
every range at ±6. Here

- batch normalisation is folded first (`fold`);
- a convolution or sum and the ReLU after it are one, as on the device;
- the inputs of a concatenation share its scale, so that nothing is rescaled;
- pooling and resizing keep the scale of their input;
- the ranges of activations are those of calibration and do not change [2]_: the weights adapt to them.

References
----------
.. [1] Y. Bengio et al., Estimating or propagating gradients through stochastic neurons. arXiv:1308.3432 (2013).
.. [2] H. Wu et al., Integer quantization for deep learning inference. arXiv:2004.09602 (2020), section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

from cellseg_host.quantize.errors import QuantizationError
from cellseg_host.quantize.fold import CHANNEL_AXIS, WEIGHTED, check_foldable, consumers, rebuilt, sources
from cellseg_host.quantize.tfmot import QuantizeConfig, Quantizer, QuantizeWrapperV2

Range = tuple[float, float]

_JOINING = (layers.Add, layers.Concatenate)
_PASSING = (layers.MaxPooling2D, layers.UpSampling2D, layers.Dropout, layers.SpatialDropout2D, layers.ZeroPadding2D)
# Those that the device has in int8; the output of a sigmoid has the fixed scale 1/256
_ACTIVATIONS = ("linear", "relu", "sigmoid")


def accepted(network: keras.Model) -> keras.Model:
    """Return the network itself, after a check of its layers.

    Raises
    ------
    QuantizationError
        If one of its layers, which is named, has no quantization-aware version here.
    """
    for layer in network.layers:
        kind, activation = type(layer).__name__, _activation(layer)
        if isinstance(layer, (layers.InputLayer, layers.BatchNormalization, *_JOINING, *_PASSING)) or _is_relu(layer):
            continue
        if isinstance(layer, (*WEIGHTED, layers.Activation)):
            if activation in _ACTIVATIONS:
                continue
            kind = f"activation {activation}"
        raise QuantizationError(
            f"{network.name}: the layer '{layer.name}' ({kind}) has no quantization-aware version: use --int8 without "
            "--qat and percentiles, or --dynamic"
        )
    check_foldable(network)
    return network


def annotated(plain: keras.Model, ranges: Mapping[str, Range]) -> keras.Model:
    """Return the network with all tensors rounded that are int8 on the device.

    Parameters
    ----------
    plain : keras.Model
        From `fold.folded`; its layers become part of the new network, and it must not be used any more.
    ranges : mapping of str to (float, float)
        By layer name, for each of `ranged`.

    Returns
    -------
    keras.Model
        With the same inputs and outputs, and names of outputs.
    """
    shared = _shared(plain, ranges)

    def call(layer: Any, inputs: Any) -> Any:
        if isinstance(layer, layers.InputLayer):
            levels = layers.Activation("linear", name=f"{layer.name}_levels")
            return _wrapped(levels, (0.0, 1.0))(inputs)  # its step is 1/255, as the device expects
        limits = shared.get(layer.name)
        return (_wrapped(layer, limits) if limits or isinstance(layer, WEIGHTED) else layer)(inputs)

    return rebuilt(plain, call)


def ranged(plain: keras.Model) -> list[str]:
    """Return the names of the layers of a folded network whose outputs need a range from calibration."""
    followers = consumers(plain)
    return [layer.name for layer in plain.layers if _is_ranged(layer, followers[layer.name])]


def _is_ranged(layer: Any, after: list[Any]) -> bool:
    if isinstance(layer, (*WEIGHTED, layers.Add)) and len(after) == 1 and _is_relu(after[0]):
        return False
    return isinstance(layer, (*WEIGHTED, *_JOINING)) or _is_relu(layer)


def _is_relu(layer: Any) -> bool:
    """Return whether the device makes it part of the convolution or sum before it."""
    if isinstance(layer, layers.ReLU):
        return not layer.negative_slope and not layer.threshold and layer.max_value in (None, 6)
    return isinstance(layer, layers.Activation) and _activation(layer) == "relu"


def _activation(layer: Any) -> str:
    function = getattr(layer, "activation", None)
    return getattr(function, "__name__", type(function).__name__)


def _shared(plain: keras.Model, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Return the ranges, with one common range for each concatenation and its inputs."""
    group = {name: {name} for name in ranges}
    for layer in plain.layers:
        if isinstance(layer, layers.Concatenate):
            joined = [origin.name for source in sources(layer) if (origin := _origin(source)).name in ranges]
            union = set().union(group[layer.name], *(group[name] for name in joined))
            group |= dict.fromkeys(union, union)
    return {n: (min(ranges[m][0] for m in group[n]), max(ranges[m][1] for m in group[n])) for n in ranges}


def _origin(layer: Any) -> Any:
    """Return the layer whose scale the output of a layer has."""
    while isinstance(layer, _PASSING):
        (layer,) = sources(layer)
    return layer


def _wrapped(layer: Any, limits: Range | None) -> QuantizeWrapperV2:
    return QuantizeWrapperV2(layer, _Config(limits), name_prefix="")


class _Config(QuantizeConfig):  # type: ignore[misc]  # neither Keras nor tfmot has types
    """Rounds the kernel and the output of a layer, where it has them."""

    def __init__(self, limits: Range | None) -> None:
        self.limits = limits

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        name = _kernel(layer)
        axes = next((axes for kind, axes in CHANNEL_AXIS.items() if isinstance(layer, kind)), ())
        return [(getattr(layer, name), _PerChannel(axes))] if name else []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        for weight in quantize_weights:
            setattr(layer, _kernel(layer), weight)

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Quantizer]:
        return [_Fixed(self.limits)] if self.limits else []

    def get_config(self) -> dict[str, Any]:
        return {"limits": self.limits}


def _kernel(layer: Any) -> str:
    if not isinstance(layer, WEIGHTED):
        return ""
    return "depthwise_kernel" if isinstance(layer, layers.DepthwiseConv2D) else "kernel"


class _PerChannel(Quantizer):  # type: ignore[misc]
    """Symmetric, -127 to 127 steps, a scale for each output channel: as TFLite's weights are."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Any, training: bool, weights: dict[str, Any], **kwargs: Any) -> Any:
        others = [axis for axis in range(len(inputs.shape)) if axis not in self.axes]
        step = tf.maximum(tf.reduce_max(tf.abs(inputs), axis=others, keepdims=True), 1e-8) / 127
        # Plain operations: the converter folds them into the kernel, where it finds the same steps again, on any axis
        return inputs + tf.stop_gradient(tf.round(inputs / step) * step - inputs)

    def get_config(self) -> dict[str, Any]:
        return {"axes": self.axes}


class _Fixed(Quantizer):  # type: ignore[misc]
    """Asymmetric, 256 steps over a range that does not change."""

    def __init__(self, limits: Range) -> None:
        self.limits = limits

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Any, training: bool, weights: dict[str, Any], **kwargs: Any) -> Any:
        low, high = self.limits
        return tf.quantization.fake_quant_with_min_max_args(inputs, low, high)

    def get_config(self) -> dict[str, Any]:
        return {"limits": self.limits}
