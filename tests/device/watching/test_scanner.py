"""Which folders and files a watch looks at again and when, and that in the end it misses none."""

import itertools
import os
import random
import shutil
import threading

import pytest

from cellseg_device.image.source import printable
from cellseg_device.results.entry import DONE
from cellseg_device.watching import scan as scanning
from cellseg_device.watching import wake, watch
from cellseg_device.watching.scan import Scanner, scan
from cellseg_device.watching.wake import Events, StopSignal

TICKS = itertools.count(1_700_000_000)


def changed(folder, change):
    """Change something in a folder, whose time then is another, however fast this goes."""
    change(folder)
    tick = next(TICKS)
    os.utime(folder, (tick, tick))


class Looks:
    """How often folders are listed, and files looked at."""

    def __init__(self, monkeypatch):
        self.listed = self.files = 0
        scandir, followed = os.scandir, scanning._followed
        monkeypatch.setattr(os, "scandir", lambda folder: (self._list(), scandir(folder))[1])
        monkeypatch.setattr(scanning, "_followed", lambda stat: (self._look(), followed(stat))[1])

    def _list(self):
        self.listed += 1

    def _look(self):
        self.files += 1

    def taken(self):
        """How many there were since the last call: of folders, and of files."""
        seen = self.listed, self.files
        self.listed = self.files = 0
        return seen


class Watched:
    """A scanner of a folder, with a clock that goes only when it is told to, and a cost for each pass."""

    def __init__(self, folder, *, recursive=False):
        self.now = self.cpu = 0.0
        self.pass_s = self.pass_cpu_s = 0.0
        self.known = {}
        self.folder, self.out = folder, folder / "out"
        self._calls = 0
        self.scanner = Scanner(folder, self.out, recursive=recursive, clock=lambda: self.now, cpu_clock=self._processor)

    def _processor(self):
        """Called at the begin of a pass and at its end: between these, time passes."""
        self._calls += 1
        if self._calls % 2:
            self.now += self.pass_s
        else:
            self.cpu += self.pass_cpu_s
        return self.cpu

    def names(self, *touched, later=3.0):
        self.now += later
        return [source.image for source in self.scanner.scan(self.known, touched)]

    def do(self):
        """All that is there is done."""
        self.known.update({s.image: (s.size, s.mtime_ns) for s in self.scanner.scan(self.known)})

    def settle(self):
        """The folder is known for sure, and the next sweep is far away."""
        self.pass_cpu_s = 1e6
        self.names()
        self.pass_cpu_s = 0.0
        self.do()
        for _ in range(3):
            assert self.names() == []


@pytest.fixture
def watched(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"1")
    watched = Watched(tmp_path)
    watched.settle()
    return watched


@pytest.fixture
def looks(watched, monkeypatch):
    return Looks(monkeypatch)


def test_where_nothing_changes_nothing_is_looked_at(watched, looks):
    assert watched.names() == []
    assert looks.taken() == (0, 0)


def test_of_a_folder_with_a_new_name_the_new_file_alone_is_looked_at(watched, looks):
    changed(watched.folder, lambda folder: (folder / "d.png").write_bytes(b"1"))
    assert watched.names() == ["d.png"]
    assert looks.taken() == (1, 1)
    # What waits is looked at again until it is done, since it may still be written; the folder is listed once more,
    # when its time would show another name
    assert watched.names() == ["d.png"]
    assert looks.taken() == (1, 1)
    (watched.folder / "d.png").write_bytes(b"22")
    (source,) = watched.scanner.scan(watched.known)
    assert source.size == 2
    assert looks.taken() == (0, 1)
    watched.known["d.png"] = (source.size, source.mtime_ns)
    assert watched.names() == []
    assert looks.taken() == (0, 1)
    assert watched.names() == []
    assert looks.taken() == (0, 0)


def test_known_images_and_those_of_kinds_that_are_not_read_are_counted(watched):
    assert (watched.scanner.known_count, watched.scanner.passed_over) == (3, {})
    for name in ("d.czi", "e.CZI", "f.heic", ".hidden.czi", "notes.txt"):
        (watched.folder / name).write_bytes(b"1")
    changed(watched.folder, lambda folder: (folder / "g.png").write_bytes(b"1"))
    assert watched.names() == ["g.png"]
    assert watched.scanner.passed_over == {".czi": 2, ".heic": 1}
    watched.do()
    assert watched.names() == []
    assert (watched.scanner.known_count, watched.scanner.passed_over) == (4, {".czi": 2, ".heic": 1})
    (watched.folder / "a.png").write_bytes(b"22")
    assert watched.names(later=1e9) == ["a.png"]
    assert watched.scanner.known_count == 3


