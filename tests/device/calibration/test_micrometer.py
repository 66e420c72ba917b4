"""Stage micrometers as they look under a microscope: turned, thin or thick lines, noise, longer marks."""

import cv2
import numpy as np
import pytest

from cellseg_device.calibration.micrometer import draw_lines, find_lines
from cellseg_device.errors import ImageError


def scale(spacing, angle_deg=0.0, line=0.2, noise=3.0, shape=(480, 640), colour=False):
    """Dark lines on a bright field, every fifth and tenth longer, drawn three times as large and averaged."""
    height, width = shape
    angle = np.deg2rad(angle_deg)
    across, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    field = np.full((3 * height, 3 * width), 200, np.uint8)
    most = int(np.hypot(height, width) / spacing)
    for number in range(-most, most + 1):
        length = (0.4 if number % 10 == 0 else 0.32 if number % 5 == 0 else 0.25) * min(shape)
        begins, ends = (number - 0.37) * spacing, (number - 0.37 + line) * spacing
        corners = [(begins, -length), (ends, -length), (ends, length), (begins, length)]
        points = [np.array([width, height]) / 2 + a * across + b * along for a, b in corners]
        cv2.fillConvexPoly(field, np.round(3 * 2**8 * np.array(points)).astype(np.int32), 80, shift=8)
    field = cv2.resize(field.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    field = cv2.GaussianBlur(field, (0, 0), 1) + np.linspace(0, 30, width)
    field = np.clip(field + np.random.default_rng(0).normal(0, noise, shape), 0, 255).astype(np.uint8)
    return cv2.merge([field] * 3) if colour else field


@pytest.mark.parametrize("spacing", [6.3, 10.7, 23.4, 61.2])
@pytest.mark.parametrize("angle", [0, 0.7, -3, 17, 45, 90, 89.2, -60])
def test_the_spacing_is_found_at_any_angle(spacing, angle):
    found = find_lines(scale(spacing, angle))
    assert found.spacing_px == pytest.approx(spacing, rel=3e-3)
    assert (found.angle_deg - angle + 1) % 180 == pytest.approx(1, abs=1)


@pytest.mark.parametrize("line", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("noise", [0, 20])
@pytest.mark.parametrize("shape", [(480, 640), (1041, 1389), (2300, 2500)])
def test_thick_and_thin_lines_and_noise_leave_it_alone(line, noise, shape):
    assert find_lines(scale(23.4, 12, line, noise, shape)).spacing_px == pytest.approx(23.4, rel=3e-3)


def test_depth_and_colour_of_the_image_do_not_matter():
    grey = scale(23.4, 12)
    spacing = find_lines(grey).spacing_px
    assert find_lines(grey.astype(np.uint16) * 200).spacing_px == pytest.approx(spacing, rel=1e-4)
    assert find_lines(scale(23.4, 12, colour=True)).spacing_px == pytest.approx(spacing, rel=1e-4)
    assert find_lines(255 - grey).spacing_px == pytest.approx(spacing, rel=1e-3)


def test_the_marks_of_the_picture_lie_on_the_lines():
    field = scale(23.4, 17, noise=0)
    picture = draw_lines(field, find_lines(field))
    marked = (picture[..., 0] > 200) & (picture[..., 1] < 40)
    assert np.count_nonzero(marked) > 1000
    assert np.median(field[marked]) < 120  # the lines have 80, the spaces 200


@pytest.mark.parametrize(
    "field",
    [
        np.zeros((300, 400), np.uint8),
        np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8),
        np.tile(np.linspace(0, 255, 400), (300, 1)).astype(np.uint8),
        scale(300.0),
    ],
    ids=["black", "noise", "slope", "two lines"],
)
def test_an_image_without_lines_is_refused(field):
    with pytest.raises(ImageError, match="no equally spaced lines"):
        find_lines(field)


def test_images_of_cells_are_no_scale(draw_blobs):
    for seed in range(20):
        with pytest.raises(ImageError, match="no equally spaced lines"):
            find_lines(draw_blobs(300, 400, seed, 40))


@pytest.mark.parametrize("shape", [(1, 1), (15, 400)])
def test_a_sliver_is_refused(shape):
    with pytest.raises(ImageError, match="too small"):
        find_lines(np.zeros(shape, np.uint8))
