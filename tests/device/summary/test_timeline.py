"""The x axis of the counts: times where they say something, else the order of the names, and why."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from cellseg_device.summary.tables import Field
from cellseg_device.summary.timeline import timeline

START = datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)
LOCAL = START.replace(tzinfo=None)


def fields(times, source="EXIF"):
    return [Field(f"{n}.png", 5, 5, False, 100, None, None, time, source, "") for n, time in enumerate(times)]


def every(seconds, number=12, start=START):
    return [start + number * timedelta(seconds=seconds) for number in range(number)]


@pytest.mark.parametrize(
    ("images", "label"),
    [
        (fields(every(0.5)), "time of the image (UTC)"),
        (fields(every(600, start=LOCAL)), "time of the image (by the camera's clock)"),
        (fields(every(600), "file"), "time of the file (UTC)"),
        (fields(every(600, 1), "file"), "time of the file (UTC)"),
        (fields(every(600, 2)) + fields(every(600, 2), "file"), "time of the image (UTC)"),
    ],
)
def test_images_stand_at_their_times(images, label):
    line = timeline(images)
    assert line.label == label
    moments = [field.captured_at.replace(tzinfo=UTC) for field in images]
    assert line.places == [moment.timestamp() for moment in moments]
    assert line.axis.low < min(line.places) <= max(line.places) < line.axis.high


def test_times_of_several_zones_are_compared_as_moments():
    east = [time.astimezone(timezone(timedelta(hours=9))) for time in every(600, 3)]
    assert timeline(fields(east)).places == timeline(fields(every(600, 3))).places


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (fields(every(0.3), "file"), "their files are as close in time as those of a copy"),
        (fields([*every(0.3, 11), START + timedelta(seconds=59)], "file"), "as close in time as those of a copy"),
        (fields([START] * 3), "all have the same time"),
        (fields([*every(600), None]), "not all have a time"),
        (fields([*every(600), LOCAL]), "some times have a zone, others have none"),
    ],
)
def test_images_stand_in_their_order_where_times_say_nothing(images, why):
    line = timeline(images)
    assert line.label.startswith("images in the order of their names (")
    assert why in line.label
    assert line.places == [float(number) for number in range(1, len(images) + 1)]
    assert line.axis.low < 1 < len(images) < line.axis.high
    assert all(label == f"{value:g}" and 1 <= value <= len(images) for value, label in line.axis.ticks)


@pytest.mark.parametrize("number", [1, 3, 10, 11, 99, 12_345])
def test_ticks_of_an_order_are_whole_and_few(number):
    ticks = timeline(fields([None] * number)).axis.ticks
    assert 1 <= len(ticks) <= 10
    assert ticks[-1][0] <= number


def test_no_images():
    assert timeline([]).places == []
