"""Tables of run lengths, in the encodings that the competitions' published code decodes."""

import random

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import dataset, jpeg, write
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellseg_device.errors import CellsegError, InputError
from cellseg_host.cli import main
from cellseg_host.data.dataset import load
from cellseg_host.data.formats import rle
from cellseg_host.data.formats.source import Options


def absolute(mask):
    """Encode as the Data Science Bowl 2018: start from 1 and length, down the columns."""
    padded = np.concatenate([[0], mask.T.ravel() > 0, [0]]).astype(int)
    edges = np.flatnonzero(np.diff(padded))
    pairs = zip(edges[::2] + 1, edges[1::2] - edges[::2], strict=True)
    return " ".join(f"{start} {length}" for start, length in pairs)


def relative(mask):
    """Encode as SIIM-ACR's ``mask_functions.py``: the gap before each run, and its length."""
    numbers, end = [int(number) for number in absolute(mask).split()], 1
    words = []
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        words += [start - end, length]
        end = start + length
    return " ".join(map(str, words)) or "-1"


ENCODE = {"absolute": absolute, "relative": relative}


def table(folder, rows, header="ImageId,EncodedPixels", name="masks.csv"):
    (folder / name).write_text("".join(f"{row}\n" for row in [header, *rows]))
    return folder / name


def rows_of(name, labels, encode):
    return [f"{name},{encode(labels == number)}" for number in range(1, int(labels.max(initial=0)) + 1)]


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 4)))
@settings(max_examples=100, deadline=None)
def test_both_encodings_come_back_as_they_were_written(tmp_path_factory, drawn):
    labels = np.unique(drawn, return_inverse=True)[1].reshape(drawn.shape).astype(np.uint16) + (drawn.min() > 0)
    folder = tmp_path_factory.mktemp("rle")
    cv2.imwrite(str(folder / "a.png"), np.zeros(labels.shape, np.uint8))
    for runs, encode in ENCODE.items():
        table(folder, rows_of("a", labels, encode) or ["a,"])
        (source,) = rle.find(folder, Options(runs=runs))
        found = source.read_labels(labels.shape)
        assert np.array_equal(found.labels, labels)
        assert found.notes == ()


def test_the_pneumothorax_layout_becomes_a_dataset(tmp_path, field):
    """Several rows an image, -1 for none, a space in the name of a column, rows that are there twice, nested DICOM."""
    image, labels = field
    source, out = tmp_path / "siim", tmp_path / "out"
    for name in ("1.2.1", "1.2.2", "1.2.9"):
        write(source / "dicom-images-train" / name / "x" / f"{name}.dcm", jpeg(image))
    rows = rows_of("1.2.1", labels, relative)
    path = table(source, [*rows, rows[0], "1.2.2, -1", "1.2.3, -1"], "ImageId, EncodedPixels", "train-rle.csv")
    command = ["--images", source / "dicom-images-train", "--keep", "PatientSex", path, out]
    result = CliRunner().invoke(main, ["data", "import", "--format", "rle", *map(str, command)])
    assert result.exit_code == 1, result.output
    assert result.stderr.splitlines() == [
        "note: runs of train-rle.csv are read as relative: each start counted from the end of the run before",
        "note: 1 row of train-rle.csv repeated another one: dropped",
        "left out: 1.2.3: has no image",
        "left out: 1.2.9: has no row in train-rle.csv",
    ]
    dataset_ = load(out)
    assert [(e.id, e.cells, e.kept) for e in dataset_.entries] == [
        ("1.2.1", labels.max(), {"PatientSex": "F"}),
        ("1.2.2", 0, {"PatientSex": "F"}),
    ]
    assert np.array_equal(dataset_.labels(dataset_.entries[0]), labels)


