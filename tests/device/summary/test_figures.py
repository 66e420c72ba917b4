"""Ticks of axes, and that charts can be drawn of anything."""

import dataclasses
import io
import itertools
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFont

from cellseg_device.summary import chart, figures, pool
from cellseg_device.summary.tables import Field

START = datetime(2026, 12, 29, 7, 13, 20, tzinfo=UTC)


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def ink(data: bytes, colour: str, solid: int = 1) -> int:
    """Pixels of about this colour; only such as lie in squares of `solid` of them, which smoothed text has not."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    found = (np.abs(decoded(data) - wanted).max(axis=2) < 12).astype(np.uint8)
    return int(cv2.erode(found, np.ones((solid, solid), np.uint8)).sum())


def made(counts, hours=1.0, size=None, flagged=(), time=START):
    """Fields, and diameters of their cells."""
    rng = np.random.default_rng(0)
    fields = [
        Field(f"{i}.png", n, n, i in flagged, 10_000, size, None, time + i * timedelta(hours=hours), "EXIF", "")
        for i, n in enumerate(counts)
    ]
    return fields, [rng.normal(20, 3, n).clip(1).astype(np.float32) for n in counts]


@pytest.mark.parametrize("low", [0, 0.37, 812.5])
@pytest.mark.parametrize("span", [1e-6, 0.03, 0.99, 1, 7, 10, 123, 65_535, 3e9])
def test_ticks_of_numbers_are_round_even_and_cover_the_range(low, span):
    axis = chart.numbers(low, low + span)
    values = [value for value, _ in axis.ticks]
    step = values[1] - values[0]
    assert 3 <= len(values) <= 11
    assert axis.low <= low + step * 1e-6
    assert axis.high >= low + span - step * 1e-6
    assert f"{step:.0e}"[0] in "125"
    assert np.allclose(np.diff(values), step)
    labels = [label for _, label in axis.ticks]
    assert len(set(labels)) == len(labels)
    assert [float(label.replace(",", "")) for label in labels] == pytest.approx(values)


def test_counts_have_whole_ticks_and_equal_ends_an_axis():
    assert [label for _, label in chart.numbers(0, 2, least_step=1).ticks] == ["0", "1", "2"]
    assert chart.numbers(0, 0).high == 1


@pytest.mark.parametrize("days", [0, 1e-5, 0.001, 0.01, 0.2, 1, 3, 9, 30, 100, 400, 3000, 40_000, 1e6])
@pytest.mark.parametrize("start", [START, datetime(1950, 2, 3, tzinfo=UTC)])
def test_ticks_of_times_lie_within_and_are_few(days, start):
    end = start + timedelta(days=days)
    axis = chart.times(start, end)
    assert axis.low < start.timestamp() <= end.timestamp() < axis.high
    assert 2 <= len(axis.ticks) <= 11
    assert all(axis.low <= time <= axis.high for time, _ in axis.ticks)
    steps = np.diff([time for time, _ in axis.ticks])
    assert steps.min() > 0.85 * steps.max()  # months differ in length


def test_labels_of_times_name_the_day_and_the_year_once():
    days = chart.times(START, START + timedelta(days=6))
    assert [label for _, label in days.ticks][:4] == ["30 Dec\n2026", "31 Dec\n", "1 Jan\n2027", "2 Jan\n"]
    hours = chart.times(START, START + timedelta(hours=20))
    assert [label for _, label in hours.ticks][:2] == ["09:00\n29 Dec 2026", "12:00\n"]
    assert [label for _, label in hours.ticks][5] == "00:00\n30 Dec 2026"
    months = chart.times(START, START + timedelta(days=200))
    assert next(label for _, label in months.ticks) == "Jan\n2027"
    weeks = chart.times(START, START + timedelta(days=60))
    assert all(datetime.fromtimestamp(time, UTC).weekday() == 0 for time, _ in weeks.ticks)


def test_the_ends_of_the_calendar():
    axis = chart.times(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
    assert [label for _, label in axis.ticks] == [f"{year}\n" for year in range(2000, 10_000, 2000)]
    assert chart.times(*[datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)] * 2).ticks


@pytest.mark.parametrize(
    "counts", [[], [0], [0] * 5, [42], [100] * 6, [1, 2, 3, 60_000], [30] * 20 + [60_000], [3] * 2000]
)
@pytest.mark.parametrize("groups", [None, 1, 3, 12])
def test_anything_can_be_drawn(counts, groups):
    fields, diameters = made(counts)
    names = [pool.TOTAL if groups is None else "" if i % groups == 0 else str(i % groups) for i in range(len(counts))]
    first = "#0072B2"
    for data in (figures.counts_per_image(fields, names), figures.sizes(fields, names, diameters)):
        assert decoded(data).shape == (chart.HEIGHT_PX, chart.WIDTH_PX, 3)
        assert ink(data, "#222222") > 100
    assert (ink(figures.counts_per_image(fields, names), first) > 40) == bool(counts)
    assert (ink(figures.sizes(fields, names, diameters), first) > 40) == (sum(counts) > 0 or bool(counts and groups))


def test_points_stand_where_they_should():
    fields, _ = made([0, 50, 100], hours=5)
    blue = np.abs(decoded(figures.counts_per_image(fields, [pool.TOTAL] * 3)) - [0, 0x72, 0xB2]).max(axis=2) < 12
    rows, cols = np.nonzero(blue)
    places = [(rows[part].mean(), cols[part].mean()) for part in np.array_split(np.argsort(cols), 3)]
    for (upper, left), (lower, right) in itertools.pairwise(places[::-1]):
        assert lower - upper == pytest.approx(532 / 2, abs=2)  # the axis goes from 0 to 100
        assert left - right == pytest.approx(1064 / 2 / 1.06, abs=2)


def test_below_a_point_is_a_bar_where_some_cells_are_not_in_the_frame():
    fields, _ = made([50] * 8)
    fewer = [dataclasses.replace(field, in_frame=25) for field in fields]
    for shown, at in ((fields, 0), (fewer, 25)):
        picture = decoded(figures.counts_per_image(shown, [pool.TOTAL] * 8))[60:600]
        blue = np.abs(picture - [0, 0x72, 0xB2]).max(axis=2) < 60
        lowest = np.nonzero(blue.any(axis=1))[0].max()
        expected = 548 - 532 * 25 / 50 if at else 16 + 6
        assert lowest == pytest.approx(expected, abs=3)


def test_flagged_images_are_hollow_and_groups_have_colours():
    fields, _ = made([50] * 8)
    flagged, _ = made([50] * 8, flagged=range(8))
    names = ["a", "b"] * 4
    for colour in chart.PALETTE[:2]:
        full = ink(figures.counts_per_image(fields, names), colour)
        assert 100 < ink(figures.counts_per_image(flagged, names), colour) < 0.8 * full


def test_the_ninth_group_is_among_the_others():
    for number, others in ((8, False), (9, True)):
        fields, diameters = made([50] * number)
        names = [f"g{i}" for i in range(number)]
        for data in (figures.counts_per_image(fields, names), figures.sizes(fields, names, diameters)):
            assert all(ink(data, colour) > 40 for colour in chart.PALETTE)
            assert (ink(data, chart.OTHERS, solid=5) > 10) == others


def test_sizes_are_in_micrometres_where_all_are_known(monkeypatch):
    labels = []
    real = figures.Chart
    monkeypatch.setattr(figures, "Chart", lambda *a: labels.append((a[4], a[2].high)) or real(*a))
    for size in (0.5, None):
        fields, diameters = made([500], size=size)
        figures.sizes(fields, [pool.TOTAL], diameters)
    assert [label[-4:] for label, _ in labels] == ["(µm)", "(px)"]
    assert labels[0][1] < 20 < labels[1][1]


@pytest.mark.parametrize("load", [ImageFont.load_default, lambda size: ImageFont.load_default_imagefont()])
def test_other_fonts_will_do(monkeypatch, load):
    monkeypatch.setattr(chart, "_font", load)
    fields, diameters = made([50] * 9, size=0.5)
    names = ["a – µm²", "日本", *"cdefghi"]
    assert ink(figures.sizes(fields, names, diameters), "#222222") > 300


def test_the_same_numbers_give_the_same_bytes():
    fields, diameters = made([50, 60])
    assert len({figures.sizes(fields, ["a", "b"], diameters) for _ in range(2)}) == 1
