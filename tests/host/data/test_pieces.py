"""Images are cut into tiles and put together again."""

import itertools

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellseg_device.errors import InputError
from cellseg_host.cli import main
from cellseg_host.data import pieces
from cellseg_host.data.pieces import Tile


def run(*arguments):
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


@given(st.data(), st.integers(1, 40), st.integers(1, 40), st.integers(2, 15))
@settings(max_examples=100, deadline=None)
def test_tiles_put_together_are_the_image(data, height, width, size):
    overlap = data.draw(st.integers(0, size - 1))
    kind = data.draw(st.sampled_from([np.uint8, np.uint16]))
    channels = data.draw(st.sampled_from([(), (3,), (4,)]))
    pixels = data.draw(arrays(kind, (height, width, *channels)))
    tiles = list(pieces.split(pixels, size, overlap))
    assert np.array_equal(pieces.stitch(tiles), pixels)
    assert all(tile.pixels.shape[:2] == (min(size, height), min(size, width)) for tile in tiles)
    for one, other in itertools.pairwise(tiles):
        if one.row == other.row:
            assert one.column + size - other.column >= overlap


def test_a_field_of_1600_px_has_165_tiles():
    tiles = list(pieces.split(np.zeros((1200, 1600), np.uint8), 200, 100))
    assert len(tiles) == 11 * 15
    assert {tile.pixels.shape for tile in tiles} == {(200, 200)}


def test_where_tiles_meet_the_greatest_value_is_kept():
    left, right = np.full((2, 4), 3, np.uint8), np.full((2, 4), 5, np.uint8)
    assert pieces.stitch([Tile(0, 2, right), Tile(0, 0, left)]).tolist() == [[3, 3, 5, 5, 5, 5]] * 2


def test_folders_are_split_and_stitched_as_they_are(tmp_path, field):
    image, _ = field
    pictures = {"images/a.b.tif": image.astype(np.uint16) * 200, "targets/a.b.png": np.dstack([image] * 4)}
    for name, pixels in pictures.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / "in" / name), pixels)
    result = run("split", tmp_path / "in", tmp_path / "tiles", "--size", 32, "--overlap", 8)
    assert result.exit_code == 0, result.output
    assert result.output == f"{tmp_path / 'tiles'}: 18 tiles of 2 images\n"
    names = {p.relative_to(tmp_path / "tiles").as_posix() for p in (tmp_path / "tiles").rglob("*.png")}
    assert {name.split("/", 1)[1] for name in names if name.startswith("images")} == {
        name.split("/", 1)[1] for name in names if name.startswith("targets")
    }
    assert "images/a.b_r28_c48.png" in names
    result = run("stitch", tmp_path / "tiles", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for name, pixels in pictures.items():
        found = cv2.imread(str((tmp_path / "out" / name).with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        assert (found.dtype, found.tolist()) == (pixels.dtype, pixels.tolist())


@pytest.mark.parametrize(
    ("names", "shapes", "words"),
    [
        (["a.png"], [(9, 9)], "is not named NAME_rROW_cCOLUMN as a tile"),
        (["a_r0_c0.png", "a_r0_c20.png"], [(9, 9), (9, 9)], "no tile covers row 0, column 9"),
        (["a_r0_c0.png", "a_r0_c9.png"], [(9, 9), (9, 9, 3)], "its tiles differ in depth or channels"),
        (["a_r0_c99999.png"], [(9, 9)], "its tiles are of an image that is 100008×9 pixels, over the limit"),
    ],
)
def test_what_cannot_be_put_together_is_refused_and_nothing_is_left(tmp_path, names, shapes, words):
    (tmp_path / "tiles").mkdir()
    for name, shape in zip(names, shapes, strict=True):
        cv2.imwrite(str(tmp_path / "tiles" / name), np.ones(shape, np.uint8))
    result = run("stitch", tmp_path / "tiles", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_cut_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="holds no PNG, JPEG or TIFF image"):
        pieces.images_below(tmp_path)
    (tmp_path / "in" / "a.png").write_text("text")
    result = run("split", tmp_path / "in", tmp_path / "out")
    assert (result.exit_code, (tmp_path / "out").exists()) == (2, False)
    assert "a.png: is not a PNG" in result.stderr
    (tmp_path / "in" / "a.tif").write_text("text")
    result = run("split", tmp_path / "in", tmp_path / "out")
    assert "a.tif: has the name of a.png: give one of them another name" in result.stderr
    result = run("split", tmp_path / "in", tmp_path / "out", "--size", 100)
    assert "100 is not less than the size of a tile, 100" in result.stderr
