"""Formats made later, while a watch does the same images again, and on disks and files with faults."""

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cellseg_device.cells.counting import Counting
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline.segment import count_labels
from cellseg_device.results import export as exporting
from cellseg_device.results import formats, image_files
from cellseg_device.results.entry import DONE, FAILED, Entry
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.system import files

PROVENANCE = image_files.Provenance("a.png", "00", 5, "nuclei", "ff", "{}")


class Folder:
    """An output folder with one image, done as often as wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger(path / FILE_NAME)

    def do(self, labels, *extras, is_recorded=True):
        pixels = (labels > 0).astype(np.uint8)
        result = count_labels(Image(pixels), labels, 1 / 17, Counting())
        content = formats.Content("a.png", labels, image_files.cells_csv(result.cells))
        made = {image_files.EXTRAS[name]: partial(formats.FORMATS[name].encode, content) for name in extras}
        with files.write_lock(self.path):
            for path in self.path.glob("a.*"):
                path.unlink()
            digests = image_files.write(self.path, "a", result, PROVENANCE, made)
        entry = Entry(
            "a.png", 5, 7, "00", DONE, None, "a", "nuclei", "ff", "2025", 1.0, "{}", json.dumps(digests), result.counts
        )
        if is_recorded:
            self.record(entry)
        return entry

    def record(self, entry):
        with self.ledger.transaction():
            self.ledger.put(entry)

    def export(self, *names, force=False):
        return exporting.export(self.path, self.ledger, self.ledger.get("a.png"), names, force=force)

    def contents(self):
        return {p.name: p.read_bytes() for p in self.path.iterdir() if p.name.startswith("a.")}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    folder = Folder(tmp_path / "out")
    yield folder
    folder.ledger.close()
    assert not list(folder.path.glob(".*.tmp"))


@pytest.fixture
def labels(draw_labels):
    return draw_labels()


NAMES = tuple(formats.FORMATS)


def test_the_files_are_those_made_at_once(folder, labels):
    folder.do(labels, *NAMES)
    expected = folder.contents()
    folder.do(labels)
    assert len(folder.contents()) == 2
    done = folder.export(*NAMES)
    assert done == exporting.Exported("a.png", tuple(f"a{formats.FORMATS[name].suffix}" for name in NAMES))
    assert folder.contents() == expected


def test_what_is_there_is_kept_unless_forced(folder, labels):
    folder.do(labels, "coco")
    (folder.path / "a.coco.json").write_bytes(b"mine")
    assert folder.export("coco", "rois") == exporting.Exported("a.png", ("a.rois.zip",), ("a.coco.json",))
    assert (folder.path / "a.coco.json").read_bytes() == b"mine"
    assert folder.export("coco", force=True).made == ("a.coco.json",)
    assert json.loads((folder.path / "a.coco.json").read_bytes())["annotations"]


def test_the_ledger_knows_the_digests_of_what_was_made(folder, labels):
    before = folder.do(labels)
    folder.export("outlines")
    after = folder.ledger.get("a.png")
    noted = json.loads(after.files)
    data = (folder.path / "a.outlines.txt").read_bytes()
    assert noted.pop("a.outlines.txt") == hashlib.sha256(data).hexdigest()
    assert noted == json.loads(before.files)
    assert dataclasses.replace(after, files=before.files) == before


def test_a_row_of_an_older_version_stays_as_it_is(folder, labels):
    entry = dataclasses.replace(folder.do(labels), files=None)
    folder.record(entry)
    assert folder.export("coco").reason is None
    assert folder.ledger.get("a.png") == entry


@pytest.fixture
def meanwhile(monkeypatch):
    """Have something happen once while a format is made."""

    def arrange(happening, times=1):
        left = [times]
        plain = formats.FORMATS["coco"]

        def encode(content):
            data = plain.encode(content)
            if left[0]:
                left[0] -= 1
                happening()
            return data

        monkeypatch.setitem(formats.FORMATS, "coco", dataclasses.replace(plain, encode=encode))

    return arrange


def test_an_image_that_is_done_again_meanwhile_is_made_of_its_new_labels(folder, labels, meanwhile):
    other = labels[:, ::-1].copy()
    folder.do(other, "coco")
    expected = folder.contents()
    folder.do(labels)
    meanwhile(lambda: folder.do(other))
    assert folder.export("coco").made == ("a.coco.json",)
    assert folder.contents() == expected


def test_an_export_waits_for_the_watch_to_record_what_it_wrote(folder, labels, meanwhile, monkeypatch):
    other = labels[:, ::-1].copy()
    folder.do(labels)
    entries = []
    meanwhile(lambda: entries.append(folder.do(other, is_recorded=False)))
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            folder.record(entries[0])

    monkeypatch.setattr(exporting.time, "sleep", sleep)
    assert folder.export("coco").made == ("a.coco.json",)
    assert len(pauses) == 3
    assert len(json.loads((folder.path / "a.coco.json").read_bytes())["annotations"]) == other.max()


def test_what_a_watch_makes_itself_meanwhile_is_kept(folder, labels, meanwhile):
    other = labels[:, ::-1].copy()
    folder.do(other, "coco", "rois")
    expected = folder.contents()
    folder.do(labels)
    meanwhile(lambda: folder.do(other, "coco", "rois"))
    assert folder.export("coco", "rois").kept == ("a.coco.json", "a.rois.zip")
    assert folder.contents() == expected


def test_an_image_that_fails_meanwhile_leaves_nothing(folder, labels, meanwhile):
    entry = folder.do(labels)

    def fail():
        image_files.remove(folder.path, entry.digests())
        folder.record(dataclasses.replace(entry, status=FAILED, reason="is empty", stem=None, counts=None))

    meanwhile(fail)
    assert "failed: see failed.csv" in folder.export("coco").reason
    assert folder.contents() == {}


def test_an_image_that_is_never_left_alone_is_given_up(folder, labels, meanwhile, monkeypatch):
    monkeypatch.setattr(exporting, "_TIMEOUT_S", 0.5)
    folder.do(labels)
    meanwhile(lambda: folder.do(labels), times=100)
    assert "again and again" in folder.export("coco").reason
    assert {*folder.contents()} == {"a.labels.tif", "a.cells.csv"}


def age(folder):
    for path in folder.path.glob("a.*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


@pytest.mark.parametrize("suffix", [image_files.LABELS, image_files.CELLS])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes() + b"1"), "is not as it was written"),
    ],
    ids=["missing", "changed"],
)
def test_stored_files_that_are_not_those_written_are_named(folder, labels, suffix, damage, reason):
    folder.do(labels)
    damage(folder.path / f"a{suffix}")
    age(folder)
    done = folder.export("coco", "rois")
    assert done.reason.startswith(f"a{suffix} {reason}")
    assert done.made == ()


@pytest.mark.parametrize("data", [b"", b"II*\0", b"no image", None], ids=["empty", "cut", "other", "floats"])
def test_a_damaged_label_image_of_an_older_version_is_named(folder, labels, data):
    folder.record(dataclasses.replace(folder.do(labels), files=None))
    path = folder.path / "a.labels.tif"
    if data is None:
        import tifffile

        tifffile.imwrite(path, labels.astype(np.float32))
    else:
        path.write_bytes(data)
    age(folder)
    assert folder.export("coco").reason.startswith("a.labels.tif is damaged (")


def test_a_full_disk_leaves_what_was_there(folder, labels, monkeypatch):
    folder.do(labels)
    before = folder.contents()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        done = folder.export("coco", "rois")
    assert done.reason == "cannot be written (No space left on device): make room or fix the disk, then try again"
    assert done.made == ()
    assert folder.contents() == before


def test_a_lack_of_memory_is_said(folder, labels, monkeypatch):
    def lacking(*arguments):
        raise MemoryError

    folder.do(labels)
    monkeypatch.setitem(formats.FORMATS, "coco", formats.Format(".coco.json", lacking))
    done = folder.export("outlines", "coco")
    assert done.reason.startswith("needs more memory")
    assert {*folder.contents()} >= {"a.labels.tif", "a.cells.csv"}
    monkeypatch.setattr("tifffile.imread", lacking)
    assert folder.export("rois").reason.startswith("needs more memory")


def test_one_format_that_cannot_be_made_does_not_hold_up_the_others(folder, labels, tmp_path):
    from cellseg_device.image.sandbox import decode_here

    folder.do(labels)
    originals = exporting.Originals.under([tmp_path], folder.path, decode_here)
    entry = folder.ledger.get("a.png")
    done = exporting.export(folder.path, folder.ledger, entry, ("overlay", "rois"), originals=originals)
    assert done.made == ("a.rois.zip",)
    assert "name its folder with --originals" in done.reason


def test_nobody_waits_for_ever_for_a_process_that_was_halted(folder, labels, monkeypatch):
    monkeypatch.setattr(files, "_LOCK_TIMEOUT_S", 0.2)
    folder.do(labels)
    with open(folder.path / files.TURN_NAME) as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        assert "cannot be written (another process is writing there)" in folder.export("coco").reason
        with pytest.raises(OSError, match="another process") as caught:
            folder.do(labels)
        assert caught.value.errno == errno.EBUSY
    assert folder.export("coco").reason is None


def test_images_are_named_as_in_the_table_or_by_path(folder, labels, monkeypatch):
    entry = folder.do(labels)
    for number, name in enumerate(("/captures/b.png", "plate/a.png", "/captures/a.png")):
        folder.record(dataclasses.replace(entry, image=name, stem=f"s{number}"))

    def chosen(*names):
        return [item.image for item in exporting.chosen(folder.ledger, tuple(map(Path, names)))]

    assert chosen() == ["a.png", "/captures/b.png", "plate/a.png", "/captures/a.png"]
    assert chosen("a.png") == ["a.png"]
    assert chosen("plate/a.png", "/captures/b.png") == ["a.png", "plate/a.png", "/captures/b.png"]
    monkeypatch.chdir("/")
    assert chosen("captures/b.png") == ["/captures/b.png"]
    (missing,) = exporting.chosen(folder.ledger, (Path("x.png"),))
    assert "has no result here" in missing.reason


def test_a_file_of_somebody_else_is_not_replaced(folder, labels):
    folder.do(labels)
    (folder.path / "a.geojson").write_text("of somebody")
    for force in (False, True):
        exported = folder.export("geojson", "coco", force=force)
        assert exported.made == ("a.coco.json",)
        assert exported.reason == "a.geojson, which cellseg did not make, is in the way: move it away, then try again"
        folder.path.joinpath("a.coco.json").unlink()
    assert (folder.path / "a.geojson").read_text() == "of somebody"
    (folder.path / "a.geojson").unlink()
    (folder.path / "a.geojson").symlink_to("nowhere")
    assert folder.export("geojson", force=True).made == ()
    assert (folder.path / "a.geojson").is_symlink()


def test_what_a_killed_export_left_is_made_again_by_the_next(folder, labels):
    folder.do(labels)
    folder.ledger.announce_files("a.png", ["a.geojson", "a.coco.json"])
    (folder.path / "a.geojson").write_text("of the former labels")
    assert folder.export("geojson", "coco").made == ("a.geojson", "a.coco.json")
    data = (folder.path / "a.geojson").read_bytes()
    assert folder.ledger.get("a.png").digests()["a.geojson"] == hashlib.sha256(data).hexdigest()


def test_a_file_that_is_made_again_has_its_digest_again(folder, labels):
    folder.record(folder.do(labels, "geojson"))
    before = folder.ledger.get("a.png")
    (folder.path / "a.geojson").unlink()
    assert folder.export("geojson").made == ("a.geojson",)
    assert folder.ledger.get("a.png") == before


def test_nothing_is_made_between_the_files_of_an_image_and_its_row(folder, labels, monkeypatch):
    """Else the row would not name what was made: it would be taken for somebody else's."""
    monkeypatch.setattr(exporting, "_TIMEOUT_S", 0.0)
    folder.record(folder.do(labels))
    folder.ledger.announce("a.png", ["a.labels.tif", "a.cells.csv"])
    assert folder.export("geojson").reason == "is being counted again and again: try later"
    assert not (folder.path / "a.geojson").exists()
