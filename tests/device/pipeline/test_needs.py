"""What an image needs is said before it is done: never less than it takes, and not much more."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cellseg_device.errors import ImageError
from cellseg_device.image.budget import Budget
from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import needs, predict
from cellseg_device.pipeline.predict import maps_digest
from cellseg_device.pipeline.segmenter import Segmenter
from cellseg_device.system import memory

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "memory.py"
SAID_TOO_MUCH = 1.65  # an image that takes less than that is at worst refused, although it would just have fitted

needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="not applicable: there is no /proc")


@pytest.fixture
def fresh(model_path):
    """A model whose runtime has seen nothing large."""
    return Model(model_path)


@pytest.fixture
def available(monkeypatch):
    """Set the memory that is available."""

    def be(number):
        monkeypatch.setattr(memory, "available_bytes", lambda: None if number is None else int(number))

    return be


@needs_proc
@pytest.mark.parametrize(
    "case",
    [
        {"kind": "rgb8.png", "content": "noise", "side": 2000},
        {"kind": "grey8.png", "content": "ordinary", "side": 1000, "extra": "overlay"},
        {"kind": "grey8.png", "content": "ordinary", "side": 200, "extra": "overlay"},
        *(
            pytest.param(case, marks=pytest.mark.slow)
            for case in (
                {"kind": "grey8.png", "content": "empty", "side": 3000},
                {"kind": "grey8.png", "content": "ordinary", "side": 6000},
                {"kind": "grey8.png", "content": "crowded", "side": 1400},
                {"kind": "rgb8.jpg", "content": "tissue", "side": 3000},
                {"kind": "rgb16.tif", "content": "noise", "side": 3000},
                {"kind": "float32.tif", "content": "ordinary", "side": 3000},
                {"kind": "grey16.png", "content": "ordinary", "side": 700},
                {"kind": "rgb16.tif", "content": "crowded", "side": 3000, "diameter_px": 9},
                {"kind": "grey8.png", "content": "noise", "side": 1400, "diameter_px": 9},
                {"kind": "grey8.png", "content": "crowded", "side": 3000, "diameter_px": 40},
                {"kind": "grey8.png", "content": "ordinary", "side": 4000, "extra": "geojson"},
                {"kind": "grey8.png", "content": "ordinary", "side": 4000, "extra": "coco"},
                {"kind": "rgb8.png", "content": "empty", "side": 4000, "extra": "overlay"},
                {"kind": "grey8.png", "content": "crowded", "side": 4000, "extra": "overlay", "is_masked": True},
                {"kind": "grey8.png", "content": "crowded", "side": 4000, "extra": "numbers"},
            )
        ),
    ],
    ids=lambda case: "-".join(map(str, case.values())),
)
def test_it_is_no_less_than_measured_and_not_absurd(environment, case):
    command = [sys.executable, SCRIPT, "--case", json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    took = json.loads(done.stdout)
    print(took)
    assert took["peak_mb"] <= took["needed_mb"]
    assert took["decoding_mb"] <= took["decoding_needed_mb"]
    assert took["needed_of_peak"] <= SAID_TOO_MUCH


def test_a_larger_image_and_more_to_make_of_it_need_more(fresh):
    plain = needs.needed_bytes((4000, 4000), 1, fresh)
    assert plain > 16e6 * (1 + 4)
    for more in (
        needs.needed_bytes((4000, 4001), 1, fresh),
        needs.needed_bytes((4000, 4000), 3, fresh),
        needs.needed_bytes((4000, 4000), 1, fresh, extras=["rois"]),
        needs.needed_bytes((4000, 4000), 1, fresh, extras=["numbers"]),
        needs.needed_bytes((3000, 3000), 1, fresh, ratio=0.5),
    ):
        assert more > plain
    assert needs.needed_bytes((4000, 4000), 1, fresh, ratio=0.5) == plain  # it is not enlarged further
    assert needs.needed_bytes((4000, 4000), 1, fresh, ratio=1.1) == plain


def test_what_the_runtime_holds_is_not_needed_again(fresh):
    first = needs.needed_bytes((1000, 1000), 1, fresh)
    fresh.resize(1008, 1008)
    assert first - needs.needed_bytes((1000, 1000), 1, fresh) > 80e6
    fresh.resize(64, 64)  # after which it holds a part
    assert 30e6 < first - needs.needed_bytes((1000, 1000), 1, fresh) < 80e6
    assert needs.needed_bytes((100, 100), 1, fresh) < 10e6


def test_a_network_of_fixed_tiles_has_its_memory_from_the_start(fresh, monkeypatch):
    assert predict.runtime_bytes(fresh, (1000, 1000)) > 80e6
    monkeypatch.setattr(fresh, "tile", (512, 512))
    assert predict.runtime_bytes(fresh, (1000, 1000)) == 0


def test_an_image_is_cut_into_tiles_where_the_memory_is_short_and_its_maps_are_the_same(fresh, available):
    rng = np.random.default_rng(0)
    image = Image(rng.integers(0, 256, (900, 1100), dtype=np.uint8))
    whole, tiled = (needs.needed_bytes((900, 1100), 1, fresh, whole_px=px) for px in (2_000_000, 500_000))
    assert whole - tiled > 40e6
    digests = []
    for number, expected in ((None, 2_000_000), (2 * whole, 2_000_000), (2 * whole - 9, 500_000), (tiled, 500_000)):
        model = Model(fresh.path)
        available(number)
        room = needs.room_for(image, model, needs.budget())
        assert room.whole_px == expected
        assert room.needed_bytes == (whole if expected == 2_000_000 else tiled)
        digests.append(maps_digest(predict.predict(image, model, diameter_px=18, whole_px=room.whole_px).maps))
        assert (model.held_px > 900 * 1100) == (expected == 2_000_000)
    assert len(set(digests)) == 1
    available(tiled - 1)
    with pytest.raises(ImageError, match=r"needs more memory than there is \(\d+ MB, and \d+ MB are free\)"):
        needs.room_for(image, fresh, needs.budget())


def test_what_is_reserved_is_not_there(fresh, available):
    image = Image(np.zeros((100, 100), np.uint8))
    available(50e6)
    assert needs.budget(reserved_bytes=10_000_000).available_bytes == 40_000_000
    needs.room_for(image, fresh, needs.budget(reserved_bytes=20_000_000))
    with pytest.raises(ImageError, match=r"\(\d+ MB, and 2 MB are free\)"):
        needs.room_for(image, fresh, needs.budget(reserved_bytes=48_000_000))


@pytest.mark.parametrize("extras", [(), ("overlay",), ("rois",)])
@pytest.mark.parametrize("ratio", [1, 0.4, 3])
def test_the_header_alone_refuses_nothing_that_fits(fresh, available, extras, ratio):
    available(10**9)
    least = needs.budget(extras).bytes_per_px
    for side in (1, 300, 3000, 12_000):
        needed = needs.needed_bytes((side, side), 3, fresh, ratio=ratio, extras=extras)
        assert side**2 * (3 + least) <= needed


def test_one_channel_that_is_searched_is_held_twice(fresh):
    pixels = np.zeros((2000, 2000, 3), np.uint8)
    plain, one = (needs.room_for(Image(pixels, None, c), fresh, Budget(None)).needed_bytes for c in (None, 2))
    assert one - plain == pytest.approx(4e6, rel=0.01)


def test_a_segmenter_refuses_what_does_not_fit(model_path, available, tmp_path, write_image):
    segmenter = Segmenter(model_path)
    path = write_image(tmp_path / "a.png", np.zeros((1000, 1000), np.uint8))
    for image, name in ((np.zeros((1000, 1000), np.uint8), "the array"), (path, f"{path}:")):
        available(200e6)
        assert segmenter(image).counts.count == 0
        available(11e6)
        with pytest.raises(ImageError, match="needs more memory than there is") as caught:
            segmenter(image)
        assert caught.value.message.startswith(name)
