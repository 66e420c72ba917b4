"""What the picture of a result shows, pixel for pixel, and what the strip below it says."""

import cv2
import numpy as np
import pytest

from cellseg_device.cells import region
from cellseg_device.cells.counting import Counting
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline.segment import count_labels
from cellseg_device.results import caption, overlay
from cellseg_device.results.overlay import Subject, draw, encode, outlines
from cellseg_device.units import Length

# Larger than what is enlarged, with no frame that would lie over the border
SHAPE = (330, 700)
NO_FRAME = Counting(frame=())


def subject(labels, pixels=None, counting=NO_FRAME, pixel_size_um=None):
    pixels = np.full(labels.shape, 90, np.uint8) if pixels is None else pixels
    result = count_labels(counting.applied(Image(pixels, pixel_size_um)), labels, 1 / 17, counting)
    return Subject(result.image, result.labels, result.counts, counting.frame, result.found)


def squares(*boxes, shape=SHAPE):
    labels = np.zeros(shape, np.uint16)
    for number, (row, col, side) in enumerate(boxes, 1):
        labels[row : row + side, col : col + side] = number
    return labels


def where(picture, colour):
    return (picture == colour).all(axis=2)


def is_outlined(picture, labels, number, colour):
    """The part of a cell's outline that has a colour."""
    line = (outlines(labels) > 0) & (labels == number)
    return where(picture[: labels.shape[0], : labels.shape[1]], colour)[line].mean()


def test_outlines_are_the_pixels_next_to_another_label(draw_labels):
    for labels in (draw_labels(), draw_labels(900, 700)):  # the latter in several bands
        padded = np.pad(labels, 1, mode="edge")
        other = np.zeros(labels.shape, bool)
        for shifted in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
            other |= shifted != labels
        assert np.array_equal(outlines(labels) == 255, other & (labels > 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 3)])
