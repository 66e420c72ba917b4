"""TensorFlow without its start-up messages on standard error, which users cannot act on."""

from __future__ import annotations

import os

from cellseg_device.stderr import quiet_stderr


def import_tensorflow() -> None:
    """Import TensorFlow silently; after this, modules that need it can be imported without output."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # at its first use it looks for a GPU and prints what it finds


def device() -> str:
    """Return what TensorFlow computes on, in words."""
    import tensorflow as tf

    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    if gpus:
        return ", ".join(details.get("device_name", "a GPU") for details in gpus)
    cores = len(os.sched_getaffinity(0))
    return f"the processor, {cores} {'core' if cores == 1 else 'cores'}"