def test_the_nucleus_layout_becomes_a_dataset(tmp_path, field):
    image, labels = field
    source = tmp_path / "bowl"
    for folder in ("images", "masks"):
        (source / "stage1_train" / "ab" / folder).mkdir(parents=True)
        cv2.imwrite(str(source / "stage1_train" / "ab" / folder / ("ab.png" if folder == "images" else "0.png")), image)
    table(source, rows_of("ab", labels, absolute), name="stage1_train_labels.csv")
    command = ["data", "import", "--format", "rle", "--runs", "absolute", str(source), str(tmp_path / "out")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    (entry,) = load(tmp_path / "out").entries
    assert np.array_equal(load(tmp_path / "out").labels(entry), labels)


def test_an_encoding_is_never_guessed(tmp_path, field):
    cv2.imwrite(str(tmp_path / "a.png"), field[0])
    table(tmp_path, ["a,1 2"])
    with pytest.raises(
        InputError, match=r"does not say how its runs count: add --runs absolute \(.*\) or --runs relat"
    ):
        rle.find(tmp_path)


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (" image_id ;x", ["a.png,1 3"]),
        ("x,y", ["1,2"]),
        ("ImageId", ["a"]),
        ("", []),
    ],
)
def test_other_columns_are_refused(tmp_path, field, header, rows):
    cv2.imwrite(str(tmp_path / "a.png"), field[0])
    table(tmp_path, rows, header)
    with pytest.raises(InputError, match="needs columns ImageId and EncodedPixels, but has"):
        rle.find(tmp_path)


def test_names_of_images_may_have_endings_and_columns_other_spellings(tmp_path, field):
    cv2.imwrite(str(tmp_path / "a.b.png"), field[0])
    write(tmp_path / "c.dcm", dataset(field[0]))
    table(tmp_path, ["a.b.png,1 3", "c.dcm,"], "image_id,rle")
    found = {s.id: s.read_labels((60, 80)).labels for s in rle.find(tmp_path, Options(runs="absolute"))}
    assert {name: np.count_nonzero(labels) for name, labels in found.items()} == {"a.b": 3, "c": 0}


@pytest.mark.parametrize(
    ("runs", "text", "words"),
    [
        (
            "absolute",
            "1 2 3",
            "has runs that are not pairs of whole numbers: correct masks.csv, or read it with --runs rel",
        ),
        ("absolute", "x 2", "not pairs of whole numbers"),
        ("absolute", "0 2", "has runs beyond the image of 80×60 px"),
        ("absolute", "4800 2", "has runs beyond the image"),
        (
            "relative",
            "4799 1 1 1",
            "has runs beyond the image of 80×60 px: correct masks.csv, or read it with --runs abs",
        ),
        ("relative", "-1 2", "not pairs of whole numbers"),
    ],
)
def test_runs_that_do_not_fit_reject_the_image(tmp_path, field, runs, text, words):
    cv2.imwrite(str(tmp_path / "a.png"), field[0])
    table(tmp_path, [f"a,{text}"])
    (source,) = rle.find(tmp_path, Options(runs=runs))
    with pytest.raises(InputError, match=words):
        source.read_labels((60, 80))


def test_overlaps_go_to_the_later_row(tmp_path, field):
    cv2.imwrite(str(tmp_path / "a.png"), field[0])
    table(tmp_path, ["a,1 4", "a,3 4"])
    (source,) = rle.find(tmp_path, Options(runs="absolute"))
    found = source.read_labels((60, 80))
    assert found.labels[:7, 0].tolist() == [1, 1, 2, 2, 2, 2, 0]
    assert found.notes == ("cells overlap in 2 px, which went to the later ones",)


def test_none_or_several_tables_or_no_images_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no table \(NAME\.csv\)"):
        rle.find(tmp_path)
    table(tmp_path, ["a,1 2"])
    with pytest.raises(InputError, match="holds no PNG, JPEG, TIFF or DICOM image"):
        rle.find(tmp_path, Options(runs="absolute"))
    table(tmp_path, ["a,1 2"], name="other.csv")
    with pytest.raises(InputError, match=r"holds 2 tables \(masks\.csv, other\.csv\)"):
        rle.find(tmp_path)


def test_of_mutated_files_each_is_read_or_refused_in_one_line(tmp_path, field, fuzz):
    image, labels = field
    cv2.imwrite(str(tmp_path / "a.png"), image)
    path, rng, faults = table(tmp_path, rows_of("a", labels, absolute)), random.Random(0), []
    sound = path.read_bytes()
    for _ in range(300):
        path.write_bytes(fuzz.mutated(sound, [sound], rng))
        try:
            for source in rle.find(tmp_path, Options(runs="absolute")):
                assert source.read_labels(labels.shape).labels.shape == labels.shape
        except CellsegError as error:
            faults.append(error.message)
    assert 0 < len(faults) < 300
    assert [fault for fault in faults if not fault.isprintable()] == []
