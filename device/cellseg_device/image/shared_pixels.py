"""Pixels handed from one process to another in memory that both map, without a copy.

The receiver believes nothing: the sender decodes files of strangers.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from cellseg_device.image.opencv import MAX_SIDE_PX

_TYPES = ("uint8", "uint16")


def share(pixels: npt.NDArray[Any]) -> tuple[dict[str, Any], int]:
    """Copy pixels into new shared memory; return what describes them, for JSON, and the memory's descriptor.

    Raises
    ------
    OSError
        If there is no memory, or this process may not have another file.
    """
    pixels = np.ascontiguousarray(pixels)
    descriptor = os.memfd_create("cellseg-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(pixels.reshape(-1).view(np.uint8).data)
        while left:
            left = left[os.write(descriptor, left) :]  # one write handles at most 2 GiB
    except BaseException:
        os.close(descriptor)
        raise
    return {"shape": pixels.shape, "dtype": pixels.dtype.name}, descriptor


def received(described: dict[str, Any], descriptor: int) -> npt.NDArray[Any]:
    """Return pixels that another process shares; the descriptor stays open.

    Parameters
    ----------
    described : dict
        With `shape` and `dtype`.
    descriptor : int

    Returns
    -------
    ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)

    Raises
    ------
    ValueError
        If that is not what is there.
    """
    shape, name = described.get("shape"), described.get("dtype")
    if name not in _TYPES or not _is_shape(shape):
        raise ValueError("not the description of an image")
    try:
        # Else the sender could cut the memory off under this process, which would end it
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    except OSError:
        raise ValueError("not shared memory") from None
    dtype = np.dtype(name)
    if os.fstat(descriptor).st_size != math.prod(shape) * dtype.itemsize:
        raise ValueError("not as many pixels as described")
    pages = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    return np.frombuffer(pages, dtype).reshape(shape)


def _is_shape(shape: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(shape, list)
        and len(shape) in (2, 3)
        and all(type(side) is int and 1 <= side <= MAX_SIDE_PX for side in shape)
        and (len(shape) == 2 or shape[2] == 3)
    )
