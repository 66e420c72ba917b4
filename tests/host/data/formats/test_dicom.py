"""DICOM images, written by pydicom."""

import csv
import random

import cv2
import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from dicom_files import SECRET, content, dataset, grey, jpeg, run_length, write
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.pixels import apply_windowing

from cellseg_device.errors import ImageError, InputError
from cellseg_host.cli import main
from cellseg_host.data.dataset import load
from cellseg_host.data.formats import dicom


def read(tmp_path, file):
    return dicom.read_image(write(tmp_path / "a.dcm", file))


@given(st.data(), st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=50, deadline=None)
def test_plain_and_run_length_files_keep_their_values(tmp_path_factory, data, kind):
    pixels = data.draw(arrays(kind, (5, 7)))
    for file in (dataset(pixels), run_length(pixels)):
        found = read(tmp_path_factory.getbasetemp(), file).pixels
        assert (found.dtype, found.tolist()) == (kind, pixels.tolist())


def test_a_jpeg_inside_is_read(tmp_path, draw_blobs):
    pixels = draw_blobs(48, 64)
    found = read(tmp_path, jpeg(pixels)).pixels
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - pixels).max() < 30
    colour = np.dstack([pixels, pixels // 2, 255 - pixels])
    for file, most in ((jpeg(colour), 60), (dataset(colour), 0)):
        found = read(tmp_path, file).pixels
        assert np.abs(found.astype(int) - colour).mean() <= most / 10


def test_bright_on_dark_is_what_monochrome1_becomes(tmp_path):
    pixels = grey(kind=np.uint16, top=4095)
    found = read(tmp_path, dataset(pixels, bits=12, PhotometricInterpretation="MONOCHROME1")).pixels
    assert np.array_equal(found, 4095 - pixels)


def test_values_are_rescaled(tmp_path):
    pixels = grey(kind=np.uint16, top=2000)
    found = read(tmp_path, dataset(pixels, RescaleSlope=2, RescaleIntercept=100)).pixels
    assert np.array_equal(found, pixels * 2 + 100)
    found = read(tmp_path, dataset(pixels, RescaleSlope=1, RescaleIntercept=-1024)).pixels  # as of a CT
    assert (found.min(), found.max()) == (0, 65535)
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(found.ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("window", [(500, 400), (100, 1), ([40, 700], [80, 900])])
def test_a_window_is_that_of_pydicom(tmp_path, function, window):
    if (function, window[1]) == ("SIGMOID", 1):
        pytest.skip("not applicable: a step")
    pixels = grey(kind=np.uint16, top=1023)
    more = {"WindowCenter": window[0], "WindowWidth": window[1]} | ({"VOILUTFunction": function} if function else {})
    file = dataset(pixels, bits=10, **more)
    found = read(tmp_path, file).pixels
    expected = apply_windowing(pixels, file).astype(float)
    assert np.abs(found / 65535 - expected / 1023).max() < 2e-3


def test_the_spacing_of_pixels_is_their_size(tmp_path):
    assert read(tmp_path, dataset(grey(), PixelSpacing=[0.14, 0.14])).pixel_size_um == pytest.approx(140)
    assert read(tmp_path, dataset(grey(), ImagerPixelSpacing=[0.2, 0.2])).pixel_size_um == pytest.approx(200)
    assert read(tmp_path, dataset(grey(), PixelSpacing=[0.14, 0.2])).pixel_size_um is None
    assert read(tmp_path, dataset(grey())).pixel_size_um is None


@pytest.mark.parametrize("has_meta", [True, False])
def test_a_header_stripped_of_all_but_the_pixels_size_reads(tmp_path, has_meta):
    pixels = grey()
    file = dataset(pixels)
    needed = {"Rows", "Columns", "BitsAllocated", "HighBit", "PixelData"}
    for element in list(file):
        if element.keyword not in needed:
            del file[element.tag]
    path = tmp_path / "a.dcm"
    if has_meta:
        write(path, file)
    else:
        del file.file_meta
        file.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    assert np.array_equal(dicom.read_image(path).pixels, pixels)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"NumberOfFrames": 3}, "has 3 frames: export each as a file of its own"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "is of the kind PALETTE COLOR, which is not read"),
        ({"Rows": 0}, "has a size of 32×0 pixels"),
        ({"Rows": 60000}, "over the limit of 12000×12000"),
        ({"BitsAllocated": 1}, "has 1 bits a sample"),
        ({"WindowCenter": 1, "WindowWidth": 0}, "has a window of the width 0"),
        ({"PixelData": b"1234"}, "is a damaged DICOM file"),
    ],
)
def test_what_is_no_single_picture_is_refused_by_name(tmp_path, more, words):
    with pytest.raises(ImageError, match=words) as found:
        read(tmp_path, dataset(grey(), **more))
    assert found.value.message.isprintable()


