"""Classifiers as encoders: the networks of Keras Applications, with weights from the user's file.

Nothing is downloaded. All take levels in [0, 1] and scale them inside: the graph is the same with and without
pretrained weights, and untrained networks get inputs of about unit variance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras
from tf_keras import applications, layers

from cellseg_device.errors import InputError

# Of ImageNet, red, green, blue; CAFFE's is the one that Keras subtracts for VGG and ResNet, of levels up to 255
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
_SCALE = "encoder_scale"


@dataclass(frozen=True)
class Encoder:
    """One of Keras Applications.

    Attributes
    ----------
    application : callable
    levels : tuple of str
        Layers whose outputs are used, the finest first, each with half the resolution of the one before.
    block : int
        Stride of the first of them.
    mean : tuple of float
        What is subtracted from the input, levels in [0, 1].
    gain : tuple of float
        What it is then multiplied by.
    caffe : bool
        Whether published weights expect blue, green, red in levels up to 255, the mean subtracted.
    """

    application: Callable[..., keras.Model]
    levels: tuple[str, ...]
    block: int = 1
    mean: tuple[float, ...] = _MEAN
    gain: tuple[float, ...] = tuple(1 / d for d in _DEVIATION)
    caffe: bool = False


ENCODERS = {
    "vgg19": Encoder(
        applications.VGG19,
        ("block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4"),
        mean=_CAFFE_MEAN,
        caffe=True,
    ),
    "resnet50": Encoder(
        applications.ResNet50,
        (_SCALE, "conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out"),
        mean=_CAFFE_MEAN,
        caffe=True,
    ),
    "densenet121": Encoder(applications.DenseNet121, ("relu",), block=32),
    # The network divides by 255 itself; its weights expect a deviation to the power 3/2 (tensorflow issue 49930).
    "efficientnet-b4": Encoder(
        applications.EfficientNetB4,
        (
            "block2a_expand_activation",
            "block3a_expand_activation",
            "block4a_expand_activation",
            "block6a_expand_activation",
            "top_activation",
        ),
        block=2,
        gain=tuple(255 / d**1.5 for d in _DEVIATION),
    ),
}


def encode(image: Any, name: str, weights: str | None) -> list[Any]:
    """Return the maps of an encoder, one for each of its levels, the finest first.

    Parameters
    ----------
    image : Keras tensor, shape (None, height, width, 3)
        In [0, 1].
    name : str
        Key of `ENCODERS`.
    weights : str or None
        File of weights as Keras Applications publishes them without top, or as ``save_weights`` of that network
        writes them; None for random ones.

    Raises
    ------
    ValueError
        If there is no such encoder.
    InputError
        If there is no such file, or its weights do not fit.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, not {name}")
    encoder = ENCODERS[name]
    offset = [-m * g for m, g in zip(encoder.mean, encoder.gain, strict=True)]
    scaled = layers.Rescaling(list(encoder.gain), offset, name=_SCALE)(image)
    backbone = encoder.application(include_top=False, weights=None, input_tensor=scaled)
    for layer in backbone.layers:
        # Keras numbers these through the process, but weights are copied from network to network by name (`initialise`)
        if layer.name != _SCALE and isinstance(layer, (layers.Rescaling, layers.Normalization)):
            layer._name = f"encoder_{type(layer).__name__.lower()}"  # noqa: SLF001 - Keras has no public way
    if weights is not None:
        _load(backbone, name, weights)
        _adapt(backbone, encoder)
    return [backbone.get_layer(level).output for level in encoder.levels]


def _load(backbone: keras.Model, name: str, weights: str) -> None:
    path = Path(weights)
    if not path.is_file():
        raise InputError(f"--encoder-weights: {path}: there is no such file")
    try:
        backbone.load_weights(str(path))
    except Exception as error:  # noqa: BLE001 - h5py, zipfile and Keras raise all kinds for a wrong file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--encoder-weights: {path}: does not fit {name}: use the weights without top that Keras Applications "
            f"publishes for it, or a file from its save_weights ({reason})"
        ) from None


def _adapt(backbone: keras.Model, encoder: Encoder) -> None:
    """Adapt loaded weights to the scaled input, instead of that of Keras's preprocess_input."""
    if encoder.caffe:
        first = next(layer for layer in backbone.layers if isinstance(layer, layers.Conv2D))
        kernel, *bias = first.get_weights()
        first.set_weights([kernel[:, :, ::-1] * (255 / np.reshape(encoder.gain, (3, 1))), *bias])
    for layer in backbone.layers:
        if isinstance(layer, layers.Normalization):  # the scaling does what the file's mean and deviation did
            layer.reset_state()
            layer.finalize_state()
