"""Regions: what their words mean, and the pixels inside."""

import ctypes
import faulthandler

import cv2
import numpy as np
import pytest

from cellseg_device.cells import region
from cellseg_device.errors import ImageError, InputError
from cellseg_device.image import decode


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("rectangle:2,3,4,5", 20),
        ("rectangle: 2, 3, 4x5", 20),
        ("rectangle:-5,-5,7,9", 2 * 4),
        ("rectangle:0,0,1000,1000", 200),
        ("circle:5,10,3", 32),  # pixels whose centres are within 3 of a corner of four
        ("circle", 80),
        ("whole", 200),
    ],
)
def test_the_pixels_whose_centres_are_inside_count(text, inside):
    mask = region.draw(region.parse(text), (10, 20))
    assert set(np.unique(mask)) <= {0, 255}
    assert np.count_nonzero(mask) == inside


def test_a_circle_is_round():
    mask = region.draw(region.parse("circle:100,150,80.5"), (200, 300))
    assert np.count_nonzero(mask) == pytest.approx(np.pi * 80.5**2, rel=5e-3)
    assert np.array_equal(mask, mask[::-1])
    assert np.array_equal(mask, mask[:, ::-1])


@pytest.mark.parametrize(
    "text",
    [
        "square",
        "circle:",
        "circle:1,2",
        "circle:1,2,0",
        "circle:a,b,c",
        "rectangle:1,2,3",
        "rectangle:1,2,3,-4",
        "circle:1,2,inf",
        "circle:1,nan,2",
        "circle:1e300,1e300,1e300",
    ],
)
def test_what_is_no_region_is_refused_with_the_forms(text):
    with pytest.raises(InputError, match=r"write rectangle:TOP,LEFT,HEIGHT,WIDTH"):
        region.parse(text)


@pytest.mark.parametrize("text", ["circle", "whole", "circle:5,10,3.5", "rectangle:0,1,2,3"])
def test_a_region_is_written_as_it_is_read(text):
    assert str(region.parse(text)) == text


def test_a_region_outside_the_image_is_a_fault_of_the_image():
    with pytest.raises(ImageError, match="lies outside"):
        region.draw(region.parse("circle:500,500,20"), (100, 100))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_image_is_a_region(tmp_path, channels):
    painted = np.zeros((40, 50, channels), np.uint8)
    painted[5:15, 10:30, -1] = 7
    cv2.imwrite(str(tmp_path / "mask.png"), painted)
    found = region.parse(str(tmp_path / "mask.png"))
    assert np.array_equal(region.draw(found, (40, 50)) > 0, painted.any(axis=2))
    with pytest.raises(ImageError, match=r"is 41×40 pixels, but the region's mask 50×40"):
        region.draw(found, (40, 41))


def test_a_mask_that_cannot_serve_is_refused(tmp_path):
    for name, content, words in (
        ("empty.png", np.zeros((5, 5), np.uint8), "zero everywhere"),
        ("bad.png", None, "is empty"),
    ):
        path = tmp_path / name
        path.touch() if content is None else cv2.imwrite(str(path), content)
        with pytest.raises(InputError, match=words):
            region.parse(str(path))
    with pytest.raises(InputError, match="neither a region nor a file"):
        region.parse(str(tmp_path / "missing.png"))
    with pytest.raises(InputError, match="cannot be read"):  # as of one in a closed folder
        region.parse(str(tmp_path / ("x" * 300)))


def test_a_mask_that_changes_after_the_start_stays_as_it_was(tmp_path):
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), np.full((6, 6), 9, np.uint8))
    found = region.parse(str(path))
    cv2.imwrite(str(path), np.zeros((6, 6), np.uint8))
    assert region.draw(found, (6, 6)).min() == 255


def test_a_mask_that_crashes_its_decoder_is_refused(tmp_path, monkeypatch):
    def crash(data, **options):
        faulthandler.disable()  # pytest's, which would print all about it
        ctypes.string_at(0)

    monkeypatch.setattr(decode, "decode", crash)
    (tmp_path / "mask.png").write_bytes(b"x")
    with pytest.raises(InputError, match="crashes the decoder"):
        region.parse(str(tmp_path / "mask.png"))