def test_a_name_that_comes_in_the_same_tick_is_found(watched, looks):
    """A file system may tell times in steps of 2 s: a folder may change and have the time that it had."""
    tick = next(TICKS)
    for number, later in enumerate((3.0, 1.0, 1.0)):
        (watched.folder / f"new{number}.png").write_bytes(b"1")
        os.utime(watched.folder, (tick, tick))
        assert f"new{number}.png" in watched.names(later=later)
    watched.names(later=1.0)
    assert looks.taken()[0] == 4
    watched.names(later=1.0)
    assert looks.taken()[0] == 0


def test_a_file_overwritten_in_place_is_found_by_its_event_or_else_by_the_next_sweep(watched, looks):
    (watched.folder / "b.png").write_bytes(b"22")
    (watched.folder / "c.png").write_bytes(b"333")
    assert watched.names("c.png", "no.png", "deeper/c.png") == ["c.png"]
    assert looks.taken() == (0, 2)
    assert watched.names() == ["c.png"]
    assert watched.names(later=1e9) == ["b.png", "c.png"]


def test_a_file_in_a_drive_that_keeps_no_time_is_found_by_its_event_or_else_by_the_next_sweep(watched):
    info = watched.folder.stat()
    for name in ("d.png", "e.png"):
        (watched.folder / name).write_bytes(b"1")
    os.utime(watched.folder, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert watched.names("e.png") == ["e.png"]
    assert watched.names(later=1e9) == ["d.png", "e.png"]


def test_what_an_event_names_and_is_no_image_is_none(tmp_path):
    for name in ("a.png", "cellseg.sqlite", ".b.png", "notes.txt", "a.overlay.jpg", "summary-counts.png"):
        (tmp_path / name).touch()
    (tmp_path / "d.png").mkdir()
    watched = Watched(tmp_path, recursive=True)
    watched.settle()
    names = [path.name for path in tmp_path.iterdir()]
    for name in names:
        os.utime(tmp_path / name, (5, 5))
    assert watched.names(*names) == ["a.png"]


def test_a_name_that_cannot_be_printed_is_known_by_what_is_printed(tmp_path):
    (tmp_path / "a\udcff.png").touch()
    watched = Watched(tmp_path)
    watched.settle()
    assert [*watched.known] == [r"a\xff.png"]
    os.utime(tmp_path / "a\udcff.png", (5, 5))
    assert watched.names("a\udcff.png") == [r"a\xff.png"]


def test_sweeps_and_other_passes_rest_in_proportion_to_what_they_take(watched, looks):
    watched.pass_s, watched.pass_cpu_s = 0.5, 0.3
    watched.scanner._sweep_at = watched.now
    watched.names(later=0)
    looks.taken()
    assert watched.scanner.rest_s < 1  # the next pass is not kept waiting by a sweep
    watched.pass_s, watched.pass_cpu_s = 0.0, 0.01
    watched.names(later=0.3 * 50 - 0.1)
    assert looks.taken() == (0, 0)
    assert watched.scanner.rest_s == pytest.approx(1.0)  # 100 times its time on the processor
    watched.names(later=0.2)
    assert looks.taken() == (1, 3)
    watched.scanner._sweep_at = 1e9
    watched.pass_s = 2.0  # as on a slow drive
    watched.names(later=0.0)
    assert watched.scanner.rest_s == 8.0
    changed(watched.folder, lambda folder: (folder / "d.png").touch())
    watched.pass_s, watched.pass_cpu_s = 0.1, 0.1
    assert watched.names(later=0.0) == ["d.png"]
    assert watched.scanner.rest_s == pytest.approx(0.4)  # one that found something is no part of what idleness costs


def test_a_sweep_of_a_slow_drive_leaves_it_to_others_for_four_times_as_long(watched, looks):
    watched.scanner._sweep_at = watched.now
    watched.pass_s, watched.pass_cpu_s = 100.0, 0.1
    watched.names(later=0)
    watched.pass_s = watched.pass_cpu_s = 0.0
    looks.taken()
    watched.names(later=399)
    assert looks.taken() == (0, 0)
    watched.names(later=2)
    assert looks.taken() == (1, 3)


def test_an_output_that_was_opened_again_asks_for_a_sweep(watched, looks):
    """Since results may have been removed meanwhile."""
    watched.known = {name: of for name, of in watched.known.items() if name != "b.png"}
    assert watched.names() == ["b.png"]
    assert looks.taken() == (1, 3)


def test_after_a_fault_all_is_looked_at(watched, looks, monkeypatch):
    plain = os.open

    def broken(path, *arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(OSError, match="Input/output"):
        watched.names()
    monkeypatch.setattr(os, "open", plain)
    (watched.folder / "b.png").write_bytes(b"22")
    assert watched.names() == ["b.png"]


def test_of_folders_below_those_that_changed_are_listed(tmp_path, monkeypatch):
    for name in ("1/a.png", "1/deeper/b.png", "2/c.png", "out/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    watched = Watched(tmp_path, recursive=True)
    watched.settle()
    looks = Looks(monkeypatch)
    assert watched.names() == []
    assert looks.taken() == (0, 0)
    changed(tmp_path / "1" / "deeper", lambda folder: (folder / "e.png").touch())
    assert watched.names() == ["1/deeper/e.png"]
    assert looks.taken() == (1, 1)
    os.utime(tmp_path / "2" / "c.png", (5, 5))
    assert watched.names("2/c.png") == ["1/deeper/e.png", "2/c.png"]
    changed(tmp_path, lambda folder: (folder / "1").rename(folder / "3"))
    assert watched.names() == ["2/c.png", "3/a.png", "3/deeper/b.png", "3/deeper/e.png"]
    changed(tmp_path, lambda folder: shutil.rmtree(folder / "3"))
    assert watched.names() == ["2/c.png"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_a_pass_finds_what_a_new_look_at_everything_finds(tmp_path, seed):
    """But for what no folder's time and no event told of: that is found by the next sweep."""
    chance = random.Random(seed)
    watched = Watched(tmp_path, recursive=True)
    watched.pass_cpu_s = 1.0
    hidden = False
    for step in range(120):
        folders = [path for path in (tmp_path, *tmp_path.rglob("*")) if path.is_dir()]
        files = [path for path in tmp_path.rglob("*.png") if path.is_file()]
        place, touched, odd = chance.choice(folders), [], chance.choice(("", "", "\udcff"))
        match chance.choices(range(8), (2, 2, 8, 1, 1, 1, 4, 1))[0]:
            case 0 | 1:
                changed(
                    place, lambda folder, step=step, odd=odd: (folder / f"{step}{odd}.png").write_bytes(b"1" * step)
                )
            case 2 if files:
                path = chance.choice(files)
                path.write_bytes(b"2" * (step + 1000))
                touched = [str(path.relative_to(tmp_path))] * (chance.random() < 0.9)
                hidden |= not touched and printable(str(path.relative_to(tmp_path))) in watched.known
            case 3 if files:
                path = chance.choice(files)
                changed(path.parent, lambda _, path=path: path.unlink())
            case 4:
                changed(place, lambda folder, step=step: (folder / f"d{step}").mkdir())
            case 5 if place != tmp_path:
                changed(place.parent, lambda _, place=place, step=step: place.rename(place.parent / f"r{step}"))
            case 6:
                watched.do()
            case 7:
                watched.now += chance.choice((1.0, 100.0))
        due = watched.now + 3.0 >= watched.scanner._sweep_at
        hidden &= not due
        found = watched.names(*touched)
        expected = [s.image for s in scan(tmp_path, watched.out, recursive=True, known=watched.known)]
        assert found == expected if not hidden else set(found) <= set(expected), step
    assert watched.names(later=1e9) == expected


@pytest.mark.timeout(60)
def test_events_say_what_they_were_of(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.png").touch()
    (tmp_path / "b.png").touch()
    stop = StopSignal()
    events = Events(tmp_path / "in", stop.wake, print, recursive=True)
    events.start()
    seen = set()
    try:
        for change, names in (
            (lambda: (tmp_path / "in" / "a.png").write_bytes(b"1"), {"a.png"}),
            (lambda: (tmp_path / "b.png").rename(tmp_path / "in" / "sub" / "c.png"), {"sub/c.png"}),
            (lambda: (tmp_path / "in" / "sub" / "c.png").rename(tmp_path / "in" / "d.png"), {"sub/c.png", "d.png"}),
        ):
            change()
            while not names <= seen:
                stop.wait(3600)
                seen |= events.take()
    finally:
        events.stop()
    assert seen == {"a.png", "sub/c.png", "d.png"}
    assert events.take() == set()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("has_events", [True, False])
def test_a_watch_finds_new_files_and_by_events_overwritten_ones_between_its_sweeps(
    work, tmp_path, write_image, monkeypatch, has_events
):
    monkeypatch.setattr(scanning, "_PER_SWEEP_CPU", 1e9)
    if not has_events:
        monkeypatch.setattr(wake, "file_system", lambda _folder: "nfs")
    folder, stop, waiting = tmp_path / "in", StopSignal(), threading.Event()
    folder.mkdir()
    write_image(folder / "a.png")
    timing = watch.Timing(0.05, 3600.0 if has_events else 0.05)
    timer = threading.Timer(100, stop.stop)
    timer.start()
    found = []
    for outcome in watch.watch(folder, work, timing, stop):
        found.append((outcome.image, outcome.status))
        if len(found) == 1:
            # When the watch waits again: else what it finds may still be of the pass before
            wait = stop.wait
            monkeypatch.setattr(stop, "wait", lambda seconds, wait=wait: (waiting.set(), wait(seconds)))
            threading.Thread(target=lambda: waiting.wait() and write_image(folder / "b.png", seed=1)).start()
        elif len(found) == 2 and has_events:
            write_image(folder / "a.png", seed=2, mtime=None)
        else:
            stop.stop()
    timer.cancel()
    assert found == [("a.png", DONE), ("b.png", DONE), ("a.png", DONE)][: 3 if has_events else 2]
