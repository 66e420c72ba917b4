"""Where the images of a chart stand on its x axis: at their times, or in their order where times say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cellseg_device.results.tables import FILE
from cellseg_device.summary import chart
from cellseg_device.summary.chart import Axis
from cellseg_device.summary.tables import Field

_COPY_S_PER_IMAGE = 5  # files that follow each other faster were copied, or saved, in one go


@dataclass(frozen=True)
class Timeline:
    """An x axis, what it is called, and where on it each image stands."""

    axis: Axis
    label: str
    places: list[float]


def timeline(fields: Sequence[Field]) -> Timeline:
    """Return the axis for a chart of some images, which are in the order of their names."""
    times = [field.captured_at for field in fields]
    useless = _useless(fields)
    if useless is not None:
        places = [float(number) for number in range(1, len(fields) + 1)]
        return Timeline(chart.ordinals(len(fields)), f"images in the order of their names ({useless})", places)
    moments = [time.replace(tzinfo=time.tzinfo or UTC) for time in times if time is not None]
    if not moments:
        return Timeline(Axis(0, 1, ()), "images", [])
    axis = chart.times(min(moments), max(moments))
    return Timeline(axis, _label(fields), [moment.timestamp() for moment in moments])


def _useless(fields: Sequence[Field]) -> str | None:
    """Return why the times of some images say nothing; None if they do."""
    times = [field.captured_at for field in fields]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return "not all have a time"
    if len({_is_local(time) for time in known}) > 1:
        return "some times have a zone, others have none"
    if len(known) < 2:
        return None
    if len(set(known)) == 1:
        return "all have the same time"
    is_of_files = all(field.captured_from == FILE for field in fields)
    if is_of_files and (max(known) - min(known)).total_seconds() < _COPY_S_PER_IMAGE * len(known):
        return "their files are as close in time as those of a copy"
    return None


def _label(fields: Sequence[Field]) -> str:
    first = fields[0].captured_at
    zone = "by the camera's clock" if first is not None and _is_local(first) else "UTC"
    return f"time of the {'file' if all(field.captured_from == FILE for field in fields) else 'image'} ({zone})"


def _is_local(time: datetime) -> bool:
    return time.tzinfo is None