def test_the_picture_begins_with_the_image_and_its_lines_are_those_of_the_labels(dtype, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    labels = squares((100, 100, 50), (100, 150, 30), (200, 300, 9))
    picture = draw(subject(labels, pixels))
    assert picture.shape[0] > SHAPE[0]
    assert picture.shape[1:] == (SHAPE[1], 3)
    picture = picture[: SHAPE[0]]
    assert np.array_equal(where(picture, overlay._COUNTED), outlines(labels) > 0)
    beside = cv2.dilate((labels > 0).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))) > 0
    assert where(picture, (0, 0, 0))[beside & (labels == 0)].all()
    plain = draw(subject(np.zeros(SHAPE, np.uint16), pixels))[: SHAPE[0]]
    untouched = (outlines(labels) == 0) & ~(beside & (labels == 0))
    assert np.array_equal(picture[untouched], plain[untouched])
    decoded = cv2.imdecode(np.frombuffer(encode(picture), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == picture.shape


@pytest.mark.parametrize("shape", [SHAPE, (1500, 700)])
@pytest.mark.parametrize("background", [0, 120, 255])
@pytest.mark.parametrize("inside", [0, 120, 255])
def test_an_outline_shows_on_whatever_is_in_the_cell_and_around_it(background, inside, shape):
    """Also after it was a JPEG file, on the outline or beside it, against both sides."""
    labels = squares((100, 100, 41), (150, 300, 80), shape=shape)
    pixels = np.full(shape, background, np.uint8)
    pixels[labels > 0] = inside
    pixels[300:] = np.linspace(0, 255, SHAPE[1])  # else there is nothing between black and white
    drawn = cv2.imdecode(np.frombuffer(encode(draw(subject(labels, pixels))), np.uint8), cv2.IMREAD_COLOR)
    across = drawn[120, 92:108].astype(int)  # the outline is at 8, the dark line at 7
    for side in (across[2], across[14]):
        assert max(np.abs(across[7] - side).max(), np.abs(across[8] - side).max()) > 90


def test_cells_that_the_frame_excludes_are_dashed():
    labels = squares((0, 100, 40), (100, 0, 40), (290, 300, 40), (100, 300, 40))
    picture = draw(subject(labels, counting=Counting()))
    lines = [is_outlined(picture, labels, number, overlay._COUNTED) for number in (1, 2, 3, 4)]
    assert 0.3 < lines[0] < 0.7
    assert 0.3 < lines[1] < 0.7
    assert lines[3] == 1
    assert lines[2] > 0.95  # but where the frame's line lies over it
    top, bottom = picture[0], picture[SHAPE[0] - 1]
    assert 0.4 < where(top[None], overlay._EXCLUDING).mean() < 0.6
    assert where(bottom[None], overlay._INCLUDING)[0, 2:].all()
    assert not where(draw(subject(labels))[: SHAPE[0]], overlay._INCLUDING).any()


def test_cells_that_are_left_out_are_dashed_in_grey_and_the_outside_of_the_region_is_dimmed():
    labels = squares((100, 100, 40), (100, 200, 8), (200, 120, 8))
    counting = Counting(frame=(), region=region.parse("rectangle:50,50,250,250"), min_diameter=Length(20, "px"))
    drawn = subject(labels, np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8), counting)
    picture = draw(drawn)
    assert drawn.counts.left_out == 2
    assert is_outlined(picture, labels, 1, overlay._COUNTED) == 1
    for number in (2, 3):
        assert 0.3 < is_outlined(picture, labels, number, overlay._LEFT_OUT) < 0.7
    assert picture[:45].mean() == pytest.approx(picture[55:95, 55:295].mean() / 2, rel=0.1)
    assert where(picture, overlay._REGION)[50, 60:290].all()
    later = draw(Subject(drawn.image, drawn.labels, drawn.counts, drawn.frame))
    assert is_outlined(later, labels, 2, overlay._LEFT_OUT) < 0.1


@pytest.mark.parametrize(
    ("labels", "counting", "said"),
    [
        (squares((100, 100, 40)), NO_FRAME, "1 cell"),
        (squares(), Counting(), "0 cells"),
        (squares((0, 9, 40), (99, 9, 40), (99, 99, 40)), Counting(), "3 cells, 2 in the frame, 1 not (dashed)"),
        (
            squares((0, 9, 40), (99, 9, 40), (99, 99, 6)),
            Counting(min_diameter=Length(20, "px")),
            "2 cells, 1 in the frame, 1 not (dashed), 1 left out (grey)",
        ),
    ],
)
def test_the_strip_says_the_counts(labels, counting, said):
    drawn = subject(labels, counting=counting)
    assert overlay._texts(drawn, None)[0][0] == said
    flagged = [text for text, _ in overlay._texts(drawn, None)[1:]]
    assert flagged == ([f"Doubtful: {drawn.counts.flags}"] if drawn.counts.flags else [])


@pytest.mark.parametrize(
    ("width", "pixel_size_um", "expected"),
    [
        (700, 0.325, (154, "50 µm")),
        (1000, 1.0, (200, "200 µm")),
        (1000, 10.0, (200, "2 mm")),
        (640, 0.05, (100, "5 µm")),
        (300, 1e-4, (50, "0.005 µm")),
        (12, 1.0, None),
    ],
)
def test_a_scale_bar_has_a_round_length(width, pixel_size_um, expected):
    bar = caption.scale_bar(width, pixel_size_um)
    assert (bar and (bar.length_px, bar.text.replace("um", "µm"))) == expected


def test_the_scale_bar_is_drawn_at_the_scale_of_the_picture():
    pixels = np.full((250, 250), 90, np.uint8)
    for size_um in (None, 0.5):
        strip = draw(subject(np.zeros((250, 250), np.uint16), pixels, pixel_size_um=size_um))[500:]
        ink = where(strip, caption.INK)
        longest = max(len(run) for row in ink for run in "".join(" x"[v] for v in row.astype(int)).split())
        assert (longest == 2 * 20 / 0.5) if size_um else (longest < 20)


def test_a_small_image_is_enlarged_so_that_lines_do_not_cover_its_cells():
    labels = squares((20, 20, 9), shape=(128, 100))
    picture = draw(subject(labels))
    large = np.kron(labels, np.ones((4, 4), np.uint16))
    assert np.array_equal(where(picture[:512, :400], overlay._COUNTED), outlines(large) > 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (40, 3), (330, 700)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_every_image_has_a_picture_with_a_strip_that_can_be_read(shape, channels):
    pixels = np.zeros((*shape, *channels), np.uint8)
    picture = draw(subject(np.ones(shape, np.uint16), pixels, Counting(), pixel_size_um=0.5))
    assert picture.shape[1] >= caption.MIN_WIDTH_PX
    assert where(picture, caption.INK).sum() > 20


def test_a_large_overlay_is_scaled_down_and_names_its_scale():
    labels = squares((100, 100, 400), shape=(3000, 8000))
    picture = draw(subject(labels, pixel_size_um=1.0))
    assert overlay.MAX_SIDE_PX * 3 // 8 < picture.shape[0] < overlay.MAX_SIDE_PX // 2
    assert picture.shape[1] == overlay.MAX_SIDE_PX


def test_numbers_are_those_of_the_labels_where_they_have_room():
    labels = squares((100, 100, 60), (100, 300, 60), (200, 500, 2))
    drawn = subject(labels)
    plain, numbered = draw(drawn), draw(drawn, is_numbered=True)
    assert plain.shape == numbered.shape
    changed = (plain != numbered).any(axis=2)[: SHAPE[0]]
    assert changed[labels == 1].any()
    assert changed[labels == 2].any()
    assert not changed[(labels == 0) | (labels == 3)].any()
    numbers = overlay._Numbers.of(labels)
    assert [(text, row // 10, col // 10) for text, row, col in numbers.texts] == [("1", 13, 13), ("2", 13, 33)]
    assert overlay._texts(drawn, numbers)[0][0] == "3 cells, 1 too small for a number"


def test_an_image_of_small_cells_is_enlarged_for_their_numbers():
    labels = squares(*((row, col, 12) for row in (40, 80) for col in range(40, 600, 40)))
    assert draw(subject(labels), is_numbered=True).shape[1] == 3 * SHAPE[1]
    numbers = overlay._Numbers.of(np.kron(labels, np.ones((3, 3), np.uint16)))
    assert not numbers.lacking


def test_the_same_result_gives_the_same_bytes(draw_labels):
    labels = draw_labels(*SHAPE)
    assert overlay.make(subject(labels), is_numbered=True) == overlay.make(subject(labels), is_numbered=True)
