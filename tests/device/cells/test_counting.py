"""Which cells are counted, and what a count comes to."""

import json
from pathlib import Path

import numpy as np
import pytest

from cellseg_device.cells import region
from cellseg_device.cells.counting import Counting, parse_frame, parse_key
from cellseg_device.errors import ImageError, InputError
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline.segment import count_labels
from cellseg_device.units import CHANNELS, Length, parse_length


def field() -> np.ndarray:
    """Squares of side 10, 20 and 30; 1 and 3 touch the left and the bottom edge."""
    labels = np.zeros((100, 200), np.uint16)
    labels[40:50, 0:10] = 1
    labels[10:30, 50:70] = 2
    labels[70:100, 150:180] = 3
    labels[40:50, 100:110] = 4
    return labels


def result(counting: Counting, pixel_size_um: float | None = None):
    labels = field()
    image = counting.applied(Image((labels > 0).astype(np.uint8) * 99, pixel_size_um))
    if image.field is not None:  # nothing is found beyond the rim
        labels = np.unique(np.where(image.field > 0, labels, 0), return_inverse=True)[1].astype(np.uint16)
    return count_labels(image, labels, 1 / 17, counting)


def areas(found) -> list[int]:
    return found.cells.columns["area_px"].tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12um", Length(12, "um")),
        ("12 µm", Length(12, "um")),
        (" .5UM", Length(0.5, "um")),
        ("40.5px", Length(40.5, "px")),
    ],
)
def test_lengths_have_a_unit(text, expected):
    assert parse_length(text) == expected


@pytest.mark.parametrize("text", ["", "12", "12mm", "-3px", "0px", "px", "1e3px", "nanum", "9" * 400 + "px"])
def test_what_is_no_length_is_refused(text):
    with pytest.raises(InputError, match="as 12um or 40px"):
        parse_length(text)


def test_without_settings_all_cells_are_counted():
    found = result(Counting())
    assert areas(found) == [100, 400, 900, 100]
    assert (found.counts.count, found.counts.count_in_frame, found.counts.left_out) == (4, 3, 0)
    assert found.counts.counted_area_px == 100 * 200


@pytest.mark.parametrize(
    ("gate", "kept"),
    [
        ({"min_diameter": Length(15, "px")}, [400, 900]),
        ({"max_diameter": Length(15, "px")}, [100, 100]),
        ({"min_diameter": Length(10, "um"), "max_diameter": Length(15, "um")}, [400]),  # 2 px a µm
    ],
)
def test_cells_outside_the_size_gate_leave_the_labels(gate, kept):
    found = result(Counting(**gate), 0.5)
    assert areas(found) == kept
    assert found.counts.left_out == 4 - len(kept)
    assert np.bincount(found.labels.ravel())[1:].tolist() == kept
    assert found.cells.columns["label"].tolist() == list(range(1, len(kept) + 1))


def test_cells_whose_centre_lies_outside_the_region_leave_the_labels():
    found = result(Counting(region=region.parse("rectangle:0,60,100,200")), 1.0)
    assert areas(found) == [900, 100]  # ten columns of the second are inside
    assert found.counts.left_out == 1
    assert found.counts.counted_area_px == 100 * 140
    assert found.counts.covered_fraction == pytest.approx(1000 / 14000)
    assert found.counts.density_per_mm2 == pytest.approx(2 / (14000e-6))


@pytest.mark.parametrize("edge", [*range(40, 55), *range(58, 71)])  # not so near to the middle, at column 56
def test_of_regions_that_share_an_edge_one_counts_a_round_cell_that_it_cuts(edge):
    rows, cols = np.mgrid[:80, :120]
    whole = ((rows - 40.5) ** 2 + (cols - 55.5) ** 2 < 12.5**2).astype(np.uint16)
    counts = []
    for text in (f"rectangle:0,0,80,{edge}", f"rectangle:0,{edge},80,{120 - edge}"):
        counting = Counting(region=region.parse(text))
        image = counting.applied(Image((whole * 90).astype(np.uint8)))
        found = count_labels(image, np.where(image.field > 0, whole, 0), 1 / 17, counting)
        counts.append(found.counts.count)
        if 44 < edge < 68:
            assert found.cells.columns["touches_border"].tolist() == [1] * counts[-1]
    assert counts == ([0, 1] if edge < 56 else [1, 0])


