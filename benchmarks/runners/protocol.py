"""How a peer is asked for labels: one JSON object a line on standard input, and answered on a pipe of its own.

What libraries print does not get between the answers. Uses the standard library and NumPy alone, since every peer has
these.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Found:
    """What a peer makes of one image.

    Attributes
    ----------
    labels : ndarray of int, shape (height, width), or None
        None where only the network is timed.
    network_ms : float or None
        The network's share of the time; None where there is no network.
    mask : callable or None
        Gives the foreground, ndarray of bool, where the peer has one apart from its labels; called outside the time.
    """

    labels: np.ndarray | None
    network_ms: float | None = None
    mask: Callable[[], np.ndarray] | None = None


def serve(segment: Callable[[Path], Found], versions: dict[str, str]) -> None:
    """Answer requests until standard input ends.

    A request is ``{"image": PATH, "labels": PATH or null, "mask": PATH or null}``; the arrays are written there, as
    .npy. The answer tells the milliseconds from the file to the labels, in ``ms``.
    """
    answers = os.fdopen(int(os.environ["ANSWERS_FD"]), "w", buffering=1)
    answers.write(json.dumps({"versions": versions}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(_answer(segment, json.loads(line))) + "\n")


def _answer(segment: Callable[[Path], Found], request: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    found = segment(Path(request["image"]))
    ms = (time.perf_counter() - start) * 1e3
    answer = {"ms": ms, "network_ms": found.network_ms, "peak_rss_mb": peak_rss_mb()}
    if found.labels is not None:
        answer["cells"] = int(np.count_nonzero(np.unique(found.labels)))
        if request.get("labels"):
            np.save(request["labels"], found.labels.astype(np.uint16))
        if request.get("mask"):
            np.save(request["mask"], found.labels > 0 if found.mask is None else found.mask())
    return answer


def peak_rss_mb() -> float:
    """Largest memory of this process in MB, without what the process that started it held (as ``ru_maxrss`` has)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status has no VmHWM")
