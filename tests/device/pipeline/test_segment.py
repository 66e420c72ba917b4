"""The steps of the pipeline: tiles in, maps out, and the mask they make."""

import hashlib
import re

import cv2
import numpy as np
import pytest

from cellseg_device.cells import region
from cellseg_device.cells.counting import Counting
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import Output, Separation
from cellseg_device.model.interpreter import MapSpec
from cellseg_device.pipeline import predict, segment
from cellseg_device.pipeline.predict import maps_digest
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_device.pipeline.tiling import Tile
from cellseg_device.units import Length


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("reduction", [1, 2])
def test_channels_spread_over_blocks_row_by_row(block, reduction):
    side = 16
    expected = np.random.default_rng(0).integers(-128, 128, (side * 2, side * 3)).astype(np.int8)
    rows, cols = expected.shape[0] // block, expected.shape[1] // block
    tensor = np.empty((rows, cols, block * block), np.int8)
    for row in range(rows * block):
        for col in range(cols * block):
            tensor[row // block, col // block, row % block * block + col % block] = expected[row, col]
    spec = MapSpec(Output("foreground", 0, "logit"), block, reduction, 0.1, 0)
    found = np.zeros_like(expected)
    whole = Tile(0, 0, (0, side * 2 * reduction), (0, side * 3 * reduction))
    predict._stitch(found, tensor, spec, whole)
    assert np.array_equal(found, expected)


def test_only_the_kept_part_of_a_tile_is_written_and_at_its_place():
    spec = MapSpec(Output("distance", 0, "logit"), 1, 2, 0.1, 0)
    tensor = np.arange(8 * 8).reshape(8, 8, 1).astype(np.int8)
    found = np.full((40, 40), -1, np.int8)
    predict._stitch(found, tensor, spec, Tile(16, 32, (20, 28), (34, 46)))  # 16 × 16 pixels of the input
    expected = np.full((40, 40), -1, np.int8)
    expected[10:14, 17:23] = tensor[2:6, 1:7, 0]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_tiles_are_mirrored_beyond_the_image(shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    view = np.empty((16, 16, 3), np.int8)
    table = (np.arange(256) - 128).astype(np.int8)
    predict._fill(view, pixels, 16, 16, table)
    padded = np.pad(pixels[16:, 16:], [(0, 12), (0, 2), (0, 0)][: len(shape)], mode="reflect")
    expected = table[padded]
    assert np.array_equal(view, expected if len(shape) == 3 else np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_thin_images_are_mirrored_too(shape):
    view = np.empty((16, 16, 3), np.int8)
    predict._fill(view, np.full(shape, 200, np.uint8), 0, 0, (np.arange(256) - 128).astype(np.int8))
    assert (view == 72).all()


def test_the_digest_is_of_the_maps_in_the_order_of_their_quantities():
    foreground, distance = np.arange(6, dtype=np.int8).reshape(2, 3), np.full((1, 2), -3, np.int8)
    expected = hashlib.sha256(foreground.tobytes() + distance.tobytes()).hexdigest()
    assert maps_digest({"distance": distance, "foreground": foreground}) == expected
    assert maps_digest({"foreground": foreground.T.copy().T, "distance": distance}) == expected
    assert maps_digest({"foreground": foreground}) == hashlib.sha256(foreground.tobytes()).hexdigest()


def test_a_stopwatch_adds_up_also_what_fails():
    watch = Stopwatch()
    for _ in range(2):
        with watch.step("a"):
            pass
    first = watch.ms["a"]
    with pytest.raises(KeyError), watch.step("a"):
        raise KeyError
    assert [*watch.ms] == ["a"]
    assert watch.ms["a"] > first > 0


@pytest.mark.parametrize("quantity", ["distance", "centre", "outline"])
def test_each_kind_of_landscape_separates_touching_cells(quantity):
    """Two touching squares: by peaks of their own, or by the outline between them."""
    truth = np.zeros((40, 60), np.uint16)
    truth[10:30, 8:30], truth[10:30, 30:52] = 1, 2
    foreground = np.where(truth > 0, 100, -100).astype(np.int8)
    rows, cols = np.mgrid[:40, :60]
    depth = np.maximum(20 - np.hypot(rows - 20, (cols - 8) % 22 - 11) * 4, -100)
    landscape = np.where(truth > 0, depth, -100).astype(np.int8)
    if quantity == "outline":
        landscape = ~landscape
    maps = {"foreground": foreground, quantity: landscape}
    specs = {q: MapSpec(Output(q, i, "logit"), 1, 1, 1 / 16, 0) for i, q in enumerate(maps)}
    assert np.array_equal(segment.label(maps, truth.shape, specs, Separation()), truth)
    alone = {"foreground": specs["foreground"]}
    assert segment.label({"foreground": foreground}, truth.shape, alone, Separation()).max() == 1


def test_an_outline_map_is_turned_over_and_a_rise_is_in_its_steps():
    spec = MapSpec(Output("outline", 0, "logit"), 1, 1, 1 / 16, 3)
    values = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    landscape, of = segment.landscape_of({"outline": values}, {"outline": spec})
    assert np.array_equal(landscape.astype(int), -1 - values.astype(int))
    assert segment.limits(spec, of, Separation(prominence=0.5)).prominence == 8


def nuclei(diameter: float, dtype=np.uint8) -> tuple[np.ndarray, int]:
    """A field of round bright nuclei of this diameter, and their number; those of a row nearly touch."""
    side = round(diameter * 12)
    apart = 1.3 if diameter < 10 else 1.15  # diameters; of small ones the gap would be blurred away
    pixels = np.full((side, side), 20, np.float32)
    centres = [(r, c) for r in np.arange(1.5, 11, 3) for c in np.arange(1.2, 11.5, apart)]
    for row, col in centres:
        centre = round(col * diameter * 16), round(row * diameter * 16)
        cv2.circle(pixels, centre, round(diameter * 8), 160, -1, shift=4)
    pixels = cv2.GaussianBlur(pixels, (0, 0), diameter / 12)
    return (pixels * (np.iinfo(dtype).max // 255)).astype(dtype), len(centres)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("diameter", [9, 17, 40, 90])
def test_cells_of_a_given_diameter_are_found_whole_at_any_size(model, diameter, dtype):
    pixels, count = nuclei(diameter, dtype)
    found = segment.finish(predict.predict(Image(pixels), model, diameter_px=diameter), Stopwatch(), Counting())
    assert found.labels.shape == pixels.shape
    assert len(found.cells) == pytest.approx(count, rel=0.06)
    assert found.counts.median_diameter_px == pytest.approx(diameter, rel=0.25)
    assert found.counts.diameter_ratio == pytest.approx(1, abs=0.3)
    assert "--diameter" not in found.counts.flags


@pytest.mark.parametrize("diameter", [60, 75, 85])
def test_large_cells_are_noticed_unasked(model, diameter):
    pixels, count = nuclei(diameter)
    image = Image(pixels)
    prediction = predict.predict(image, model, Stopwatch())
    scaled = 1.2 * pixels.shape[0] * model.card.cell_diameter_px / diameter
    assert prediction.shape[0] == pytest.approx(scaled, rel=0.25)
    found = segment.finish(prediction, Stopwatch(), Counting())
    assert len(found.cells) == pytest.approx(count, rel=0.06)
    assert found.counts.diameter_ratio == pytest.approx(1.2, abs=0.35)
    assert "--diameter" not in found.counts.flags


@pytest.mark.parametrize("diameter", [9, 17, 27, 38])
def test_ordinary_cells_are_looked_at_once(model, diameter):
    image = Image(nuclei(diameter)[0])
    assert predict.predict(image, model, Stopwatch()).shape == image.shape


def test_a_diameter_near_the_models_leaves_the_image_as_it_is(model):
    image = Image(nuclei(17)[0])
    near = predict.predict(image, model, diameter_px=model.card.cell_diameter_px * 1.1)
    plain = predict.predict(image, model, Stopwatch())
    assert maps_digest(near.maps) == maps_digest(plain.maps)


@pytest.mark.parametrize("diameter", [0.01, 1e6])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 9)])
def test_absurd_diameters_and_sizes_end_well(model, diameter, shape):
    image = Image(np.zeros(shape, np.uint8))
    found = segment.finish(predict.predict(image, model, diameter_px=diameter), Stopwatch(), Counting())
    assert found.labels.shape == shape


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_fluorescence_in_one_colour_is_counted_as_in_grey(model, samples, channel):
    grey = segment.decode((samples / "hoechst8.png").read_bytes(), Stopwatch()).pixels
    pixels = np.zeros((*grey.shape, 3), np.uint8)
    pixels[..., channel] = grey
    labels, expected = (segment.labels_of(predict.predict(Image(p), model, Stopwatch())) for p in (pixels, grey))
    assert expected.max() > 80
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("colour", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (0.25, 0.3, 1)], ids=str)
def test_fluorescence_in_two_and_more_colours_is_counted_nearly_so(model, samples, colour):
    grey = segment.decode((samples / "hoechst8.png").read_bytes(), Stopwatch()).pixels
    tinted = np.round(grey[..., None] * np.array(colour)).astype(np.uint8)
    found, expected = (segment.labels_of(predict.predict(Image(p), model, Stopwatch())).max() for p in (tinted, grey))
    assert found == pytest.approx(expected, abs=6)


@pytest.mark.parametrize("diameter", [None, Length(30, "px")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_of_merged_stains_the_named_channel_is_counted_and_assessed_and_all_are_measured(
    model, samples, dtype, diameter
):
    grey = segment.decode((samples / "hoechst8.png").read_bytes(), Stopwatch()).pixels.astype(dtype)
    other, red = cv2.GaussianBlur(grey[::-1], (0, 0), 9), np.full_like(grey, 255)
    found, expected = (
        segment.segment(cv2.imencode(".png", pixels)[1].tobytes(), model, counting=Counting(None, channel, diameter))
        for pixels, channel in ((np.dstack([grey, other, red]), "blue"), (grey, None))  # as OpenCV has it: BGR
    )
    assert found.counts.count > 70
    assert np.array_equal(found.labels, expected.labels)
    assert found.counts == expected.counts
    columns = found.cells.columns
    assert np.array_equal(columns["intensity_mean_blue"], expected.cells.columns["intensity_mean"])
    assert (columns["intensity_mean_red"] == 255).all()
    assert not np.array_equal(columns["intensity_mean_green"], columns["intensity_mean_blue"])


def eyepiece(shape=(400, 480)) -> tuple[np.ndarray, np.ndarray, int]:
    """A bright field of dark nuclei, the same through an eyepiece, and how many have their centres in the circle."""
    rng, radius = np.random.default_rng(4), 170.0
    pixels, found = np.full((*shape, 3), (231, 222, 226), np.float32), 0
    for row in range(20, shape[0], 34):
        for col in range(20, shape[1], 34):
            y, x = row + rng.uniform(-6, 6), col + rng.uniform(-6, 6)
            cv2.circle(pixels, (round(x * 16), round(y * 16)), 160, (118, 72, 146), -1, shift=4)
            found += np.hypot(y + 0.5 - shape[0] / 2, x + 0.5 - shape[1] / 2) < radius
    pixels = cv2.GaussianBlur(pixels, (0, 0), 1) + rng.normal(0, 3, pixels.shape)
    inside = region.draw(region.parse(f"circle:{shape[0] / 2},{shape[1] / 2},{radius}"), shape)
    whole = np.clip(pixels, 0, 255).astype(np.uint8)
    dark = np.where(inside[..., None] > 0, whole, rng.integers(0, 8, whole.shape)).astype(np.uint8)
    return whole, dark, int(found)


@pytest.mark.parametrize("given", ["circle:200,240,170", None])
def test_what_surrounds_an_eyepieces_field_does_not_change_what_is_counted(model, given):
    counting = Counting(region=region.parse(given) if given else None)
    whole, dark, expected = eyepiece()
    found = segment.segment(cv2.imencode(".png", dark[..., ::-1])[1].tobytes(), model, counting=counting)
    assert found.counts.count == pytest.approx(expected, abs=2)
    assert found.counts.flags == ""
    assert found.counts.surround.startswith("dark, around circle:") == (given is None)
    of_all = segment.segment(
        cv2.imencode(".png", dark[..., ::-1])[1].tobytes(), model, counting=Counting(region=region.parse("whole"))
    )
    assert of_all.counts.count < expected - 2  # else this test shows nothing
    if given:
        same = segment.segment(cv2.imencode(".png", whole[..., ::-1])[1].tobytes(), model, counting=counting)
        assert np.array_equal(found.labels, same.labels)
        assert found.counts == same.counts


@pytest.mark.parametrize("diameter", [None, Length(9, "px"), Length(40, "px")], ids=str)
@pytest.mark.parametrize("kind", ["rgb", "grey", "grey16", "channel"])
def test_nothing_outside_a_region_has_an_effect_inside(model, samples, kind, diameter):
    grey = segment.decode((samples / "hoechst8.png").read_bytes(), Stopwatch()).pixels
    pixels = {
        "grey": grey,
        "grey16": grey.astype(np.uint16) * 257,
        "rgb": np.dstack([grey, grey // 2, grey // 3]),
        "channel": np.dstack([grey // 3, grey, 255 - grey]),
    }[kind]
    counting = Counting(
        region=region.parse("circle:130,120,95"), diameter=diameter, channel="green" if kind == "channel" else None
    )
    inside = region.draw(counting.region, grey.shape) > 0
    rng = np.random.default_rng(0)
    results = []
    for outside in (pixels, rng.integers(0, np.iinfo(pixels.dtype).max, pixels.shape, endpoint=True), pixels * 0):
        spoilt = np.where(inside if pixels.ndim == 2 else inside[..., None], pixels, outside).astype(pixels.dtype)
        image = counting.applied(Image(spoilt))
        prediction = predict.predict(image, model, Stopwatch(), diameter_px=counting.diameter_px(image))
        results.append(segment.finish(prediction, Stopwatch(), counting))
    assert results[0].counts.count > 10
    assert not results[0].labels[~inside].any()
    for other in results[1:]:
        assert np.array_equal(other.labels, results[0].labels)
        assert other.counts == results[0].counts
        assert all(np.array_equal(v, results[0].cells.columns[k]) for k, v in other.cells.columns.items())


@pytest.mark.parametrize("text", ["rectangle:3,4,1,1", "rectangle:0,0,2,2", "circle:128,128,3"])
@pytest.mark.parametrize("diameter", [None, Length(400, "px")], ids=str)
def test_the_smallest_regions_end_well(model, samples, text, diameter):
    counting = Counting(region=region.parse(text), diameter=diameter)
    found = segment.segment((samples / "hoechst8.png").read_bytes(), model, counting=counting)
    assert found.counts.counted_area_px == np.count_nonzero(region.draw(counting.region, found.labels.shape))


@pytest.mark.parametrize("factor", [0.6, 1.5, 1.9])
def test_a_wrong_diameter_is_flagged_with_the_right_one(model, factor):
    pixels, _ = nuclei(20)
    counting = Counting(diameter=Length(20 * factor, "px"))
    image = Image(pixels)
    prediction = predict.predict(image, model, diameter_px=counting.diameter_px(image))
    found = segment.finish(prediction, Stopwatch(), counting)
    measured = re.search(r"cells measure (\d+) px, not (\d+) \(see --diameter\)", found.counts.flags)
    assert abs(int(measured[1]) - 20) <= 3
    assert int(measured[2]) == round(20 * factor)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_part_of_an_image_with_its_ends_has_the_levels_of_the_whole(model, dtype):
    rng = np.random.default_rng(0)
    pixels = rng.integers(10, 60, (120, 100)).astype(dtype)  # dark, but for a bright corner
    pixels[:30, :30] += 150
    whole, part = Image(pixels), pixels[60:100, 40:90]
    _, ends = predict.shown_between(whole, model.card)
    expected = predict.levels(whole, model.card)[60:100, 40:90]
    assert np.array_equal(predict.levels(Image(part, ends=ends), model.card), expected)
    assert expected.max() < 128 < predict.levels(Image(part), model.card).max()


def test_a_part_with_its_ends_is_shown_in_all_its_channels_and_keeps_them_when_scaled(model):
    blue = np.zeros((40, 40, 3), np.uint8)
    blue[10:30, 10:30, 2] = 200
    assert predict.shown(Image(blue), model.card)[0].ndim == 2
    part = Image(blue, ends=(0, 100))
    assert predict.shown(part, model.card)[0].ndim == 3
    assert predict._scaled(part, 2.0).ends == (0, 100)
