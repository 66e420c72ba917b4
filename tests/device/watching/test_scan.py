import os
import sqlite3
import time
from pathlib import Path

import pytest

from cellseg_device.errors import InputError
from cellseg_device.image.source import Source, printable, source_at
from cellseg_device.watching import wake
from cellseg_device.watching.scan import Scanner, Settling, check_folder, scan
from cellseg_device.watching.wake import Bound, Events, StopSignal, file_system

NOW, WALL = 1000.0, 1_700_000_000.0


def source(image="a.png", size=1, mtime=WALL):
    return Source(image, None, size, int(mtime * 1e9))


def test_scan_lists_images_by_name_and_looks_no_deeper(tmp_path):
    for name in ("b.tif", "a.PNG", ".c.png", "notes.txt", "counts.csv"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.png").touch()
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "nowhere.png").symlink_to("no.png")
    os.mkfifo(tmp_path / "pipe.png")
    names = [s.image for s in scan(tmp_path, tmp_path / "out")]
    assert names == ["a.PNG", "b.tif", "folder.tif", "loop.png", "nowhere.png", "pipe.png"]


def test_images_come_in_natural_order(tmp_path):
    for name in ("IMG_10.png", "IMG_9.png", "img_2.png", "IMG_1.png"):
        (tmp_path / name).touch()
    found = [source.image for source in scan(tmp_path, tmp_path / "out")]
    assert found == ["IMG_1.png", "img_2.png", "IMG_9.png", "IMG_10.png"]


def test_our_own_results_are_no_images(tmp_path):
    for name in ("a.tif", "a.labels.tif", "a.overlay.jpg", "counts.csv"):
        (tmp_path / name).touch()
    assert [s.image for s in scan(tmp_path, tmp_path)] == ["a.tif"]
    (tmp_path / "out.tif").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    assert [s.image for s in scan(tmp_path, tmp_path / "link" / "out.tif")] == [
        "a.labels.tif",
        "a.overlay.jpg",
        "a.tif",
    ]


@pytest.mark.parametrize("name", ["corrections", "models", "uploads"])
@pytest.mark.parametrize("is_below", [True, False])
def test_what_people_made_of_results_is_no_image_wherever_it_is_found(tmp_path, name, is_below):
    out = tmp_path / ("images/results" if is_below else "images")
    for path in (out / "cellseg.sqlite", out / name / "a.labels.tif", out / name / "b.png", out / name / "deep/c.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "images" / "link").symlink_to(out / name)
    (tmp_path / "images" / "other" / name).mkdir(parents=True)
    (tmp_path / "images" / "other" / name / "d.png").touch()  # beside no results
    for other_out in (out, tmp_path / "elsewhere"):
        found = [source.image for source in scan(tmp_path / "images", other_out, recursive=True)]
        assert found == [f"other/{name}/d.png"]
        assert scan(out / name, other_out) == []
        assert scan(tmp_path / "images" / "link", other_out, recursive=True) == []
    assert Scanner(out / name, out).scan({}, ["b.png"]) == []


def test_folders_below_are_looked_into_once_each_when_asked(tmp_path):
    folder = tmp_path / "images"
    out = folder / "results"
    for name in ("b.png", "sub/a.png", "sub/deeper/a.tif", ".hidden/c.png", "folder.tif/d.png", "results/e.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.png").touch()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "sub" / "self").symlink_to(".")
    (folder / "sub" / "nowhere").symlink_to("no")
    assert [s.image for s in scan(folder, out)] == ["b.png", "folder.tif"]
    found = scan(folder, out, recursive=True)
    names = ["b.png", "folder.tif/d.png", "link/f.png", "sub/a.png", "sub/deeper/a.tif"]
    assert [s.image for s in found] == names
    assert [s.path for s in found] == [folder / name for name in names]
    again = scan(tmp_path / "images" / "sub" / "loop", out, recursive=True)
    assert [s.image for s in again] == names


