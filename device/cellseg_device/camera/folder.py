"""A folder of images that is played as if a camera took them."""

from __future__ import annotations

from pathlib import Path

from cellseg_device import image as images
from cellseg_device.camera.source import EndOfImages, Pixels, Settings, Warn, warn_of_unused
from cellseg_device.errors import ImageError, InputError
from cellseg_device.scan import check_folder


class Folder:
    """The images that are in a folder when it is opened, by name.

    Parameters
    ----------
    path : Path
    settings : Settings
    warn : callable
        Told of images that cannot be used.
    """

    def __init__(self, path: Path, settings: Settings, warn: Warn) -> None:
        check_folder(path)
        self._files = sorted(file for file in path.iterdir() if images.is_image_name(file.name))
        if not self._files:
            raise InputError(f"{path} has no images in it: choose another folder")
        self._files.reverse()
        self._warn = warn
        self.settings = warn_of_unused(settings, "images in a folder", warn)
        self.description = f"{path}, {len(self._files)} image{'s' if len(self._files) > 1 else ''}"

    def capture(self) -> Pixels:
        """Give the next image that can be decoded."""
        while self._files:
            path = self._files.pop()
            try:
                return images.decode(images.read(path)).pixels
            except ImageError as error:
                self._warn(f"{path.name} is left out: it {error.message}")
            except OSError as error:
                self._warn(f"{path.name} is left out: it cannot be read ({error.strerror})")
        raise EndOfImages

    def close(self) -> None:
        """Nothing is held open."""
