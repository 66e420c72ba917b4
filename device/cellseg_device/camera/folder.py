"""A folder of images that stands in for a camera."""

from __future__ import annotations

from pathlib import Path

from cellseg_device.camera.source import EndOfImages, Pixels, Settings, Warn, warn_of_unused
from cellseg_device.errors import NO_MEMORY, ImageError, InputError
from cellseg_device.image.sandbox import Decode
from cellseg_device.image.source import is_image_name
from cellseg_device.system.natural_order import natural_key
from cellseg_device.watching.scan import check_folder


class Folder:
    """The images that are in a folder when it is opened, in the natural order of their names.

    Parameters
    ----------
    path : Path
    settings : Settings
    warn : callable
        Receives a line for each image that cannot be used.
    decode : callable
        Reads and decodes a file: the `decode` of a `sandbox.Decoder`.
    """

    def __init__(self, path: Path, settings: Settings, warn: Warn, decode: Decode) -> None:
        check_folder(path)
        self._files = sorted(
            (file for file in path.iterdir() if is_image_name(file.name)), key=lambda file: natural_key(file.name)
        )
        if not self._files:
            raise InputError(f"{path} has no images in it: choose another folder")
        self._files.reverse()
        self._warn = warn
        self._decode = decode
        self.settings = warn_of_unused(settings, "images in a folder", warn)
        self.description = f"{path}, {len(self._files)} image{'s' if len(self._files) > 1 else ''}"

    def capture(self) -> Pixels:
        """Return the next image that can be decoded."""
        while self._files:
            path = self._files.pop()
            try:
                return self._decode(path, None)[1].pixels
            except ImageError as error:
                self._warn(f"{path.name} is left out: it {error.message}")
            except MemoryError:
                self._warn(f"{path.name} is left out: it {NO_MEMORY}")
            except OSError as error:
                self._warn(f"{path.name} is left out: it cannot be read ({error.strerror})")
        raise EndOfImages

    def close(self) -> None:
        """Do nothing: no file is held open."""