def test_a_link_is_followed_only_where_no_folder_leads_to_the_same(tmp_path):
    for name in ("captures/2026/day", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").touch()
    captures = tmp_path / "captures"
    names = ["2026/day/a.png"]
    for link in ("1-first", "latest", "2026/today"):
        (captures / link).symlink_to(captures / "2026" / "day")
        assert [s.image for s in scan(captures, tmp_path / "out", recursive=True)] == names
    (captures / "other").symlink_to(tmp_path / "elsewhere")
    assert [s.image for s in scan(captures, tmp_path / "out", recursive=True)] == [*names, "other/a.png"]


@pytest.mark.parametrize("below", ["", "former"])
def test_results_in_another_output_folder_are_no_images(tmp_path, below):
    (tmp_path / below).mkdir(exist_ok=True)
    for name in ("a.overlay.jpg", "a.labels.tif", "a.png", "cellseg.sqlite"):
        (tmp_path / below / name).touch()
    assert [s.image for s in scan(tmp_path, tmp_path / "out", recursive=True)] == [str(Path(below) / "a.png")]


def test_a_time_that_no_ledger_takes_is_the_latest_that_it_does(tmp_path):
    (tmp_path / "a.png").touch()
    os.utime(tmp_path / "a.png", (13_569_465_600, 13_569_465_600))  # in the year 2400
    seen = source_at(tmp_path / "a.png", "a.png")
    assert scan(tmp_path, tmp_path / "out") == [seen]
    assert scan(tmp_path, tmp_path / "out", known={"a.png": (0, seen.mtime_ns)}) == []
    with sqlite3.connect(":memory:") as database:
        assert database.execute("SELECT ?", (seen.mtime_ns,)).fetchone() == (seen.mtime_ns,)
    database.close()


def test_links_that_lead_nowhere_hide_nothing(tmp_path):
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "a.png").touch()
        (folder / "loop").symlink_to("loop")
        (folder / "gone").symlink_to("missing")
        (folder / "odd").symlink_to("a.png/x")
    assert [source.image for source in scan(tmp_path, tmp_path / "out", recursive=True)] == ["a.png", "sub/a.png"]


def test_a_folder_below_that_cannot_be_listed_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "locked" / "b.png").touch()
    plain = os.open

    def opened(path, *arguments):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return plain(path, *arguments)

    monkeypatch.setattr(os, "open", opened)
    assert [s.image for s in scan(tmp_path, tmp_path / "out", recursive=True)] == ["a.png"]


def test_known_images_are_left_out_until_they_change(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "loop.png").symlink_to("loop.png")
    known = {s.image: (s.size, s.mtime_ns) for s in scan(tmp_path, tmp_path / "out")}
    assert scan(tmp_path, tmp_path / "out", known=known) == []
    (tmp_path / "b.png").write_bytes(b"22")
    os.utime(tmp_path / "c.png", (5, 5))
    assert [s.image for s in scan(tmp_path, tmp_path / "out", known=known)] == ["b.png", "c.png"]


def test_names_fit_one_line_of_utf8(tmp_path):
    assert printable("Zelle µ 细胞.png") == "Zelle µ 细胞.png"
    assert printable("a\nb\x1b\udcff.png") == r"a\nb\x1b\xff.png"
    (tmp_path / "a\udcff.png").touch()
    (found,) = scan(tmp_path, tmp_path / "out")
    assert found.image == r"a\xff.png"
    assert found.path.exists()


def test_a_file_that_is_gone_is_none(tmp_path):
    assert source_at(tmp_path / "a.png", "a.png") is None


def test_folders_that_cannot_be_watched(tmp_path):
    check_folder(tmp_path)
    with pytest.raises(InputError, match="no such folder: check the path"):
        check_folder(tmp_path / "none")
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="not a folder: for files use"):
        check_folder(tmp_path / "a.png")


def test_an_old_file_is_ready_at_once():
    assert Settling(0.5).ready([source()], NOW, WALL + 0.6) == [source()]


@pytest.mark.parametrize("age", [0.4, 0.0, -3600.0])
def test_a_young_file_or_one_from_the_future_has_to_be_still(age):
    settling = Settling(0.5)
    assert settling.ready([source()], NOW, WALL + age) == []
    assert settling.ready([source()], NOW + 0.4, WALL + age + 0.4) == []
    assert settling.next_s(NOW + 0.4) == pytest.approx(0.1)
    assert settling.ready([source()], NOW + 0.5, WALL + age + 0.5) == [source()]


@pytest.mark.parametrize("change", [{"size": 2}, {"mtime": WALL + 0.2}])
def test_a_file_that_changes_has_to_be_still_anew(change):
    settling = Settling(0.5)
    settling.ready([source()], NOW, WALL)
    changed = source(**change)
    assert settling.ready([changed], NOW + 0.5, WALL) == []
    assert settling.ready([changed], NOW + 0.9, WALL) == []
    assert settling.ready([changed], NOW + 1.0, WALL) == [changed]


def test_a_clock_that_is_set_back_does_not_matter():
    settling = Settling(0.5)
    settling.ready([source()], NOW, WALL - 1e6)
    assert settling.ready([source()], NOW + 0.5, WALL - 2e6) == [source()]


def test_a_file_that_goes_and_comes_is_new():
    settling = Settling(0.5)
    settling.ready([source()], NOW, WALL)
    settling.ready([], NOW + 0.4, WALL)
    assert settling.ready([source()], NOW + 0.6, WALL) == []


def test_nothing_waiting_means_no_early_look():
    settling = Settling(0.5)
    assert settling.next_s(NOW) == float("inf")
    settling.ready([source()], NOW, WALL + 1)
    assert settling.next_s(NOW) == float("inf")


@pytest.mark.timeout(60)
def test_alarm_wakes_and_stops():
    alarm = StopSignal()
    alarm.wake()
    alarm.wake()
    alarm.wait(3600)
    alarm.stop()
    alarm.sleep(3600)
    assert alarm.stopping


