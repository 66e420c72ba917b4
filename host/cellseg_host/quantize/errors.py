"""What can go wrong between a network and a model file."""

from __future__ import annotations

from cellseg_device.errors import CellsegError


class QuantizationError(CellsegError):
    """The network cannot be quantized this way, or came out wrong."""
