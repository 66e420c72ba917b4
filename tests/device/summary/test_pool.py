"""Pooling of fields against direct formulas, the names of groups, and what is read back from the tables."""

import csv
import math
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import stats

from cellseg_device.cells import concentration
from cellseg_device.errors import InputError
from cellseg_device.results.tables import COUNTS_COLUMNS
from cellseg_device.summary import pool, tables
from cellseg_device.summary.tables import Field
from cellseg_device.summary.timeline import timeline


def a_field(in_frame=10, count=None, area_px=1000, size=None, sample_ml=None, is_flagged=False) -> Field:
    count = in_frame if count is None else count
    return Field("a.png", count, in_frame, is_flagged, area_px, size, sample_ml, None, "EXIF", "a.cells.csv")


def none_of(fields) -> list[np.ndarray]:
    return [np.zeros(0, np.float32)] * len(fields)


def write_counts(out, *rows, columns=COUNTS_COLUMNS, end="\n"):
    basic = {"count": 3, "count_in_frame": 2, "height_px": 10, "width_px": 20}
    basic |= {"counted_area_px": 200, "labels": "a.labels.tif", "captured_at": "2026-03-10T08:17:00Z"}
    basic |= {"captured_from": "file"}
    with open(out / "counts.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator=end)
        table.writerow(columns)
        for number, row in enumerate(rows):
            whole = basic | {"image": f"{'abcdef'[number]}.png"} | row
            table.writerow([whole.get(name, "") for name in columns])


def read(out):
    warnings = []
    return tables.read_fields(out, warnings.append), warnings


def test_names_are_read_as_they_were_before_they_were_written(tmp_path):
    escaped = {"image": "'=a.png", "labels": "'=a.labels.tif"}
    write_counts(tmp_path, escaped, {"image": "'a.png", "labels": "'a.labels.tif"})
    fields, warnings = read(tmp_path)
    assert [(field.image, field.cells) for field in fields] == [("'a.png", "'a.cells.csv"), ("=a.png", "=a.cells.csv")]
    assert warnings == []


def test_a_group_is_what_the_formulas_say():
    rng = np.random.default_rng(3)
    counts, sizes = rng.integers(1, 90, 12), rng.choice([0.5, 0.65], 12)
    areas = rng.integers(10_000, 20_000, 12)
    volumes = rng.uniform(1e-5, 3e-5, 12)
    fields = [
        a_field(int(n), int(n) + 2, int(area), float(size), float(ml), bool(n % 2))
        for n, area, size, ml in zip(counts, areas, sizes, volumes, strict=True)
    ]
    diameters = [rng.normal(20, 3, n + 2).astype(np.float32) for n in counts]
    group = pool.pool("g", fields, diameters)
    assert (group.group, group.images, group.flagged) == ("g", 12, int((counts % 2).sum()))
    assert (group.cells, group.cells_in_frame) == (counts.sum() + 24, counts.sum())
    assert group.mean_cells_per_image == pytest.approx(counts.mean() + 2)
    assert group.mean_in_frame_per_image == pytest.approx(counts.mean())
    assert group.sd_in_frame_per_image == pytest.approx(counts.std(ddof=1))
    assert group.median_diameter_px == pytest.approx(np.median(np.concatenate(diameters)))
    in_um = np.concatenate([d * s for d, s in zip(diameters, sizes, strict=True)])
    assert group.median_diameter_um == pytest.approx(np.median(in_um), rel=1e-6)
    area_mm2 = (areas * sizes**2).sum() * 1e-6
    assert group.density_per_mm2 == pytest.approx(counts.sum() / area_mm2)
    assert group.concentration_per_ml == pytest.approx(counts.sum() / volumes.sum())
    low = stats.chi2.ppf(0.025, 2 * counts.sum()) / 2 / volumes.sum()
    high = stats.chi2.ppf(0.975, 2 * counts.sum() + 2) / 2 / volumes.sum()
    assert group.concentration_low_per_ml == pytest.approx(low, rel=1e-9)
    assert group.concentration_high_per_ml == pytest.approx(high, rel=1e-9)
    expected = counts.sum() * areas * sizes**2 / (areas * sizes**2).sum()
    assert group.dispersion == pytest.approx(stats.chisquare(counts, expected).statistic / 11)


def test_dispersion_of_equal_fields_is_variance_by_mean():
    fields = [a_field(n) for n in (3, 8, 4, 9, 1)]
    counts = np.array([3, 8, 4, 9, 1])
    assert pool.pool("", fields, none_of(fields)).dispersion == pytest.approx(counts.var(ddof=1) / counts.mean())


def test_fields_differ_by_more_than_chance_about_as_often_as_is_said():
    rng = np.random.default_rng(1)
    for images, mean in ((3, 40), (10, 15), (100, 60)):
        drawn = [[a_field(int(n)) for n in rng.poisson(mean, images)] for _ in range(1500)]
        share = np.mean([pool.pool("", fields, none_of(fields)).exceeds_chance for fields in drawn])
        assert 0.003 < share < 0.02
    uneven = [a_field(int(n)) for n in rng.poisson(rng.gamma(5, 10, 30))]
    assert pool.pool("", uneven, none_of(uneven)).exceeds_chance


def test_what_is_unknown_of_one_field_is_unknown_of_the_group():
    fields = [a_field(size=0.5, sample_ml=1e-5), a_field()]
    group = pool.pool("", fields, [np.full(10, 4, np.float32)] * 2)
    assert (group.density_per_mm2, group.concentration_per_ml, group.median_diameter_um) == (None, None, None)
    assert group.median_diameter_px == 4


@pytest.mark.parametrize("fields", [[], [a_field(0)], [a_field(0, size=0.5, sample_ml=1e-5)] * 3])
def test_few_fields_and_no_cells(fields):
    group = pool.pool("", fields, none_of(fields))
    assert group.cells == 0
    assert group.dispersion is None
    assert not group.exceeds_chance
    assert group.median_diameter_px is None
    assert group.mean_cells_per_image == group.mean_in_frame_per_image == (0 if fields else None)
    assert (group.sd_in_frame_per_image is None) == (len(fields) < 2)
    if len(fields) == 3:
        assert (group.concentration_per_ml, group.concentration_low_per_ml, group.density_per_mm2) == (0, 0, 0)
        assert group.concentration_high_per_ml == pytest.approx(-math.log(0.025) / 3e-5)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("^(P[0-9]+)_", ["P1", "P10", ""]),
        ("P[0-9]+_[a-z]", ["P1_a", "P10_b", ""]),
        ("^(?P<plate>[^_]+)_(?P<well>.)?", ["P1-a", "P10-b", ""]),
        ("(x)?", ["", "", ""]),
        (".", ["P", "P", "o"]),
    ],
)
def test_names_of_groups(pattern, names):
    images = ["P1_a.png", "P10_b.png", "other.png"]
    assert pool.group_names(images, re.compile(pattern)) == names
    for folder in ("/P7_/", "P7_/", "P7_/P8_/"):
        assert pool.group_names([f"{folder}{image}" for image in images], re.compile(pattern)) == names


