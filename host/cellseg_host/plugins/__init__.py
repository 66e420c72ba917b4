"""A user's own Python: ``FILE.py:NAME`` in place of the name of an architecture, a loss or a metric.

::

    def build(heads, *, filters=32):     # --arch: a keras.Model (tf_keras), input (None, None, None, 3) in [0, 1],
        ...                              #   for each head an output (batch, h, w, block²), logits or a sigmoid's
    STRIDE, MARGIN = 16, 64              #   optional, as in `architectures.Architecture`; so are HEADS and PAPER

    def custom_loss(y_true, y_pred):     # --loss: tensors (batch, height, width, 1) in [0, 1], as in Keras;
        ...                              #   gives a tensor: one value, or one for each image or pixel

    def score(y_true, y_pred):           # --metric: labels of an image, uint16 (height, width), 0 = background;
        ...                              #   gives a number, higher is better

The file stands by itself, so that a run can keep a copy. Each is tried on small data before any training: whatever is
wrong with it is an `InputError` that names file and function.
"""

from __future__ import annotations

from cellseg_host.plugins.functions import EPSILON, loss, metric
from cellseg_host.plugins.loading import is_spec, kept_in, load, source
from cellseg_host.plugins.networks import architecture, find_architecture

__all__ = [
    "EPSILON",
    "architecture",
    "find_architecture",
    "is_spec",
    "kept_in",
    "load",
    "loss",
    "metric",
    "source",
]
