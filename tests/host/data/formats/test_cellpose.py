"""Masks of Cellpose. Its files are made here as its ``io.masks_flows_to_seg`` and ``io.save_masks`` write them."""

import os
import pickle
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellseg_device.errors import InputError
from cellseg_host.cli import main
from cellseg_host.data.dataset import load
from cellseg_host.data.formats import cellpose, plain_pickle


def seg(labels, **more):
    """What Cellpose's window saves of an image."""
    return {
        "outlines": labels.astype(np.uint16) * 0,
        "masks": labels.astype(np.uint16 if labels.max(initial=0) < 2**16 - 1 else np.uint32),
        "chan_choose": [0, 0],
        "ismanual": np.zeros(int(labels.max(initial=0)), bool),
        "filename": "/somewhere/a.png",
        "flows": [np.zeros((1, *labels.shape, 3), np.uint8), np.zeros((1, *labels.shape), np.float32), [[]]],
        "est_diam": np.float32(17.5),
        "zdraw": [None, None],
        "model_path": 0,
        **more,
    }


def read(folder, shape):
    (source,) = cellpose.find(folder)
    return source.read_labels(shape)


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 4)))
@settings(max_examples=50, deadline=None)
def test_what_cellpose_saves_comes_back_as_the_same_masks(tmp_path_factory, drawn):
    labels = np.unique(drawn, return_inverse=True)[1].reshape(drawn.shape).astype(np.uint16) + (drawn.min() > 0)
    for name in ("a_seg.npy", "a_cp_masks.png", "a_cp_masks.tif"):
        folder = tmp_path_factory.mktemp("cellpose")
        cv2.imwrite(str(folder / "a.png"), np.zeros(labels.shape, np.uint8))
        if name.endswith("npy"):
            np.save(folder / name, seg(labels))
        elif name.endswith("png"):
            cv2.imwrite(str(folder / name), labels)
        else:
            tifffile.imwrite(folder / name, labels)
        pieces = cv2.connectedComponents((labels > 0).astype(np.uint8))[0] - 1
        if name.endswith("npy") or labels.max() != 1 or pieces < 3:
            assert np.array_equal(read(folder, labels.shape).labels, labels)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">i4", "<i8", "|u1"])
def test_arrays_of_every_whole_type_and_order(tmp_path, field, dtype, order):
    image, labels = field
    cv2.imwrite(str(tmp_path / "a.png"), image)
    np.save(tmp_path / "a_seg.npy", seg(labels, masks=np.asarray(labels, dtype, order=order)))
    assert np.array_equal(read(tmp_path, labels.shape).labels, labels)


def test_a_folder_of_cellpose_becomes_a_dataset(tmp_path, field):
    image, labels = field
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.png", "b.c.tif", "d.png", "lone.png", "d_cp_output.png"):
        cv2.imwrite(str(source / name), image)
    np.save(source / "a_seg.npy", seg(labels))
    np.save(source / "b.c_seg.npy", seg(labels))
    tifffile.imwrite(source / "b.c_cp_masks.tif", labels)
    cv2.imwrite(str(source / "d_cp_masks.png"), labels)
    result = CliRunner().invoke(main, ["data", "import", "--format", "cellpose", str(source), str(tmp_path / "out")])
    assert result.exit_code == 1, result.output
    assert result.stderr == "left out: lone: has no mask file of the same name\n"
    dataset = load(tmp_path / "out")
    assert [entry.id for entry in dataset.entries] == ["a", "b.c", "d"]
    assert all(np.array_equal(dataset.labels(entry), labels) for entry in dataset.entries)


def test_two_files_of_one_image_must_agree(tmp_path, field):
    image, labels = field
    cv2.imwrite(str(tmp_path / "a.png"), image)
    np.save(tmp_path / "a_seg.npy", seg(labels))
    cv2.imwrite(str(tmp_path / "a_cp_masks.png"), np.where(labels == 1, 0, labels))
    with pytest.raises(InputError, match=r"a_seg\.npy and a_cp_masks\.png differ: move the older one away"):
        read(tmp_path, labels.shape)


