"""The networks, one file each. A network maps levels in [0, 1] to logits, in tensors that the device understands.

A network's file has ``build(heads, **options)`` and the constants that `Architecture` describes; so may a file of the
user's own (``--arch FILE.py:build``, see `cellseg_host.plugins`).
"""

from __future__ import annotations

from cellseg_host.architectures.architecture import (
    CLASSIFIERS,
    Architecture,
    option_defaults,
    takes_encoder_weights,
    wants_encoder_weights,
)
from cellseg_host.architectures.facts import FACTS, Facts
from cellseg_host.architectures.networks import as_list, for_inference, macs_per_px, outputs_of, stride_of
from cellseg_host.architectures.table import ARCHITECTURES, get

__all__ = [
    "ARCHITECTURES",
    "CLASSIFIERS",
    "FACTS",
    "Architecture",
    "Facts",
    "as_list",
    "for_inference",
    "get",
    "macs_per_px",
    "option_defaults",
    "outputs_of",
    "stride_of",
    "takes_encoder_weights",
    "wants_encoder_weights",
]
