"""Which faults belong to the image in hand: those are recorded, and the work goes on with the next image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from cellseg_device.errors import NO_MEMORY, AcceleratorError, CellsegError, ImageError, ModelError


class ReadError(OSError):
    """The disk or network failed to read an image: it may succeed later."""


@contextmanager
def as_image_faults() -> Iterator[None]:
    """Raise ImageError for a lack of memory, for what the model cannot do with the image, and for a bug of ours.

    A bug would occur again at every start, and must not keep the images behind this one from being counted.
    """
    try:
        yield
    except AcceleratorError:
        raise
    except ModelError as error:
        raise ImageError(error.message) from None
    except MemoryError:
        raise ImageError(NO_MEMORY) from None
    except cv2.error as error:
        raise ImageError(NO_MEMORY if error.code == cv2.Error.StsNoMem else _bug(error)) from error
    except (CellsegError, OSError):
        raise
    except Exception as error:
        raise ImageError(_bug(error)) from error


def _bug(error: Exception) -> str:
    said = " ".join(str(error).split())[:120]
    return f"makes cellseg fail ({type(error).__name__}: {said}): report it with this image"