class Hostile:
    """What a pickle can do: it calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ((Path.touch,), "'"),
        ((os.system, "touch TOUCHED"), r"posix\.system"),
        ((eval, "open('TOUCHED', 'w')"), r"builtins\.eval"),
        ((np.load, "TOUCHED"), "numpy"),
        ((getattr, np, "load"), "builtins.getattr"),
    ],
)
def test_a_hostile_pickle_is_refused_in_one_line_and_touches_nothing(tmp_path, field, monkeypatch, call, word):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "TOUCHED"
    function, *arguments = call
    value = Hostile(function, *(arguments or [target])) if function is not getattr else Hostile(getattr, [], "append")
    cv2.imwrite("a.png", field[0])
    np.save("a_seg.npy", seg(field[1], filename=value))
    with pytest.raises(
        InputError, match=r"a_seg\.npy holds '.*', which Cellpose does not save: it was not read"
    ) as found:
        read(tmp_path, field[1].shape)
    assert found.match(word)
    assert "\n" not in found.value.message
    assert not target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\ndtype\n(S'V8'\ntR.",  # an array of a structure
        b"cnumpy\ndtype\n}b.",  # a state for a type itself
        b"cnumpy.core.multiarray\nscalar\n(I1\nI2\ntR.",
        b"cnumpy\nndarray\n(I1\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(I1\ntR(I1\nI2\ntb.",
        b"cnumpy.lib.npyio\nload\n.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"r\xff\xff\xff\xff.",
        b"",
    ],
)
def test_odd_pickles_are_refused(data):
    with pytest.raises(ValueError, match=r"."):
        plain_pickle.load(data)


def test_a_number_of_numpy_and_nested_values_pass():
    values = {"a": np.float64(1.5), "b": [1, "x", None, (2, {"c": True})], "d": np.arange(3)}
    found = plain_pickle.load(pickle.dumps(values, protocol=4))
    assert found["a"] == 1.5
    assert found["b"] == values["b"]
    assert found["d"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"masks": None}, "holds no masks"),
        ({"masks": np.ones((2, 60, 80), np.uint16)}, "masks of a stack"),
        ({"masks": np.ones((5, 6), np.uint16)}, "has masks of 6×5 px, the image 80×60 px"),
        ({"masks": np.full((60, 80), -1)}, "has negative numbers"),
        ({"masks": np.ones((60, 80))}, "holds no masks"),
        ([1, 2], "holds no dict"),
    ],
)
def test_what_holds_no_masks_of_the_image_is_refused(tmp_path, field, saved, words):
    cv2.imwrite(str(tmp_path / "a.png"), field[0])
    np.save(tmp_path / "a_seg.npy", saved)
    with pytest.raises(InputError, match=words):
        read(tmp_path, (60, 80))


def test_a_folder_without_masks_is_refused(tmp_path, field):
    cv2.imwrite(str(tmp_path / "a.png"), field[0])
    with pytest.raises(InputError, match=r"holds no NAME_cp_masks\.png"):
        cellpose.find(tmp_path)


def test_of_mutated_files_each_is_read_or_refused_in_one_line(tmp_path, field, fuzz, capfd):
    image, labels = field
    cv2.imwrite(str(tmp_path / "a.png"), image)
    path, rng, faults = tmp_path / "a_seg.npy", random.Random(0), []
    np.save(path, seg(labels))
    sound = path.read_bytes()
    for _ in range(300):
        path.write_bytes(fuzz.mutated(sound, [sound], rng))
        try:
            assert read(tmp_path, labels.shape).labels.shape == labels.shape
        except InputError as error:
            faults.append(error.message)
    assert 0 < len(faults) < 300
    assert [fault for fault in faults if not fault.startswith("a_seg.npy") or not fault.isprintable()] == []
    assert capfd.readouterr() == ("", "")
