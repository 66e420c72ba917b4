"""A worker with all that it works with, put together and taken apart in one place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cellseg_device.cells.counting import Counting
from cellseg_device.image.sandbox import Decode
from cellseg_device.pipeline.models import Models
from cellseg_device.pipeline.renewal import Renewal
from cellseg_device.results.folder import Output
from cellseg_device.results.retention import Retention
from cellseg_device.watching.worker import Worker


@contextmanager
def worker_for(
    out: Path,
    load: Callable[[], Models],
    warn: Callable[[str], None],
    *,
    decode: Decode,
    counting: Counting | None = None,
    extras: Collection[str] = (),
    asked: Collection[str] = (),
    watched: Path | None = None,
    keep_free_bytes: int = 0,
    retain_s: float | None = None,
    reload: Callable[[], Models] | None = None,
    awaited: Path | None = None,
) -> Iterator[Worker]:
    """Give a worker for an output folder; at the end close all that it took.

    Parameters
    ----------
    out : Path
        The output folder. It is opened by the first image, or by `watch.open_output`.
    load : callable
        Loads the models.
    warn : callable
        Receives a line for the user.
    decode : callable
        Reads and decodes a file: the `decode` of a `sandbox.Decoder`, which has to be made before this, because the
        processes that it forks should not hold what is opened here.
    counting : Counting or None
        None for the defaults.
    extras : collection of str
        What to make of every image beside its labels and table: names of `image_files.EXTRAS`.
    asked : collection of str
        Those of `extras` that images which were counted before get as well (`Worker.with_extras`).
    watched : Path or None
        The folder that is watched, whose images are named by their place in it.
    keep_free_bytes : int
        With less room than this on the disk of `out` no work is taken.
    retain_s : float or None
        How long overlays and captures are kept; None for ever.
    reload : callable or None
        Loads them again when a file of theirs was replaced; None to go on with what was loaded.
    awaited : Path or None
        As for `Renewal`.
    """
    counting = counting or Counting()
    with ExitStack() as stack:
        output = Output(out, warn, settings=counting.key(), watched=watched, keep_free_bytes=keep_free_bytes)
        stack.callback(output.close)
        models = load()
        worker = Worker(
            models,
            output,
            counting=counting,
            extras=extras,
            asked=asked,
            decode=decode,
            renewal=None if reload is None else Renewal(models, reload, warn, awaited=awaited),
            retention=None if retain_s is None else Retention(output, retain_s),
        )
        stack.callback(worker.close)
        yield worker