@pytest.mark.timeout(60)
def test_events_wake_for_files_made_and_moved_in_and_not_for_reading(tmp_path):
    alarm, calls = StopSignal(), []
    (tmp_path / "there.png").touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "a.png").touch()
    (tmp_path / "watched").mkdir()
    warnings = []
    events = Events(tmp_path / "watched", lambda: (calls.append("call"), alarm.wake()), warnings.append)
    events.start()
    events.start()  # again, as after the folder was away
    try:
        for change in (
            lambda: (tmp_path / "watched" / "b.png").write_bytes(b"b"),
            lambda: (tmp_path / "there.png").rename(tmp_path / "watched" / "c.png"),
        ):
            change()
            alarm.wait(3600)
        time.sleep(0.3)
        calls.clear()
        (tmp_path / "watched" / "b.png").read_bytes()
        time.sleep(0.3)
        assert calls == []
    finally:
        events.stop()
    assert warnings == []


def test_without_events_there_is_a_note(tmp_path):
    warnings = []
    events = Events(tmp_path / "gone", print, warnings.append)
    events.start()
    events.stop()
    assert len(warnings) == 1
    assert "looking into" in warnings[0]


MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /mnt/lab\040share rw shared:9 master:2 - cifs //server/share rw,vers=3.0
31 22 0:26 / /mnt/nas rw - nfs4 server:/export rw
32 31 0:27 / /mnt/nas/local rw - tmpfs tmpfs rw
33 22 0:28 / /home/me/cloud rw - fuse.rclone remote: rw
34 22 0:29 / /media/stick rw - fuseblk /dev/sda1 rw
35 22 0:30 / /media/twice rw - ext4 /dev/sdb1 rw
36 22 0:31 / /media/twice rw - nfs server:/twice rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/mnt", "ext4"),
        ("/mnt/lab share/day 1", "cifs"),
        ("/mnt/lab", "ext4"),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/local/x", "tmpfs"),
        ("/home/me/cloud/x", "fuse.rclone"),
        ("/media/stick", "fuseblk"),
        ("/media/twice/a", "nfs"),
    ],
)
def test_the_file_system_of_a_folder(tmp_path, folder, kind):
    (tmp_path / "mountinfo").write_text(MOUNTS.strip())
    assert file_system(folder, tmp_path / "mountinfo") == kind
    assert file_system(folder, tmp_path / "nowhere") == ""


BOUND = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 254:0 /home/me/the\040images /home/me/the\040images ro shared:1 master:1 - ext4 /dev/vda rw
"""


@pytest.mark.parametrize(
    ("now", "is_fault"),
    [
        (BOUND, False),
        (BOUND.replace("254:0 /home/me/the\\040images", "254:0 /home/me/old"), True),
        (BOUND.replace("254:0 /home/me/the\\040images", "254:0 /home/me/the\\040images//deleted"), True),
        (MOUNTS, False),  # as a drive that was unplugged
        (BOUND.strip() + "\n31 30 0:33 / /home/me/the\\040images rw - vfat /dev/sdb1 rw\n", False),
        ("", False),
    ],
)
def test_a_mount_that_went_with_its_folder_is_noticed(tmp_path, now, is_fault):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(BOUND.strip())
    bound = Bound(Path("/home/me/the images"), mountinfo)
    bound.check()
    mountinfo.write_text(now.strip())
    if is_fault:
        with pytest.raises(InputError, match=r"^/home/me/the images was moved or removed, .*: make it again"):
            bound.check()
    else:
        bound.check()


@pytest.mark.parametrize(("kind", "listens"), [("cifs", False), ("fuse.sshfs", False), ("fuseblk", True), ("", True)])
def test_a_network_drive_is_not_listened_to(tmp_path, monkeypatch, kind, listens):
    monkeypatch.setattr(wake, "file_system", lambda folder: kind)
    warnings = []
    events = Events(tmp_path, print, warnings.append)
    events.start()
    events.start()  # again, as after the drive was away
    assert (events._observer is not None) == listens
    events.stop()
    lines = [] if listens else [f"{tmp_path} is a {kind} drive, which gives no file events: looking into it regularly"]
    assert warnings == lines


@pytest.mark.timeout(60)
def test_events_of_folders_below(tmp_path):
    alarm = StopSignal()
    (tmp_path / "sub").mkdir()
    events = Events(tmp_path, alarm.wake, print, recursive=True)
    events.start()
    try:
        (tmp_path / "sub" / "a.png").touch()
        alarm.wait(3600)
    finally:
        events.stop()


def test_ready_and_waiting_complement_each_other_at_any_time():
    for step in range(1000):
        settling, now = Settling(0.1), NOW + step * 0.0137
        assert settling.ready([source()], now, WALL + 1) == [source()]
        settling = Settling(0.1)
        assert settling.ready([source()], now, WALL) == []
        assert settling.ready([source()], now + settling.next_s(now) + 1e-6, WALL) == [source()]
