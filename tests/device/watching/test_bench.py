"""The benchmark measures the pipeline as it is, and leaves nothing behind."""

import json

import cv2
import numpy as np
import pytest

from cellseg_device.errors import ImageError
from cellseg_device.image import decode
from cellseg_device.pipeline.models import Models
from cellseg_device.pipeline.stopwatch import STEPS
from cellseg_device.watching import bench as benching


@pytest.fixture(scope="module")
def result(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    done = []
    found = benching.bench(benching.known_field(150, 210), Models(model), 3, folder, done.append)
    assert done == [1, 2, 3]
    assert not list(folder.iterdir())
    return found


def test_every_step_and_the_whole_have_their_times(result):
    assert tuple(result["steps"]) == STEPS
    for times in (*result["steps"].values(), result["end_to_end"], result["sustained"]):
        assert [*times] == ["median_ms", "p95_ms"]
        assert 0 <= times["median_ms"] <= times["p95_ms"]
    slowest = max(times["median_ms"] for times in result["steps"].values())
    assert slowest <= result["end_to_end"]["p95_ms"]


def test_megapixels_follow_from_the_size_and_the_time(result):
    assert (result["image"]["height_px"], result["image"]["width_px"], result["runs"]) == (150, 210, 3)
    per_second = 150 * 210 / 1e3 / result["sustained"]["median_ms"]
    assert result["megapixels_per_s"] == pytest.approx(per_second, rel=0.01, abs=0.001)
    assert result["peak_rss_mb"] > 20


def test_it_says_what_ran_where(result, model):
    assert result["model"]["name"] == model.card.name
    assert result["model"]["threads"] == model.threads
    assert "litert" in result["model"]["runtime"] or "tflite" in result["model"]["runtime"]
    assert result["hardware"]["cores"] >= 1
    json.dumps(result)


def test_as_text_names_every_step(result):
    text = benching.as_text(result)
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(STEPS)]] == [*STEPS]
    assert "210×150 px" in text
    assert "None" not in text


def test_an_image_that_cannot_be_used_is_an_error_and_leaves_nothing(model, tmp_path):
    with pytest.raises(ImageError, match="is not a PNG, JPEG or TIFF"):
        benching.bench(b"text", Models(model), 1, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(1, 1), (100, 300), (256, 256), (300, 700)])
def test_the_known_field_has_any_size_and_is_repeated(size):
    pixels = decode.decode(benching.known_field(*size)).pixels
    assert pixels.shape == (*size, 3)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    field = cv2.cvtColor(decode.decode(benching.known_field(256, 256)).pixels, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(pixels[:256, :256, 0], field[: size[0], : size[1]])
    assert np.array_equal(pixels[256:, :, 0], pixels[:-256, :, 0][-max(size[0] - 256, 0) :][: max(size[0] - 256, 0)])


def test_every_run_makes_new_results(model, tmp_path):
    made = []
    benching.bench(
        benching.known_field(40, 50),
        Models(model),
        2,
        tmp_path,
        lambda _number: made.append(len(list(tmp_path.rglob("*.labels.tif")))),
    )
    assert made == [2, 3]  # the first run is not counted
