"""Closed lines drawn around cells become cells."""

import random

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_device.errors import CellsegError, InputError
from cellseg_host.cli import main
from cellseg_host.data.dataset import load
from cellseg_host.data.formats import outlines
from cellseg_host.data.formats.source import Options

SHAPE = (120, 160)
RED = (0, 0, 255)  # BGR, as OpenCV draws


def drawn_on(ground, shape=SHAPE, channels=3):
    """A ground to draw on."""
    if ground == "photograph":
        pixels = np.random.default_rng(0).integers(90, 200, (*shape, 3)).astype(np.uint8)
    else:
        pixels = np.zeros((*shape, 3), np.uint8)
    if channels == 3:
        return pixels
    return np.dstack([pixels, np.full(shape, 0 if ground == "transparent" else 255, np.uint8)])


def draw_ellipse(picture, centre, axes, width, colour=RED, extent=360):
    ink = (*colour, 255)[: picture.shape[2]]
    cv2.ellipse(picture, centre, axes, 0, 0, extent, ink, width)


def write(folder, picture, name="a.png"):
    for place, pixels in (("images", np.zeros(picture.shape[:2], np.uint8)), ("outlines", picture)):
        (folder / place).mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / place / name), pixels)


def read(folder, **options):
    (source,) = outlines.find(folder, Options(**options))
    return source.read_labels(SHAPE).labels


