"""What the processes have in common that answer as `helper` says: how they begin, find images, and answer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cv2

from cellseg_device.image.sandbox import Decoder
from cellseg_device.results.export import Originals
from cellseg_device.system import memory

BEHIND_COUNTING = 10  # niceness: what a watch finds goes first
Answer = tuple[dict[str, Any], bytes]


def begin(niceness: int) -> None:
    """Set this process up: at a low priority, on one core, and without memory that it no longer needs."""
    os.nice(niceness)
    memory.return_large_blocks()
    cv2.setNumThreads(1)


@contextmanager
def originals_of(out: Path, folder: Path | None) -> Iterator[Originals]:
    """Give the images of a results folder, which are decoded in the sandbox.

    Parameters
    ----------
    out : Path
        The output folder.
    folder : Path or None
        Where the images are; None for where `export` looks for them.
    """
    folders = (out.absolute().parent, out) if folder is None else (folder, out.absolute().parent)
    with Decoder() as decoder:
        yield Originals.under(folders, out, decoder.decode)


def put(answers: BinaryIO, head: dict[str, Any], data: bytes) -> None:
    """Write an answer."""
    answers.write(json.dumps(head | {"bytes": len(data)}).encode() + b"\n" + data)
    answers.flush()


def serve(answer: Callable[[dict[str, Any]], Answer], asked: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    for line in asked:
        put(answers, *answer(json.loads(line)))
