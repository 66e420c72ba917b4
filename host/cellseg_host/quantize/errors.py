"""The error of turning a network into a model file."""

from __future__ import annotations

from cellseg_device.errors import CellsegError


class QuantizationError(CellsegError):
    """The network cannot be quantized this way, or the result is wrong."""