@given(
    st.lists(st.tuples(st.integers(6, 17), st.integers(6, 17)), min_size=1, max_size=6),
    st.integers(1, 4),
    st.sampled_from([("transparent", 4), ("black", 3), ("black", 4), ("photograph", 3), ("photograph", 4)]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_is_what_is_found(tmp_path_factory, axes, width, ground):
    folder = tmp_path_factory.mktemp("outlines")
    picture, true = drawn_on(ground[0], channels=ground[1]), np.zeros(SHAPE, np.uint16)
    for number, radii in enumerate(axes):
        centre = 30 + 50 * (number % 3), 30 + 60 * (number // 3)
        draw_ellipse(picture, centre, radii, width)
        cv2.ellipse(true, centre, radii, 0, 0, 360, number + 1, -1)
    write(folder, picture)
    found = read(folder)
    assert found.max() == len(axes)
    for number in range(1, len(axes) + 1):
        label = found[true == number]
        (own,) = np.unique(label[label > 0])
        one, other = found == own, true == number
        assert (one & other).sum() / (one | other).sum() > 0.72


def test_a_drawn_folder_becomes_a_dataset(tmp_path, field):
    source, picture = tmp_path / "source", drawn_on("transparent", channels=4)
    source.mkdir()
    draw_ellipse(picture, (40, 40), (20, 15), 3)
    draw_ellipse(picture, (100, 60), (15, 15), 3)
    write(source, picture, "a.b.png")
    write(source, drawn_on("transparent", channels=4), "empty.png")
    opened = drawn_on("transparent", channels=4)
    draw_ellipse(opened, (80, 60), (30, 30), 3, extent=270)
    write(source, opened, "open.png")
    (source / "images" / "a.b.png").unlink()
    cv2.imwrite(str(source / "images" / "a.b.tif"), np.zeros(SHAPE, np.uint8))
    (source / "outlines" / "lone.png").write_bytes((source / "outlines" / "a.b.png").read_bytes())
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["data", "import", "--format", "outlines", str(source), str(out)])
    assert result.exit_code == 1, result.output
    assert "left out: lone: has no image" in result.stderr
    assert "left out: open: open.png has an open line, which ends at row " in result.stderr
    assert {entry.id: entry.cells for entry in load(out).entries} == {"a.b": 2, "empty": 0}


def test_where_an_open_line_ends_is_said(tmp_path):
    picture = drawn_on("black")
    cv2.line(picture, (20, 30), (120, 30), RED, 3)
    write(tmp_path, picture)
    with pytest.raises(
        InputError, match=r"has an open line, which ends at row (29|30|31), column (19|20|120|121|18|122)"
    ):
        read(tmp_path)


def test_a_tail_of_a_closed_line_is_an_open_line(tmp_path):
    picture = drawn_on("black")
    draw_ellipse(picture, (50, 60), (20, 20), 2)
    cv2.line(picture, (70, 60), (140, 60), RED, 2)
    write(tmp_path, picture)
    with pytest.raises(InputError, match=r"has an open line, which ends at row (59|60|61), column 1(39|40|41)"):
        read(tmp_path)


def test_two_open_lines_are_counted(tmp_path):
    picture = drawn_on("black")
    for row in (30, 90):
        cv2.line(picture, (20, row), (120, row), RED, 3)
    write(tmp_path, picture)
    with pytest.raises(InputError, match=r"has 2 open lines, the first of which ends at row"):
        read(tmp_path)


def test_cells_that_touch_and_such_that_the_border_cuts_off(tmp_path):
    picture = drawn_on("black")
    cv2.rectangle(picture, (20, 20), (50, 50), RED, 2)
    cv2.rectangle(picture, (50, 20), (80, 50), RED, 2)
    cv2.rectangle(picture, (120, 90), (200, 200), RED, 2)
    write(tmp_path, picture)
    found = read(tmp_path)
    assert found.max() == 3
    assert len({found[35, 35], found[35, 65], found[110, 150], 0}) == 4
    assert np.count_nonzero(found) == pytest.approx(60 * 30 + 40 * 30, rel=0.1)


def test_another_colour_and_its_tolerance(tmp_path):
    picture = drawn_on("photograph")
    draw_ellipse(picture, (60, 60), (30, 20), 3, colour=(20, 230, 20))
    draw_ellipse(picture, (60, 60), (10, 5), 3)  # red, which is not asked for
    write(tmp_path, picture)
    assert read(tmp_path, colour=(0, 255, 0)).max() == 1
    with pytest.raises(InputError, match="has no line of the colour 0,255,0: give the lines' --colour"):
        read(tmp_path, colour=(0, 255, 0), tolerance=10)


def test_the_colour_is_given_in_several_ways(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    picture = drawn_on("black")
    draw_ellipse(picture, (60, 60), (30, 20), 3, colour=(0, 255, 0))
    write(source, picture)
    command = ["data", "import", "--format", "outlines", str(source)]
    for number, colour in enumerate(("lime", "#00ff00", "0,255,0")):
        result = CliRunner().invoke(main, [*command, "--colour", colour, f"{tmp_path}/out{number}"])
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, [*command, "--colour", "reddish", f"{tmp_path}/out"])
    assert "'reddish' is no colour: give it as red, #ff0000 or 255,0,0" in result.stderr


def test_other_pictures_are_refused(tmp_path):
    write(tmp_path, drawn_on("photograph"))
    cv2.imwrite(str(tmp_path / "outlines" / "a.png"), np.full(SHAPE, 3, np.uint8))
    with pytest.raises(InputError, match="is not in colour, 8 bits"):
        read(tmp_path)
    cv2.imwrite(str(tmp_path / "outlines" / "a.png"), drawn_on("photograph", (10, 10)))
    with pytest.raises(InputError, match=r"a\.png is 10×10 px, the image 160×120 px"):
        read(tmp_path)
    with pytest.raises(InputError, match="has no folder 'outlines'"):
        outlines.find(tmp_path / "images")


def test_of_mutated_files_each_is_read_or_refused_in_one_line(tmp_path, fuzz, capfd):
    picture = drawn_on("transparent", channels=4)
    draw_ellipse(picture, (60, 60), (30, 20), 3)
    write(tmp_path, picture)
    path, rng, faults = tmp_path / "outlines" / "a.png", random.Random(0), []
    sound = path.read_bytes()
    for _ in range(300):
        path.write_bytes(fuzz.mutated(sound, [sound], rng))
        try:
            assert read(tmp_path).shape == SHAPE
        except CellsegError as error:
            faults.append(error.message)
    assert 0 < len(faults) < 300
    assert [fault for fault in faults if not fault.isprintable()] == []
    assert capfd.readouterr().out == ""
