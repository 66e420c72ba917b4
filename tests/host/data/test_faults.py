"""What an import says of images with faults: each kind once, all of them in a table."""

import csv

import cv2
import pytest
from click.testing import CliRunner

from cellseg_device.errors import InputError
from cellseg_host.cli import main
from cellseg_host.data import importers
from cellseg_host.data.faults import Rejection, kinds
from cellseg_host.data.formats import FORMATS
from cellseg_host.data.formats.source import Options


def test_faults_that_differ_in_names_and_numbers_are_one_kind():
    reasons = (
        "has 2 images of this name (a.jpg, a.png)",
        "labels are 10×12 px, the image 80×60 px",
        "has 3 images of this name (b.jpg, b.png, b.tif)",
        "/data/c.png: labels have 3 channels: save them as one channel",
        "/data/d.png: labels have 4 channels: save them as one channel",
        "labels are 1,000×12 px, the image 80×60 px",
        "labels are 11×12 px, the image 80×60 px",
    )
    found = kinds(Rejection(f"i{n}", "s", reason) for n, reason in enumerate(reasons))
    assert [(kind.number, kind.first.id) for kind in found] == [(3, "i1"), (2, "i0"), (2, "i3")]
    assert found[0].text() == "i1 and 2 more: labels are 10×12 px, the image 80×60 px"
    assert found[1].text(with_set=True) == "i0 of s and 1 more: has 2 images of this name (a.jpg, a.png)"


def test_each_kind_of_fault_is_said_once_and_each_fault_is_in_the_table(labelled, field):
    """Names with several dots and upper-case endings are pairs; what lacks its partner is not."""
    for name in ("c.d.png", "E.PNG", "lone.png", "lone.2.png"):
        cv2.imwrite(str(labelled / "images" / name), field[0])
    for name in ("c.d.png", "E.TIF", "stray.png"):
        assert cv2.imwrite(str(labelled / "labels" / name), field[1])
    out = labelled / "dst"
    result = CliRunner().invoke(main, ["data", "import", "--format", "labels", str(labelled), str(out)])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "left out: lone and 1 more: has no label image of the same name",
        "left out: stray: has no image",
    ]
    with (out / "rejected.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["lone", "lone.2", "stray"]
    assert sorted(path.name for path in (out / "images").iterdir()) == ["E.png", "a.png", "b.png", "c.d.png"]
    assert not (out / "notes.csv").exists()


def test_an_option_that_no_format_uses_is_refused(labelled):
    with pytest.raises(InputError, match="--colour: is of no use here: leave it out"):
        importers.find([labelled], {"": "labels"}, {}, Options(colour=(0, 255, 0)))


@pytest.mark.parametrize("layout", [name for name, form in FORMATS.items() if not form.takes_file])
def test_a_file_in_place_of_a_folder_is_refused(labelled, layout):
    with pytest.raises(InputError, match=f"is a file: name the folder that it is in for --format {layout}"):
        importers.find([labelled / "images" / "a.png"], {"": layout}, {})


@pytest.mark.parametrize("layout", FORMATS)
def test_a_folder_that_is_not_there_or_empty_is_refused_and_nothing_is_left(tmp_path, layout):
    (tmp_path / "empty").mkdir()
    for source in ("empty", "missing"):
        command = ["data", "import", "--format", layout, str(tmp_path / source), str(tmp_path / "out")]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {tmp_path / source}")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
