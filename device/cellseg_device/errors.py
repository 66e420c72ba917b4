"""Every error a user can act on, with the exit code it causes.

Each message is one line that says what is wrong and what to do. Anything else that is raised is a bug.
"""

from __future__ import annotations

import click

from cellseg_device.quiet import say

EXIT_OK = 0
EXIT_IMAGES_FAILED = 1
EXIT_USAGE = 2
EXIT_CAMERA = 3

# Why an image failed that may do well later, although its file stays as it is: it is tried again at every start
NO_MEMORY = "needs more memory than there is: crop or split it"
MAY_NOT_READ = "may not be read: give this user permission to read it, then start again"
NOT_OURS = (
    "has results whose names are taken by files that cellseg did not make: move those away, then start again, or use "
    "another --out"
)
TRIED_AGAIN = (NO_MEMORY, MAY_NOT_READ, NOT_OURS)


class CellsegError(click.ClickException):
    """An error for the user: shown as one line, no traceback; the command stops with `exit_code`."""

    exit_code = EXIT_USAGE

    def show(self, file: object = None) -> None:
        """Print the message to standard error, in one line."""
        say(f"error: {self.format_message()}")


class ImageError(CellsegError):
    """The image cannot be used, now or later: recorded with its reason, and the work goes on."""

    exit_code = EXIT_IMAGES_FAILED


class ModelError(CellsegError):
    """A model file is missing, has no card, or its card does not fit the graph."""


class AcceleratorError(ModelError):
    """The Edge TPU that a model needs is missing, cannot be used, or failed: no fault of the image in hand."""


class InputError(CellsegError):
    """A folder, dataset or argument is not what the command needs."""


class OutputError(CellsegError):
    """The output folder cannot take results: read-only, or in use by another process."""


class CameraError(CellsegError):
    """The camera failed and does not come back: a supervisor may start the command again."""

    exit_code = EXIT_CAMERA
