"""Every error that a user can act on, with the exit code it causes.

Each message is one line: what is wrong, a colon, what to do. Anything else that is raised is a bug.

| CellsegError (2)
| ├── ImageError (1)
| ├── ModelError (2)
| │   └── AcceleratorError (2)
| ├── InputError (2)
| ├── OutputError (2)
| └── CameraError (3)
"""

from __future__ import annotations

import click

from cellseg_device.stderr import say_error

EXIT_OK = 0
EXIT_IMAGES_FAILED = 1
EXIT_STOPPED = 1
EXIT_NOT_BETTER = 1
EXIT_USAGE = 2
EXIT_CAMERA = 3

# Reasons why an image failed that may go away although its file does not change: it is tried again at every start
LACKS_MEMORY = "needs more memory than there is"  # what follows may be the numbers
NO_MEMORY = f"{LACKS_MEMORY}: crop or split it"
NO_TIME = "needs more time of the processor than this user may take: raise 'ulimit -t', then start again"
MAY_NOT_READ = "may not be read: give this user permission to read it, then start again"
NOT_OURS = (
    "has results whose names are taken by files that cellseg did not make: move those away, then start again, or use "
    "another --out"
)
# And why it is passed over until it changes or 'run' is asked for it
KILLS = (
    "had cellseg killed twice, by a lack of memory or a power cut: crop or split it, or try it again with "
    "'cellseg-device run'"
)
TRIED_AGAIN = (LACKS_MEMORY, NO_TIME, MAY_NOT_READ, NOT_OURS)  # how they begin


class CellsegError(click.ClickException):
    """An error for the user, shown as one line without a traceback; the command stops with `exit_code`."""

    exit_code = EXIT_USAGE

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the message on standard error, in one line."""
        say_error(self.format_message())


class ImageError(CellsegError):
    """The image cannot be used: the reason is recorded, and the work goes on."""

    exit_code = EXIT_IMAGES_FAILED


class ModelError(CellsegError):
    """A model file is missing, has no card, or its card does not fit the graph."""


class AcceleratorError(ModelError):
    """The Edge TPU that a model needs is missing, cannot be used, or failed: not the fault of the current image."""


class InputError(CellsegError):
    """A folder, dataset or argument is not what the command needs."""


class OutputError(CellsegError):
    """Results cannot be written: the output folder is read-only, or in use by another process."""


class CameraError(CellsegError):
    """The camera failed and does not recover: a supervisor may start the command again."""

    exit_code = EXIT_CAMERA
