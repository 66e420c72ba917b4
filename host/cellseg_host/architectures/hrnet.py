"""HRNet: four resolutions side by side, fused repeatedly, so that fine detail is kept throughout.

By default W32 as published for DSB2018: 28,608,608 parameters. That is the paper's trunk, whose last module keeps only
the finest resolution, and a head of two convolutions that bring it to full size. `SMALL` is the
paper's W18-Small-v1, whose widths are, despite its name, multiples of 16. All upsampling is nearest-neighbour and all
sums are of two tensors, which is what an int8 graph does without loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tf_keras as keras
from tf_keras import layers

from cellseg_host.architectures.upsampling import NearestUpSampling2D

PAPER = "J. Wang et al., Deep high-resolution representation learning for visual recognition, TPAMI 2020"
STRIDE = 32
# Half of the overlap that patches of 256 px can afford, as for the U-Net; the receptive field reaches much further
MARGIN = 64
SMALL = {"width": 16, "modules": (1, 1, 1), "blocks": 2, "bottlenecks": 1, "bottleneck_filters": 32}


def build(
    heads: Sequence[str],
    *,
    width: int = 32,
    modules: tuple[int, ...] = (1, 4, 3),
    blocks: int = 4,
    bottlenecks: int = 4,
    bottleneck_filters: int = 64,
) -> keras.Model:
    """Return an HRNet.

    Parameters
    ----------
    heads : sequence of str
        One output each.
    width : int
        Channels at a quarter of the resolution; twice as many at each coarser one.
    modules : tuple of int
        Modules of the second, third and fourth stage, which work on two, three and four resolutions.
    blocks : int
        Basic blocks of each resolution in a module.
    bottlenecks, bottleneck_filters : int
        Blocks of the first stage, and their inner channels.

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of the stride, which is 32 with the fourth
        stage; outputs (None, height, width, 1), logits.

    Raises
    ------
    ValueError
        If there are not three stages of at least one module each.
    """
    if len(modules) != 3 or min(modules) < 1:
        raise ValueError(
            f"modules needs three numbers of at least 1, for the second, third and fourth stage, not {modules}"
        )
    x = image = keras.Input((None, None, 3), name="image")
    for number in range(2):
        x = _relu(_conv(x, 64, 3, f"stem{number}", strides=2), f"stem{number}")
    for number in range(bottlenecks):
        x = _bottleneck(x, bottleneck_filters, f"stage1_block{number}")
    channels = [width]
    branches = [_relu(_conv(x, width, 3, "stage1_out"), "stage1_out")]
    for stage, count in enumerate(modules, start=2):
        channels.append(2 * channels[-1])
        # The first new branch comes from the wide first stage itself, as published, the others from the coarsest one.
        source = x if stage == 2 else branches[-1]
        name = f"stage{stage}_new"
        branches.append(_relu(_conv(source, channels[-1], 3, name, strides=2), name))
        for number in range(count):
            name = f"stage{stage}_module{number}"
            branches = [
                _blocks(b, c, blocks, f"{name}_{i}") for i, (b, c) in enumerate(zip(branches, channels, strict=True))
            ]
            last = stage == 4 and number == count - 1
            branches = [_fused(branches, channels, i, name) for i in range(1 if last else len(branches))]
    x = branches[0]
    for number in range(2):
        name = f"decoder{number}"
        x = NearestUpSampling2D(2, name=f"{name}_up")(x)
        x = _relu(_conv(x, width, 3, name), name)
    outputs = [layers.Conv2D(1, 1, use_bias=False, name=head)(x) for head in heads]
    return keras.Model(image, outputs, name="hrnet")


def _conv(x: Any, filters: int, size: int, name: str, strides: int = 1) -> Any:
    """Apply a convolution and batch normalisation."""
    x = layers.Conv2D(
        filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def _relu(x: Any, name: str) -> Any:
    return layers.ReLU(name=f"{name}_relu")(x)


def _bottleneck(x: Any, filters: int, name: str) -> Any:
    """Apply 1×1, 3×3 and 1×1 convolutions with a shortcut, to four times as many channels."""
    y = _relu(_conv(x, filters, 1, f"{name}_a"), f"{name}_a")
    y = _relu(_conv(y, filters, 3, f"{name}_b"), f"{name}_b")
    y = _conv(y, 4 * filters, 1, f"{name}_c")
    if x.shape[-1] != 4 * filters:
        x = _conv(x, 4 * filters, 1, f"{name}_shortcut")
    return _relu(layers.Add(name=f"{name}_add")([y, x]), name)


def _blocks(x: Any, filters: int, count: int, name: str) -> Any:
    """Apply basic blocks: two 3×3 convolutions with a shortcut each."""
    for number in range(count):
        block = f"{name}_block{number}"
        y = _relu(_conv(x, filters, 3, f"{block}_a"), f"{block}_a")
        y = _conv(y, filters, 3, f"{block}_b")
        x = _relu(layers.Add(name=f"{block}_add")([y, x]), block)
    return x


def _fused(branches: Sequence[Any], channels: Sequence[int], target: int, name: str) -> Any:
    """Return the sum of all branches at one resolution: finer ones convolved down, coarser ones upsampled."""
    name = f"{name}_to{target}"
    total = branches[target]
    for source, x in enumerate(branches):
        path = f"{name}_from{source}"
        if source == target:
            continue
        if source > target:
            x = _conv(x, channels[target], 1, path)
            x = NearestUpSampling2D(2 ** (source - target), name=f"{path}_up")(x)
        else:
            for step in range(target - source - 1):
                x = _relu(_conv(x, channels[source], 3, f"{path}_{step}", strides=2), f"{path}_{step}")
            x = _conv(x, channels[target], 3, path, strides=2)
        total = layers.Add(name=f"{path}_add")([total, x])
    return _relu(total, name)