def test_a_compression_that_is_not_read_is_refused_by_name(tmp_path):
    file = jpeg(grey())
    file.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    with pytest.raises(ImageError, match=r"is compressed as JPEG Lossless.*, which is not read: save it uncompressed"):
        read(tmp_path, file)


def test_text_is_no_dicom(tmp_path):
    (tmp_path / "a.dcm").write_text("hello, this is text")
    with pytest.raises(ImageError, match=r"has no pixels, or is not a DICOM file|is a damaged DICOM file"):
        dicom.read_image(tmp_path / "a.dcm")


def test_a_folder_of_dicom_becomes_a_dataset_without_names_of_patients(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    pixels = grey()
    write(source / "1.2.3" / "4.5" / "1.2.840.1.dcm", dataset(pixels, PixelSpacing=[0.14, 0.14]))
    write(source / "B.DCM", jpeg(pixels, PatientSex="M"))
    (source / "image").write_bytes(content(run_length(pixels)))  # without an ending
    write(source / "frames.dcm", dataset(pixels, NumberOfFrames=2))
    (source / "notes.txt").write_text("no image")
    options = ["--format", "dicom", "--keep", "Modality,PatientSex,PatientAge,ViewPosition"]
    result = CliRunner().invoke(main, ["data", "import", *options, str(source), str(out)])
    assert result.exit_code == 1, result.output
    assert result.stderr == "left out: frames: has 2 frames: export each as a file of its own\n"
    with (out / "manifest.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert {name: row["PatientSex"] for name, row in rows.items()} == {"1.2.840.1": "F", "B": "M", "image": "F"}
    assert {row["PatientAge"] for row in rows.values()} == {"051Y"}
    assert rows["1.2.840.1"]["pixel_size_um"] == "140.0"
    entries = load(out).entries
    assert entries[0].kept == {"Modality": "CR", "PatientSex": "F", "PatientAge": "051Y", "ViewPosition": "PA"}
    assert not any(entry.is_labelled for entry in entries)
    for path in out.rglob("*"):
        assert path.is_dir() or not any(word in path.read_bytes() for word in (SECRET.encode(), b"Jane", b"4711"))


def test_what_was_kept_stays_where_the_dataset_is_imported_again(tmp_path):
    write(tmp_path / "source" / "a.dcm", dataset(grey()))
    command = ["data", "import", "--format"]
    for last in (["dicom", "--keep", "Modality", "source", "one"], ["labels", "one", "two"]):
        arguments = [str(tmp_path / word) if word in ("source", "one", "two") else word for word in last]
        result = CliRunner().invoke(main, [*command, *arguments])
        assert result.exit_code == 0, result.output
    (entry,) = load(tmp_path / "two").entries
    assert entry.kept == {"Modality": "CR"}


def test_label_images_beside_them_are_their_labels(tmp_path, draw_labels):
    source, labels = tmp_path / "source", draw_labels(24, 32)
    for name in ("a", "b"):
        write(source / "images" / f"{name}.dcm", dataset(grey()))
    (source / "labels").mkdir()
    for name in ("a", "stray"):
        assert cv2.imwrite(str(source / "labels" / f"{name}.png"), labels)
    command = ["data", "import", "--format", "dicom", str(source), str(tmp_path / "out")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1, result.output
    assert result.stderr.splitlines() == [
        "left out: b: has no label image of the same name",
        "left out: stray: has no image",
    ]
    (entry,) = load(tmp_path / "out").entries
    assert np.array_equal(load(tmp_path / "out").labels(entry), labels)


def test_without_being_asked_nothing_is_kept_and_names_never_are(tmp_path):
    write(tmp_path / "source" / "a.dcm", dataset(grey()))
    command = ["data", "import", "--format", "dicom", str(tmp_path / "source"), str(tmp_path / "out")]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert load(tmp_path / "out").entries[0].kept == {}
    result = CliRunner().invoke(main, [*command, "--keep", "PatientName"])
    assert result.exit_code == 2
    assert "what may be kept has no element 'PatientName'" in result.stderr


def test_a_folder_without_dicom_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no DICOM image \(NAME\.dcm\)"):
        dicom.find(tmp_path)


@pytest.mark.parametrize("make", [dataset, jpeg, run_length])
def test_of_mutated_files_each_is_read_or_refused_in_one_line(tmp_path, fuzz, capfd, make):
    path, rng, faults = tmp_path / "a.dcm", random.Random(0), []
    sound = content(make(grey(), WindowCenter=100, WindowWidth=200, PixelSpacing=[0.1, 0.1]))
    for _ in range(300):
        path.write_bytes(fuzz.mutated(sound, [sound], rng))
        try:
            assert dicom.read_image(path).pixels.dtype in (np.uint8, np.uint16)
            dicom.read_kept(("Modality", "PatientSex"), path)
        except ImageError as error:
            faults.append(error.message)
    assert 0 < len(faults) < 300
    assert [fault for fault in faults if not fault.isprintable()] == []
    assert capfd.readouterr() == ("", "")