@pytest.mark.parametrize(
    ("edges", "count"), [("none", 4), ("top,left", 3), ("left, bottom", 2), ("right", 4), ("top,bottom,left,right", 2)]
)
def test_the_frame_excludes_cells_on_its_edges_from_one_of_the_counts(edges, count):
    found = result(Counting(frame=parse_frame(edges)))
    assert (found.counts.count, found.counts.count_in_frame) == (4, count)


def test_an_unknown_edge_is_refused():
    with pytest.raises(InputError, match="'upper' is no edge of an image"):
        parse_frame("upper,left")


def test_micrometres_need_a_pixel_size():
    for counting in (Counting(min_diameter=Length(5, "um")), Counting(max_diameter=Length(5, "um"))):
        with pytest.raises(ImageError, match="give --pixel-size-um"):
            result(counting)
    with pytest.raises(ImageError, match="--diameter in µm needs"):
        Counting(diameter=Length(5, "um")).diameter_px(Image(np.zeros((2, 2), np.uint8)))


def test_a_pixel_size_of_the_settings_stands_in_place_of_the_images():
    image = Counting(pixel_size_um=0.25).applied(Image(np.zeros((2, 2), np.uint8), 9.0))
    assert image.pixel_size_um == 0.25
    assert Counting(diameter=Length(5, "um")).diameter_px(image) == 20


def test_a_channel_that_the_image_has_not_is_refused():
    assert Counting(channel="green").applied(Image(np.zeros((2, 2, 3), np.uint8))).channel == 1
    with pytest.raises(ImageError, match="is grey and has no green channel: leave --channel out"):
        Counting(channel="green").applied(Image(np.zeros((2, 2), np.uint8)))


def test_a_chamber_gives_a_concentration():
    found = result(Counting(depth_mm=0.1, dilution=2), 1.0).counts
    assert found.concentration_per_ml == pytest.approx(3 / (0.02 * 0.1 / 1000) * 2)
    assert found.concentration_low_per_ml < found.concentration_per_ml < found.concentration_high_per_ml
    assert result(Counting(depth_mm=0.1)).counts.concentration_per_ml is None


def test_the_key_tells_settings_apart_and_names_them():
    assert Counting().key() == "{}"
    key = Counting(min_diameter=Length(5, "um"), region=region.parse("circle")).key()
    assert json.loads(key)["min_diameter"] == {"unit": "um", "value": 5}
    keys = {Counting(dilution=2).key(), Counting(frame=()).key(), Counting(depth_mm=0.1).key(), key}
    keys |= {Counting(channel=name).key() for name in CHANNELS}
    assert len(keys) == 7


def test_an_image_without_cells_passes_every_setting():
    labels = np.zeros((7, 9), np.uint16)
    counting = Counting(min_diameter=Length(5, "px"), region=region.parse("circle"), depth_mm=0.1)
    found = count_labels(Image(np.zeros((7, 9), np.uint8), 1.0), labels, 1 / 17, counting)
    assert (found.counts.count, found.counts.left_out, found.counts.concentration_per_ml) == (0, 0, 0)
    assert found.counts.concentration_high_per_ml > 0


@pytest.mark.parametrize(
    "counting",
    [
        Counting(),
        Counting(frame=()),
        Counting(region=region.parse("circle"), channel="blue", pixel_size_um=0.5),
        Counting(region=region.Region("mask", path=Path("/m.png"), sha256="0f"), frame=("bottom", "right")),
        Counting(diameter=Length(12, "um"), min_diameter=Length(5, "px"), max_diameter=Length(50, "px")),
        Counting(region=region.parse("rectangle:1,2,3,4"), depth_mm=0.1, dilution=2),
    ],
)
def test_settings_are_read_again_from_their_key(counting):
    assert parse_key(counting.key()) == counting
