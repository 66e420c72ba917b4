"""Whether an image fits into the memory, from what its file's header says, before any of that is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cellseg_device.errors import LACKS_MEMORY, ImageError

# Decoders hold the pixels twice, or once beside the copy for the process that asked
_COPIES = 2
_DECODER_BYTES = 8_000_000


@dataclass(frozen=True)
class Budget:
    """The memory that one image may take, and what is done with it once it is decoded.

    Attributes
    ----------
    available_bytes : int or None
        None where that is not known: then every image fits.
    bytes_per_px : float
        What the steps after decoding take at least for each pixel, beside the image itself.
    """

    available_bytes: int | None
    bytes_per_px: float = 0.0

    def check(self, size: tuple[int, int], channels: int, item_bytes: int, file_bytes: int, *, is_float: bool) -> None:
        """Raise ImageError if an image does not fit.

        Parameters
        ----------
        size : (int, int)
            (height, width).
        channels, item_bytes : int
            As in the file: with alpha, and the bytes of one value.
        file_bytes : int
            Size of the file, which is in memory while it is decoded.
        is_float : bool
            Whether the pixels are mapped onto 16 bits.
        """
        pixels = size[0] * size[1]
        decoded_bytes = (3 if channels > 2 else 1) * (2 if is_float else item_bytes)
        decoding = decoding_bytes(pixels, channels * item_bytes, file_bytes)
        check_fits(max(decoding, pixels * (decoded_bytes + self.bytes_per_px)), self.available_bytes)


def decoding_bytes(pixels: int, bytes_per_px: int, file_bytes: int) -> int:
    """Return the memory that it takes to decode an image; as for `Budget.check`."""
    return file_bytes + pixels * bytes_per_px * _COPIES + _DECODER_BYTES


def check_fits(needed_bytes: float, available_bytes: int | None) -> None:
    """Raise ImageError, with both numbers, if more memory is needed than there is."""
    if available_bytes is not None and needed_bytes > available_bytes:
        needed_mb, free_mb = math.ceil(needed_bytes / 1e6), max(available_bytes, 0) // 1_000_000
        raise ImageError(f"{LACKS_MEMORY} ({needed_mb:,} MB, and {free_mb:,} MB are free): crop or split it")
