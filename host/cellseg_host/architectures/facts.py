"""Facts about each network with its default options; a test measures them again and compares."""

from __future__ import annotations

from dataclasses import dataclass

_FLOAT = ("dynamic", "float16")
_PTQ = (*_FLOAT, "int8")
_QAT = (*_PTQ, "qat")


@dataclass(frozen=True)
class Facts:
    """Facts about a network for inference.

    Attributes
    ----------
    parameters : int
        Moving averages of batch normalisation included.
    macs_per_px : int
        Multiply-adds per input pixel, rounded, of an input of 256 × 256.
    edge_tpu : str
        How much of its int8 graph maps onto an Edge TPU, for tiles of 256 × 256: `mapping` of
        `cellseg_host.edgetpu.check.Verdict`.
    quantizations : tuple of str
        Modes of quantization that work.
    refused : str
        Which others do not, and why.
    """

    parameters: int
    macs_per_px: int
    edge_tpu: str
    quantizations: tuple[str, ...] = _QAT
    refused: str = ""


_SCALED = "qat: the scaling of the encoder's input has no quantization-aware version"

FACTS = {
    "edge-unet": Facts(234_117, 3_923, "wholly"),
    "unet": Facts(1_941_105, 46_272, "doubtful"),
    "unet-128": Facts(1_941_105, 46_272, "partly", _FLOAT, "int8, qat: TFLite computes ELU in float32 only"),
    "unet-200": Facts(1_929_825, 140_672, "doubtful"),
    "unetpp": Facts(2_267_361, 113_856, "doubtful"),
    "unetpp-efficientnet-b4": Facts(26_201_123, 191_678, "doubtful", _PTQ, _SCALED),
    "hrnet": Facts(28_608_608, 167_056, "doubtful"),
    "hrnet-w18-small": Facts(1_294_672, 14_490, "doubtful"),
    "double-unet": Facts(29_297_570, 819_170, "doubtful", _PTQ, _SCALED),
    "vgg19-unet": Facts(31_172_033, 859_904, "doubtful", _PTQ, _SCALED),
    "resnet50-unet": Facts(20_676_545, 483_888, "doubtful", _PTQ, _SCALED),
    "densenet121": Facts(7_304_257, 56_468, "wholly", _PTQ, _SCALED),
    "kind-net": Facts(40_485, 494, "wholly", _PTQ, "qat: global average pooling has no quantization-aware version"),
}
