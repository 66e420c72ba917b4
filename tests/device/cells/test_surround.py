"""The surround of a field of view: found where there is one, whatever is in the field, and nowhere else."""

import cv2
import numpy as np
import pytest

from cellseg_device.cells import region, surround
from cellseg_device.cells.counting import Counting
from cellseg_device.image.pixels import Image

SHAPE = (600, 800)


def smear(shape=SHAPE, colour=True, dtype=np.uint8, seed=0):
    """A bright field with dark nuclei, some of them under any rim."""
    rng = np.random.default_rng(seed)
    height, width = shape
    pixels = np.full(shape, 225.0)
    for _ in range(height * width // 4000):
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(pixels, centre, int(rng.integers(6, 14)), float(rng.integers(60, 130)), -1)
    pixels = cv2.GaussianBlur(pixels, (0, 0), 1.2) + rng.normal(0, 2, shape)
    grey = np.clip(pixels, 0, 255).astype(dtype) * (np.iinfo(dtype).max // 255)
    return np.dstack([grey, grey // 4 * 3, grey]) if colour else grey


def around(pixels, inside, shade="dark", blur=1.0):
    """The image with a surround outside a mask, as an optical rim shows it: not quite sharp, with a little noise."""
    top = np.iinfo(pixels.dtype).max
    level = np.random.default_rng(1).integers(0, 8 if shade == "dark" else 1, pixels.shape) * (top // 255)
    outside = level if shade == "dark" else top - level
    weight = cv2.GaussianBlur(inside.astype(np.float32) / 255, (0, 0), blur)
    weight = weight[..., None] if pixels.ndim == 3 else weight
    return (pixels * weight + outside * (1 - weight)).astype(pixels.dtype)


@pytest.mark.parametrize("shade", ["dark", "bright"])
@pytest.mark.parametrize(
    ("colour", "dtype"), [(True, np.uint8), (False, np.uint8), (False, np.uint16)], ids=["rgb", "grey", "grey16"]
)
@pytest.mark.parametrize(
    "text",
    [
        "circle:300,400,260",
        "circle:310,380,300",  # touches a border
        "circle:300,400,420",  # only the corners are dark
        "circle:200,300,380",  # one corner is bright
        "rectangle:0,90,600,600",  # bars at both sides
        "rectangle:60,0,540,800",  # a bar above
        "rectangle:80,100,400,600",
    ],
)
def test_round_and_straight_rims_are_found_to_a_few_pixels(text, colour, dtype, shade):
    given = region.parse(text)
    pixels = smear(colour=colour, dtype=dtype)
    if shade == "bright":
        pixels = pixels // 2  # else the background is as bright
    found = surround.find(around(pixels, region.draw(given, SHAPE), shade))
    assert found is not None
    assert (found.shade, found.field.kind) == (shade, given.kind)
    assert np.abs(np.subtract(found.field.numbers, given.numbers)).max() <= 8
    expected, mask = region.draw(given, SHAPE) > 0, region.draw(found.field, SHAPE) > 0
    assert np.count_nonzero(mask & ~expected) <= 0.002 * mask.size  # hardly any of the surround is let in
    assert np.count_nonzero(expected & ~mask) <= 0.02 * mask.size


def nuclei(shape=SHAPE):
    """Bright nuclei on a dark field."""
    return 255 - smear(shape, colour=False)


def embryo():
    """One specimen on a dark ground, as round as an egg."""
    pixels = np.full(SHAPE, 3, np.uint8)
    cv2.ellipse(pixels, (400, 300), (330, 190), 12, 0, 360, 120, -1)
    return cv2.add(pixels, nuclei() // 2 * (pixels > 60))


def spheroid():
    """A round specimen that shines in the dark, with nuclei brighter than the rest."""
    pixels = np.full(SHAPE, 3, np.uint8)
    cv2.circle(pixels, (400, 300), 250, 90, -1)
    return cv2.add(pixels, nuclei() // 3 * (pixels > 60))


def nucleus():
    """A single cell, cut out of a larger image."""
    pixels = np.full((100, 100), 12, np.uint8)
    cv2.circle(pixels, (50, 50), 32, 170, -1)
    return cv2.GaussianBlur(pixels, (0, 0), 1)


def lumen():
    """A round gap in dark tissue, which is less even than what surrounds a field of view."""
    rng = np.random.default_rng(2)
    tissue = cv2.resize(rng.integers(0, 90, (60, 80)).astype(np.uint8), (800, 600), interpolation=cv2.INTER_LINEAR)
    return cv2.circle(tissue, (400, 300), 250, 230, -1)


def spotlight():
    """Light that falls to nothing at the same distance everywhere, without a rim."""
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    fall = np.clip((270 - np.hypot(rows - 300, cols - 400)) / 200, 0, 1)
    return (smear(colour=False) * fall).astype(np.uint8)


def crowded():
    """Very dark nuclei that lie at the image's border here and there, as a camera without colours shows them."""
    pixels, rng = smear((256, 320), colour=False), np.random.default_rng(3)
    for _ in range(14):
        along = int(rng.integers(320)), int(rng.integers(256))
        for centre in ((along[0], 0), (along[0], 255), (0, along[1]), (319, along[1])):
            cv2.circle(pixels, centre, int(rng.integers(6, 13)), 12, -1)
    return cv2.GaussianBlur(pixels, (0, 0), 1)


def grid():
    """Dots at even distances, of which a sample of the pixels would show a few broad bands."""
    dot = np.zeros((10, 10), np.uint8)
    cv2.circle(dot, (5, 5), 3, 160, -1)
    return cv2.GaussianBlur(np.tile(dot, (260, 260)), (0, 0), 0.8) + 20


def clump():
    """A few cells at the border of a dark field, which leave a ragged hole."""
    pixels = np.full(SHAPE, 4, np.uint8)
    for row, col, radius in ((200, 260, 150), (380, 330, 160), (300, 560, 170)):
        cv2.circle(pixels, (col, row), radius, 180, -1)
    return pixels


def vignette():
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    fall = np.clip(1.15 - (np.hypot(rows - 300, cols - 400) / 520) ** 2, 0, 1)
    return (smear(colour=False) * fall).astype(np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [
        smear(),
        nuclei(),
        embryo(),
        spheroid(),
        nucleus(),
        lumen(),
        spotlight(),
        clump(),
        vignette(),
        np.zeros(SHAPE, np.uint8),
        np.full(SHAPE, 255, np.uint8),
        np.tile(np.arange(800, dtype=np.uint16) * 80, (600, 1)),
        np.zeros((1, 1), np.uint8),
        smear((3, 700), colour=False),
        np.zeros((1, 9000), np.uint8),
        grid(),
        crowded(),
    ],
    ids=[
        "smear",
        "nuclei",
        "embryo",
        "spheroid",
        "nucleus",
        "lumen",
        "spotlight",
        "clump",
        "vignette",
        "black",
        "white",
        "slope",
        "pixel",
        "strip",
        "line",
        "grid",
        "crowded",
    ],
)
def test_what_is_no_surround_is_left_alone(pixels):
    assert surround.find(pixels) is None
    image = Counting().applied(Image(pixels))
    assert (image.field, image.surround) == (None, "")


def captioned(pixels):
    return cv2.putText(pixels, "2026-11-30 12:30", (10, 595), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)


def pointed(pixels):
    return cv2.line(pixels, (400, 300), (690, 300), (5, 5, 5), 8)


def squeezed(pixels):
    return cv2.resize(pixels, (816, 600))


@pytest.mark.parametrize("spoil", [captioned, pointed, squeezed])
def test_captions_pointers_and_pixels_that_are_not_square_do_not_hide_a_circle(spoil):
    pixels = spoil(around(smear(), region.draw(region.parse("circle:300,400,280"), SHAPE)))
    found = surround.find(pixels)
    assert (found.shade, found.field.kind) == ("dark", "circle")
    assert found.field.numbers[2] == pytest.approx(277, abs=5)


@pytest.mark.parametrize("degrees", [1, 3])
def test_of_a_tilted_field_the_upright_part_is_taken(degrees):
    inside = cv2.warpAffine(
        region.draw(region.parse("rectangle:80,100,440,600"), SHAPE),
        cv2.getRotationMatrix2D((400, 300), degrees, 1),
        SHAPE[::-1],
        flags=cv2.INTER_NEAREST,
    )
    found = surround.find(around(smear(), inside))
    mask = region.draw(found.field, SHAPE) > 0
    assert np.count_nonzero(mask & (inside == 0)) <= 0.01 * mask.sum()
    assert np.count_nonzero(mask) >= 0.85 * np.count_nonzero(inside)


@pytest.mark.parametrize("blur", [2, 6])
def test_the_less_sharp_a_rim_the_farther_in_the_field_ends(blur):
    pixels = around(smear(), region.draw(region.parse("circle:300,400,260"), SHAPE), blur=blur)
    radius = surround.find(pixels).field.numbers[2]
    assert 260 - 3 * blur - 5 <= radius <= 260 - blur


def test_a_region_that_is_given_is_taken_in_place_of_the_one_that_would_be_found():
    pixels = around(smear(), region.draw(region.parse("circle:300,400,260"), SHAPE))
    found = Counting().applied(Image(pixels))
    assert found.surround.startswith("dark, around circle:")
    again = Counting(region=region.parse(found.surround.removeprefix("dark, around "))).applied(Image(pixels))
    assert np.array_equal(again.field, found.field)
    assert again.surround == ""
    whole = Counting(region=region.parse("whole")).applied(Image(pixels))
    assert (whole.field, whole.surround) == (None, "")
