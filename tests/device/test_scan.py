import os
import time

import pytest

from cellseg_device.errors import InputError
from cellseg_device.scan import Settling, Source, check_folder, printable, scan, source_at
from cellseg_device.wake import Alarm, Events

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


def test_alarm_wakes_and_stops():
    alarm = Alarm()
    alarm.wake()
    alarm.wake()
    start = time.monotonic()
    alarm.wait(5)
    assert time.monotonic() - start < 1
    alarm.wake()
    alarm.sleep(0.1)  # a wake-up does not cut a sleep short
    assert time.monotonic() - start > 0.1
    alarm.stop()
    alarm.sleep(5)
    assert alarm.stopping
    assert time.monotonic() - start < 1


def test_events_wake_for_files_made_and_moved_in_and_not_for_reading(tmp_path):
    alarm = Alarm()
    (tmp_path / "there.png").touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "a.png").touch()
    (tmp_path / "watched").mkdir()
    warnings = []
    events = Events(tmp_path / "watched", alarm.wake, warnings.append)
    events.start()
    events.start()  # again, as after the folder was away
    try:
        for change in (
            lambda: (tmp_path / "watched" / "b.png").write_bytes(b"b"),
            lambda: (tmp_path / "there.png").rename(tmp_path / "watched" / "c.png"),
        ):
            start = time.monotonic()
            change()
            alarm.wait(5)
            assert time.monotonic() - start < 2
        time.sleep(0.3)
        alarm.wait(0)
        (tmp_path / "watched" / "b.png").read_bytes()
        start = time.monotonic()
        alarm.wait(0.3)
        assert time.monotonic() - start >= 0.3
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


def test_ready_and_waiting_complement_each_other_at_any_time():
    for step in range(1000):
        settling, now = Settling(0.1), NOW + step * 0.0137
        assert settling.ready([source()], now, WALL + 1) == [source()]
        settling = Settling(0.1)
        assert settling.ready([source()], now, WALL) == []
        assert settling.ready([source()], now + settling.next_s(now) + 1e-6, WALL) == [source()]
