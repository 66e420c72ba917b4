"""The names of a camera's captures, by which they are known wherever they lie."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cellseg_device.image.dates import Captured, as_iso

FOLDER_NAME = "captures"  # in the output folder, where captures are kept
KEPT, PASSING = ".png", ".tif"  # how the names of captures end that are kept, and that go when they have their results

CAMERA = "camera"  # what says when a capture was taken, as beside `image.dates.EXIF`

_NAME = re.compile(rf"(\d{{8}}T\d{{6}}\.\d{{3}}Z)-(\d{{6,}})({re.escape(KEPT)}|{re.escape(PASSING)})", re.ASCII)


def capture_name(time_ns: int, number: int, suffix: str) -> str:
    """Return the name of a capture: when it was taken, in UTC to the millisecond, and its number."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}.{rest_ns // 1_000_000:03}Z-{number:06}{suffix}"


def capture_number(name: str) -> int | None:
    """Return the number in a capture's name; None where it is no such name."""
    match = _NAME.fullmatch(name)
    return int(match[2]) if match else None


def capture_time(name: str) -> Captured | None:
    """Return when a capture was taken, by its name; None where it is no such name, or no such time."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    at = as_iso(re.sub(r"(....)(..)(..)T(..)(..)(.*)", r"\1-\2-\3T\4:\5:\6", match[1]))
    return Captured(at, CAMERA) if at is not None else None


def is_kept_capture(name: str) -> bool:
    """Whether this is the name of a capture that is kept."""
    return capture_number(name) is not None and name.endswith(KEPT)
