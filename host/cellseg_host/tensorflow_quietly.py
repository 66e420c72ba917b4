"""TensorFlow without the greetings it writes on standard error, which nobody can act on."""

from __future__ import annotations

import os

from cellseg_device.quiet import quiet_stderr


def import_tensorflow() -> None:
    """Import TensorFlow; modules that need it may be imported after this without a word on standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for a GPU, and says so, at the first use