def test_folders_that_differ_can_be_grouped_by():
    assert pool.group_names(["/x/day1/a.png", "/x/day2/a.png"], re.compile(r"day\d")) == ["day1", "day2"]
    assert pool.group_names(["x/day1/a.png", "x/day2/a.png", "x/b.png"], re.compile("^[^/]+")) == [
        *("day1", "day2", "b.png")
    ]
    assert pool.group_names(["day1/a.png", "day2/a.png", "/x/y/b.png"], re.compile("^[^/]+")) == [
        *("day1", "day2", "b.png")
    ]
    assert pool.group_names(["/a.png", "/x/b.png"], re.compile("^[^/]+")) == ["a.png", "x"]
    assert pool.group_names([], re.compile("a")) == []


def test_groups_are_sorted_by_their_numbers_and_those_without_come_last():
    assert pool.in_order(["", "P10", "P9", "P1", "P07", "a", "9", "P9"]) == ["9", "a", "P1", "P07", "P9", "P10", ""]


def test_a_bad_pattern_is_explained():
    with pytest.raises(InputError, match=r"--group '\(' is not a regular expression"):
        pool.compile_pattern("(")


@pytest.mark.parametrize("count", [0, 1, 250])
def test_the_volume_of_the_sample_comes_from_the_concentration(tmp_path, count):
    found = concentration.concentration(count, 2.5e-5, dilution=4)
    names = ("concentration_per_ml", "concentration_low_per_ml", "concentration_high_per_ml")
    values = (found.per_ml, found.low_per_ml, found.high_per_ml)
    shown = {name: f"{value:.6g}" for name, value in zip(names, values, strict=True)}
    write_counts(tmp_path, {"count": count, "count_in_frame": count, **shown})
    (field,), warnings = read(tmp_path)
    assert warnings == []
    assert field.sample_ml == pytest.approx(2.5e-5 / 4, rel=1e-5)


def test_rows_are_read(tmp_path):
    write_counts(tmp_path, {"pixel_size_um": "0.5", "flags": "crowded"}, {"captured_at": ""})
    (first, second), warnings = read(tmp_path)
    at = datetime(2026, 3, 10, 8, 17, tzinfo=UTC)
    assert first == Field("a.png", 3, 2, True, 200, 0.5, None, at, "file", "a.cells.csv")
    assert first.area_um2 == 50
    assert (second.is_flagged, second.pixel_size_um, second.area_um2, second.captured_at) == (False, None, None, None)
    assert warnings == []


def test_images_are_in_the_natural_order_of_their_names(tmp_path):
    write_counts(tmp_path, *[{"image": f"IMG_{n}.png", "labels": f"{n}.labels.tif"} for n in (10, 9, 1, 2, 100)])
    assert [field.image for field in read(tmp_path)[0]] == [f"IMG_{n}.png" for n in (1, 2, 9, 10, 100)]


