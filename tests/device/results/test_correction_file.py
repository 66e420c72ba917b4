"""Files of corrections: what is written is read again, and whatever else is there is refused in one line."""

import dataclasses
import gc
import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_device.errors import InputError
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline import predict
from cellseg_device.results import correction_file
from cellseg_device.results.correction_file import Correction, cut, read, write
from cellseg_device.results.formats.label_images import consecutive

SIZES = [(1, 1), (1, 300), (300, 1), (7, 5)]


def drawn(name="a", size=(40, 50), cells=3, dtype=np.uint8, channels=1, **options):
    """A correction with square cells in a row."""
    rng = np.random.default_rng(len(name) + cells)
    shape = size if channels == 1 else (*size, channels)
    labels = np.zeros(size, np.uint16)
    for cell in range(cells):
        labels[4:12, 4 + 10 * cell : 12 + 10 * cell] = cell + 1
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return Correction(name, Image(pixels), labels, **options)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "corrections.zip"
    write(path, [drawn("a"), drawn("b", cells=2)])
    return path


def rewritten(path, *, leave_out=(), manifest=None, compression=zipfile.ZIP_STORED, **members):
    """Write a zip again with other members, or with a manifest that a function has changed."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist() if name not in leave_out}
    content |= {name.replace("__", "/").replace("_png", ".png"): data for name, data in members.items()}
    if manifest is not None:
        raw = json.loads(content["corrections.json"])
        manifest(raw)
        content["corrections.json"] = json.dumps(raw)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def refusal(path):
    with pytest.raises(InputError) as error:
        read(path)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{path}")
    return text.removeprefix(f"{path}").removeprefix(": ")


@settings(deadline=None, max_examples=40)  # each writes to the disk
@given(
    size=st.sampled_from(SIZES),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    channels=st.sampled_from([1, 3]),
    ends=st.sampled_from([None, (0, 0), (3, 200)]),
    seed=st.integers(0, 9),
)
def test_what_is_written_is_read_again(tmp_path_factory, size, dtype, channels, ends, seed):
    rng = np.random.default_rng(seed)
    shape = size if channels == 1 else (*size, channels)
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    labels = rng.integers(0, 4, size).astype(np.uint16) * 9000
    path = tmp_path_factory.mktemp("corrections") / "corrections.zip"
    [told] = write(path, [Correction("a", Image(pixels, ends=ends), labels)])
    found = read(path)
    assert found.items == (told,)
    image = found.image(told)
    assert image.pixels.dtype == dtype
    assert np.array_equal(image.pixels, pixels)
    assert image.ends == ends == told.ends
    assert np.array_equal(found.labels(told), consecutive(labels))
    assert told.cells == len(np.unique(labels[labels > 0]))


def test_all_that_is_known_of_an_image_is_kept(tmp_path, model):
    correction = dataclasses.replace(
        drawn("plate 7", size=(30, 20), cells=1),
        source="2026-11-30 field µ.tif",
        source_sha256="ab" * 32,
        crop=(10, 20, 30, 20),
        corrected_at="2026-12-01T10:00:00+01:00",
    )
    correction = dataclasses.replace(correction, image=dataclasses.replace(correction.image, pixel_size_um=0.65))
    write(tmp_path / "c.zip", [correction], card=model.card, model_sha256=model.sha256)
    found = read(tmp_path / "c.zip")
    [item] = found.items
    for name in ("name", "source", "source_sha256", "crop", "corrected_at"):
        assert getattr(item, name) == getattr(correction, name)
    assert item.pixel_size_um == found.image(item).pixel_size_um == 0.65
    assert (found.card, found.model_sha256) == (model.card, model.sha256)


def test_images_are_in_natural_order_and_taken_one_at_a_time(tmp_path):
    taken = []

    def corrections():
        for number in (10, 9, 1):
            taken.append(number)
            yield drawn(f"field {number}")

    write(tmp_path / "c.zip", corrections())
    assert taken == [10, 9, 1]
    assert [item.name for item in read(tmp_path / "c.zip").items] == ["field 1", "field 9", "field 10"]


def test_the_zip_is_closed_with_what_was_read_of_it(written):
    def is_open():
        return any(path.resolve() == written for path in Path("/proc/self/fd").iterdir())

    found = read(written)
    assert is_open()
    del found
    gc.collect()
    assert not is_open()


def test_a_crop_is_shown_to_the_network_as_the_whole_was(model, samples):
    image = Image(cv2.imread(str(samples / "hoechst8.png"), cv2.IMREAD_GRAYSCALE), 0.5)
    labels = np.zeros(image.shape, np.uint16)
    labels[30:60, 30:60] = 5
    crop = (40, 50, 64, 80)
    correction = cut(image, labels, crop, model.card, name="a", source="field.png")
    part = slice(40, 104), slice(50, 130)
    assert np.array_equal(predict.levels(correction.image, model.card), predict.levels(image, model.card)[part])
    assert np.array_equal(correction.labels, np.minimum(labels[part], 1)), "the rim cuts the cell, which stays"
    assert (correction.crop, correction.image.pixel_size_um) == (crop, 0.5)
    for outside in ((-1, 0, 9, 9), (0, 0, 0, 9), (image.shape[0] - 5, 0, 9, 9), (0, image.shape[1] - 5, 9, 9)):
        with pytest.raises(InputError, match="is not inside the image"):
            cut(image, labels, outside, model.card, name="a")


def test_a_crop_in_one_colour_stays_what_the_network_was_shown(model, tmp_path):
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[10:40, 10:40, 2] = np.arange(100, 130)
    image = Image(pixels)
    write(tmp_path / "c.zip", [cut(image, np.zeros((60, 60), np.uint16), (5, 5, 50, 50), model.card, name="a")])
    found = read(tmp_path / "c.zip")
    expected = predict.levels(image, model.card)[5:55, 5:55]
    assert np.array_equal(predict.levels(found.image(found.items[0]), model.card), expected)


@pytest.mark.parametrize(
    ("corrections", "reason"),
    [
        ([], "0 corrected images"),
        ([drawn("a"), drawn("a", cells=1)], "two corrected images have the name 'a'"),
        ([drawn("../a")], "without slashes"),
        ([drawn("a\\b")], "without slashes"),
        ([drawn(".a")], "does not begin with a dot"),
        ([drawn("a\nb")], r"the name 'a\?b'"),
        ([drawn("é" * 150)], "one of up to 200 letters"),
        (
            [dataclasses.replace(drawn(), labels=np.zeros((2, 3), np.uint16))],
            "the labels are 3×2 pixels, the image 50×40",
        ),
        ([dataclasses.replace(drawn(), source="a\nb")], "'source' is"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, corrections, reason):
    (tmp_path / "c.zip").write_bytes(b"what was there")
    with pytest.raises(InputError, match=reason):
        write(tmp_path / "c.zip", corrections)
    assert (tmp_path / "c.zip").read_bytes() == b"what was there"
    assert [path.name for path in tmp_path.iterdir()] == ["c.zip"]


def test_other_files_are_refused(tmp_path, written, samples):
    text = tmp_path / "a.txt"
    text.write_text("corrections")
    assert refusal(text).startswith("is neither a zip nor a folder")
    assert refusal(tmp_path / "none.zip") == "cannot be read (No such file or directory): check the path"
    os.mkfifo(tmp_path / "pipe.zip")
    assert "is not a file" in refusal(tmp_path / "pipe.zip")
    cut_off = tmp_path / "cut.zip"
    cut_off.write_bytes(written.read_bytes()[:-30])
    assert "neither a zip" in refusal(cut_off)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    assert refusal(tmp_path / "other.zip").startswith("has no corrections.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw: raw.update(version=2), "was made by a newer cellseg (version 2 of the format): update this one"),
        (lambda raw: raw.update(version="1"), "'version' is \"1\""),
        (lambda raw: raw.update(format="zip"), "'format' is \"zip\""),
        (lambda raw: raw.pop("items"), "'items' is missing"),
        (lambda raw: raw.update(items={}), "'items' is not a list"),
        (lambda raw: raw.update(items=[]), "0 corrected images"),
        (lambda raw: raw.update(more=1), 'unknown field "more"'),
        (lambda raw: raw["items"].append(raw["items"][0]), "two corrected images have the name 'a'"),
        (lambda raw: raw["items"][0].update(name="../../a"), "without slashes"),
        (lambda raw: raw["items"][0].update(name="c"), "images/c.png is missing in the zip"),
        (lambda raw: raw["items"].pop(), "images/b.png is in the zip, but not in corrections.json"),
        (lambda raw: raw["items"][0].update(cells=-1), "'cells' is -1"),
        (lambda raw: raw["items"][0].update(ends=[9, 3]), "'ends' of a are out of order"),
        (lambda raw: raw["items"][0].update(ends=[1, 2.5]), "'ends' is not a list of 2 whole numbers"),
        (lambda raw: raw["items"][0].update(crop=[0, 0, 41, 50]), "another size than its crop"),
        (lambda raw: raw["items"][0].update(source_sha256="0"), "not a SHA-256"),
        (lambda raw: raw["items"][0].update(pixel_size_um=0), "'pixel_size_um' is 0"),
    ],
)
def test_manifests_that_make_no_sense_are_refused(written, change, reason):
    assert reason in refusal(rewritten(written, manifest=change))


def test_members_that_are_missing_or_too_many_are_named(written):
    for name in ("images/a.png", "labels/b.png"):
        found = written.with_name("missing.zip")
        found.write_bytes(written.read_bytes())
        assert refusal(rewritten(found, leave_out=[name])).startswith(f"{name} is missing in the zip")
    assert "images/c.png is in the zip, but not" in refusal(rewritten(written, images__c_png=png(np.zeros((4, 4)))))


def test_labels_of_another_size_or_in_colour_are_refused(written):
    reason = refusal(rewritten(written, labels__a_png=png(np.zeros((41, 50), np.uint16))))
    assert reason.startswith("a: the labels are 50×41 pixels, the image 50×40")
    reason = refusal(rewritten(written, labels__a_png=png(np.zeros((40, 50, 3), np.uint8))))
    assert reason.startswith("labels/a.png is in colour")


def test_what_is_no_png_or_damaged_is_refused(written, model):
    damaged = written.with_name("damaged.zip")
    damaged.write_bytes(written.read_bytes())
    assert refusal(rewritten(damaged, images__a_png=b"GIF89a")).startswith("images/a.png is not a PNG")
    found = read(rewritten(written, images__a_png=drawn_png()[:-20], labels__b_png=png(np.zeros((40, 50), np.uint16))))
    with pytest.raises(InputError, match=r"images/a.png is a truncated PNG"):
        found.image(found.items[0])
    with pytest.raises(InputError, match=r"labels/b.png has 0 cells, not 2"):
        found.labels(found.items[1])


def drawn_png():
    return png(drawn().image.pixels)


def test_a_flipped_bit_is_noticed(written):
    data = bytearray(written.read_bytes())
    place = data.index(b"IDAT") + 40
    data[place] ^= 4
    written.write_bytes(data)
    assert refusal(written).startswith("images/a.png is damaged (Bad CRC-32")


@pytest.mark.parametrize("seed", range(20))
def test_damage_anywhere_is_an_error_of_one_line_or_none(written, seed):
    whole, rng = written.read_bytes(), np.random.default_rng(seed)
    for _ in range(10):
        data = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.2 else whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        written.write_bytes(data)
        said = ""
        try:
            found = read(written)
            for item in found.items:
                assert found.image(item).shape == found.labels(item).shape
        except InputError as error:
            said = str(error)
        assert "\n" not in said


def test_a_member_twice_is_refused(written):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(written, "a") as archive:
        archive.writestr("images/a.png", b"")
    assert refusal(written).startswith("images/a.png is in the zip twice")


def test_a_member_that_unpacks_to_far_more_than_its_pixels_is_refused(written):
    beside = b"\0" * (4 << 20)
    chunk = struct.pack(">I", len(beside)) + b"teXt" + beside + struct.pack(">I", zlib.crc32(b"teXt" + beside))
    whole = drawn_png()
    bomb = whole[:-12] + chunk + whole[-12:]
    found = read(rewritten(written, compression=zipfile.ZIP_DEFLATED, images__a_png=bomb))
    with pytest.raises(InputError, match=r"images/a.png is far larger than it should be"):
        found.image(found.items[0])
    manifest = b" " * (17 << 20)
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("corrections.json", manifest)
    assert refusal(written).startswith("corrections.json is far larger than it should be")


def test_a_directory_of_any_size_is_not_read(written):
    """As in a file of which zipfile would take all for its directory."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"")
    size = correction_file._MOST_AT_ONCE + 1
    end = bytearray(file.getvalue()[-22:])
    end[12:20] = struct.pack("<II", size, 0)
    with open(written, "wb") as sparse:
        sparse.truncate(size)
        sparse.seek(size)
        sparse.write(end)
    assert "its directory is too long" in refusal(written)