def test_a_time_by_the_cameras_clock_gets_no_zone(tmp_path):
    local, zoned = "2021-03-04T05:06:07", "2021-03-04T05:06:07.250+01:00"
    write_counts(tmp_path, {"captured_at": local, "captured_from": "EXIF"}, {"captured_at": zoned})
    fields = read(tmp_path)[0]
    assert [(field.captured_at, field.captured_from) for field in fields] == [
        (datetime.fromisoformat(local), "EXIF"),
        (datetime.fromisoformat(zoned), "file"),
    ]


@pytest.mark.parametrize("text", ["yesterday", "03/10/2026 8:17", "2026-02-30T08:17:00Z", ""])
def test_a_row_whose_time_cannot_be_read_is_summed_up(tmp_path, text):
    write_counts(tmp_path, {}, {"image": "b.png", "captured_at": text})
    fields, warnings = read(tmp_path)
    assert [(field.image, field.captured_at is None) for field in fields] == [("a.png", False), ("b.png", True)]
    assert warnings == []
    assert "not all have a time" in timeline(fields).label


def test_rows_of_an_older_version_and_those_saved_by_a_spreadsheet_are_read(tmp_path):
    old = ("image", "count", "count_in_frame", "height_px", "width_px", "pixel_size_um", "labels")
    write_counts(tmp_path, {}, columns=old, end="\r\n")
    path = tmp_path / "counts.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (field,), warnings = read(tmp_path)
    assert (field.area_px, field.sample_ml, field.is_flagged, warnings) == (200, None, False, [])


@pytest.mark.parametrize(
    "damage",
    [
        {"count": ""},
        {"count": "-1"},
        {"count": "3.5"},
        {"count": "65536"},
        {"count": "9" * 5000},
        {"count_in_frame": "4"},
        {"height_px": "0"},
        {"counted_area_px": "201"},
        {"pixel_size_um": "nan"},
        {"pixel_size_um": "0"},
        {"pixel_size_um": "1e-300"},
        {"pixel_size_um": "one"},
        {"concentration_per_ml": "inf"},
        {"concentration_per_ml": "0"},
        {"labels": "a.labels.t"},
        {"labels": "../a.labels.tif"},
    ],
)
def test_a_damaged_row_is_reported_and_left_out(tmp_path, damage):
    write_counts(tmp_path, {}, damage, {})
    fields, warnings = read(tmp_path)
    assert len(fields) == 2
    assert len(warnings) == 1
    assert warnings[0].startswith(f"counts.csv line 3 has {next(iter(damage))} ")


def test_an_image_that_is_listed_twice_is_counted_once(tmp_path):
    """As after two tables were put together."""
    write_counts(tmp_path, {"count": ""}, {"image": "a.png"}, {"image": "b.png"}, {"image": "a.png", "count": 7})
    fields, warnings = read(tmp_path)
    assert [(field.image, field.count) for field in fields] == [("a.png", 3), ("b.png", 3)]
    assert warnings[1:] == ["counts.csv line 5 is another row of a.png: left out"]
    columns, rows = tables.read_image_rows(tmp_path, ["a.png", "b.png"])
    assert [dict(zip(columns, row, strict=True))["count"] for row in rows] == [3, 3]


def test_a_row_cut_short_is_reported_and_left_out(tmp_path):
    write_counts(tmp_path, {}, {})
    path = tmp_path / "counts.csv"
    path.write_bytes(path.read_bytes()[:-30])
    fields, warnings = read(tmp_path)
    assert len(fields) == 1
    assert warnings[0].startswith("counts.csv line 3 has ")


@pytest.mark.parametrize("data", [b"", b"image;count\n", b"\xff\xfe", b"image\x00", b'"' + b"a" * 200_000])
def test_what_is_no_table_of_counts_is_refused(tmp_path, data):
    (tmp_path / "counts.csv").write_bytes(data)
    with pytest.raises(InputError, match=r"counts\.csv (has no column|is damaged)"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "is missing"),
        (b"", "is damaged"),
        (b"label,equivalent_diameter_area_px,x\n1,4,0\n2,5,0\n", "has 2 cells but counts.csv says 3"),
        (b"label,equivalent_diameter_area_px,x\n1,4,0\n2,5,0\n3\n", "is damaged"),
        (b"label,equivalent_diameter_area_px,x\n1,4,0\n2,,0\n3,1,0\n", "is damaged"),
        (b"label,equivalent_diameter_area_px,x\n1,4,0\n2,nan,0\n3,1,0\n", "is damaged"),
        (b"label,equivalent_diameter_area_px,x\n1,4,0\n2,\xff,0\n3,1,0\n", "is damaged"),
    ],
)
def test_a_table_of_cells_that_cannot_be_used_is_reported(tmp_path, data, why):
    if data is not None:
        (tmp_path / "a.cells.csv").write_bytes(data)
    with pytest.raises(InputError, match=rf"^a\.cells\.csv {why}"):
        tables.read_diameters(tmp_path, a_field(3))


def test_diameters_are_read(tmp_path):
    (tmp_path / "a.cells.csv").write_text("label,equivalent_diameter_area_px,x\n1,4.5,0\n2,5,0\n")
    assert tables.read_diameters(tmp_path, a_field(2)).tolist() == [4.5, 5]