def test_other_compressions_are_refused(written):
    assert "compressed in a way that is not read" in refusal(rewritten(written, compression=zipfile.ZIP_BZIP2))


def test_a_wrong_card_is_refused(written):
    with zipfile.ZipFile(written, "a") as archive:
        archive.writestr("card.json", "{}")
    assert refusal(written).startswith("card.json: the model's card does not have format")


@pytest.fixture
def folder(tmp_path):
    """A folder with two images of other programs, `a` and `b`."""
    for name in ("images", "labels"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    a, b = drawn("a"), drawn("b", cells=2, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "mine/images/b.ome.tif", b.image.pixels, metadata=None)
    tifffile.imwrite(tmp_path / "mine/labels/b.ome.tiff", b.labels.astype(np.float32), metadata=None)
    cv2.imwrite(str(tmp_path / "mine/images/a.jpg"), a.image.pixels)
    tifffile.imwrite(tmp_path / "mine/labels/a.labels.tif", a.labels * 7, metadata=None)
    (tmp_path / "mine/images/.DS_Store").write_bytes(b"")
    (tmp_path / "mine/images/notes.txt").write_text("notes")
    return tmp_path / "mine"


def test_a_folder_of_any_program_is_read(folder):
    found = read(folder)
    assert [(item.name, item.cells, item.source) for item in found.items] == [
        ("a", 3, "a.jpg"),
        ("b.ome", 2, "b.ome.tif"),
    ]
    assert (found.card, found.model_sha256) == (None, "")
    assert np.array_equal(found.labels(found.items[0]), drawn("a").labels)
    assert np.array_equal(found.image(found.items[1]).pixels, drawn("b", cells=2, dtype=np.uint16).image.pixels)


def test_folders_that_do_not_fit_are_refused(folder):
    labels = folder / "labels/a.labels.tif"
    tifffile.imwrite(labels, np.zeros((9, 9), np.uint8))
    assert "the labels are 9×9 pixels, the image 50×40" in refusal(folder)
    labels.rename(folder / "labels/c.labels.tif")
    assert "images/a.jpg: has no labels: save them as" in refusal(folder).removeprefix("/")
    (folder / "images/a.jpg").unlink()
    assert "labels/c.labels.tif: has no image in" in refusal(folder).removeprefix("/")
    (folder / "labels/c.labels.tif").unlink()
    (folder / "labels/b.ome.png").write_bytes(b"")
    assert "has the name of b.ome.png" in refusal(folder)
    for path in [*folder.glob("images/b*"), *folder.glob("labels/b*")]:
        path.unlink()
    assert "holds no image" in refusal(folder)
    (folder / "labels").rmdir()
    assert "no such folder: corrections are a zip, or a folder with" in refusal(folder)


def test_an_image_of_a_folder_that_cannot_be_decoded_is_named(folder):
    (folder / "images/a.jpg").write_bytes(b"GIF89a" + bytes(100))
    assert "images/a.jpg: is a GIF" in refusal(folder).removeprefix("/")
