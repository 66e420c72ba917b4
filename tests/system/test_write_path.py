"""The order in which results reach the disk, and a kill or a fault of the disk at every step of it.

``strace`` tells the system calls of the real command, kills it at one of them, or makes one fail.
"""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device.pipeline import models
from cellseg_device.results.folder import Output
from cellseg_device.system import files
from cellseg_device.watching import watch
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.worker import Worker

WRITES = ("write", "pwrite64", "ftruncate")
SYNCS = ("fsync", "fdatasync")
RENAMES, UNLINKS = ("rename", "renameat", "renameat2"), ("unlink", "unlinkat")
CALLS = (*WRITES, *SYNCS, *RENAMES, *UNLINKS)
LEDGER, WAL = "cellseg.sqlite", "cellseg.sqlite-wal"
TABLES = ("counts.csv", "failed.csv")
NOT_KEPT = ("cellseg.sqlite-shm", "cellseg.sqlite-journal", ".cellseg.lock", ".cellseg.turn")


def tracing(*options):
    return ["strace", "-f", "-yy", "-e", f"trace={','.join(CALLS)}", *options]


@pytest.fixture(scope="module")
def strace():
    """Skip where system calls cannot be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")


@pytest.fixture(scope="module")
def once():
    """Do what is to be done, in this process, as a restart would: what was known before, and the outcomes."""
    # Those of the command, so that what it leaves and what is made here are alike
    bundled = models.load(None, None, 1, "auto", lambda line: None)

    def do(out, images):
        output = Output(out, lambda line: None)
        worker = Worker(bundled, output, extras=("overlay",))
        try:
            output.open()
            known = dict(output.known)
            return known, list(watch.once(images, worker, watch.Timing(0, 0.01), StopSignal()))
        finally:
            worker.close()
            output.close()

    return do


@pytest.fixture(scope="module")
def start(tmp_path_factory, write_image, once):
    """A folder of images: one done with an overlay and changed since, one new, one done and no image any more."""
    folder = tmp_path_factory.mktemp("start")
    images = folder / "images"
    images.mkdir()
    for name in "ac":
        write_image(images / f"{name}.png", seed=1)
    once(folder / "out", images)
    write_image(images / "a.png", seed=2, mtime=1_700_000_100)
    write_image(images / "b.png", seed=3)
    (images / "c.png").write_text("no image")
    os.utime(images / "c.png", (1_700_000_000, 1_700_000_000))
    return folder


def copied(start, out):
    """Copy images and results to where `out` is to lie, since an image is known by its place; returns the images."""
    shutil.copytree(start / "images", out.parent / "images", dirs_exist_ok=True)
    shutil.copytree(start / "out", out)
    return out.parent / "images"


@pytest.fixture(scope="module")
def command(strace, start, environment):
    """Make the command that does the images into a copy of the results, traced with these options."""

    def run(out, *options):
        images = copied(start, out)
        arguments = ["-m", "cellseg_device", "watch", str(images), "--once", "--settle", "0"]
        traced = [*tracing(*options), sys.executable, *arguments, "--out", str(out)]
        return subprocess.run(traced, env=environment, capture_output=True, text=True, timeout=200, check=False)

    return run


@pytest.fixture(scope="module")
def trace(command, tmp_path_factory):
    """All calls that touch the output folder, each as (call, how many of that call came before, file, new name)."""
    folder = tmp_path_factory.mktemp("trace")
    log = folder / "log.txt"
    result = command(folder / "out", "-o", str(log))
    assert result.returncode == 1, result.stderr  # one of the three is no image
    return list(events(log.read_text(), folder / "out"))


def events(log, out):
    number = dict.fromkeys(CALLS, 0)
    main = re.search(r"^(\d+) +rename(?:at2?)?\(", log, re.MULTILINE)[1]
    for line in log.splitlines():
        process, call, arguments = re.match(r"(\d+)\s+(\w+)?(.*)", line).groups()
        if process != main or call not in CALLS:
            continue
        number[call] += 1
        if call in RENAMES + UNLINKS:
            named = re.findall(r'(?:[\w]+<([^>]*)>, )?"([^"]*)"', arguments)
            paths = [Path(folder, name) for folder, name in named]
        else:
            paths = [Path(path) for path in re.findall(r"^\(\d+<([^>]*)>", arguments)]
        if "= -1" not in arguments and paths and (out in paths[0].parents or out == paths[0]):
            yield call, number[call], *(path.name if path != out else "" for path in paths)


def check_order(trace):
    """Replay the calls on a disk that keeps what was synced: nothing is relied on before it is kept."""
    unsynced = set()  # files; "" is the folder with its names
    rows, commits = 0, 0
    for call, _, name, *new_name in trace:
        if name in NOT_KEPT:
            continue
        # Temporary files may be written, and files of an image that fails removed, while it is only noted as in hand
        if call in RENAMES or name in TABLES:
            assert WAL not in unsynced, f"{name} is touched before a commit is on the disk"
        if call in SYNCS:
            unsynced.discard(name)
        elif call in RENAMES:
            assert name not in unsynced, f"{new_name[0]} takes its name before it is on the disk"
            assert new_name[0] not in TABLES or not unsynced, f"{new_name[0]} names what is not on the disk: {unsynced}"
            unsynced.add("")
        elif call in UNLINKS:
            if name not in TABLES and name != WAL:  # the next start would make these anew
                unsynced.add("")
        elif name == WAL:
            left = unsynced - {WAL, LEDGER}
            assert not left, f"the ledger names what is not on the disk: {left}"
            commits += name not in unsynced
            unsynced.add(name)
        else:
            if name in TABLES:
                assert not unsynced - {WAL, LEDGER}, f"{name} names what is not on the disk: {unsynced}"
                rows += 1
            unsynced.add(name)
    assert not unsynced
    return rows, commits


def test_all_is_on_the_disk_before_it_is_relied_on(trace):
    rows, commits = check_order(trace)
    assert rows >= 1  # appended; others are written with their whole table
    assert commits >= 3
    renamed = {new_name[0] for call, _, _, *new_name in trace if call in RENAMES}
    assert renamed == {
        "a.labels.tif",
        "a.cells.csv",
        "a.overlay.jpg",
        "b.labels.tif",
        "b.cells.csv",
        "b.overlay.jpg",
        *TABLES,
    }
    removed = {name for call, _, name, *_ in trace if call in UNLINKS}
    assert removed >= {"c.labels.tif", "c.cells.csv", "c.overlay.jpg"}


def test_the_check_of_the_order_misses_no_sync(trace):
    """Each sync counts: with any of them gone the order is wrong."""
    syncs = [index for index, (call, _, name, *_) in enumerate(trace) if call in SYNCS and name not in NOT_KEPT]
    assert len(syncs) > 10
    missed = []
    for index in syncs:
        try:
            check_order(trace[:index] + trace[index + 1 :])
        except AssertionError:
            continue
        missed.append(trace[index])
    assert [call for call, *_ in missed if call == "fsync"] == []  # of SQLite's own there may be some


def test_the_order_without_strace(start, once, tmp_path, monkeypatch):
    """The same by this process's own calls: coarser, but everywhere."""
    out, calls = tmp_path / "out", []
    images = copied(start, out)

    def name(path):
        path = Path(path if isinstance(path, str | os.PathLike) else f"/proc/self/fd/{path}").resolve()
        return "" if path == out else path.name

    def recorded(call, function):
        def record(*arguments, **keywords):
            names = [name(argument) for argument in arguments[: 2 if call == "rename" else 1]]
            result = function(*arguments, **keywords)
            if "rb" not in arguments:  # opened to be read
                calls.append((call, len(calls), *names))
            return result

        return record

    def connect(*arguments, plain=sqlite3.connect, **keywords):
        connection = plain(*arguments, **keywords)
        commit = [("pwrite64", 0, WAL), ("fdatasync", 0, WAL)]
        connection.set_trace_callback(lambda sql: calls.extend(commit if sql == "COMMIT" else []))
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    monkeypatch.setattr(files, "open", recorded("write", open), raising=False)
    for call, theirs in (("write", "write"), ("fsync", "fsync"), ("rename", "replace"), ("unlink", "unlink")):
        monkeypatch.setattr(os, theirs, recorded(call, getattr(os, theirs)))
    once(out, images)
    monkeypatch.undo()
    calls = [event for event in calls if not event[2].startswith(".cellseg.")]
    # One commit for each image, two with tables written anew, one for each image that is taken in hand, one before
    # the files of each get their names or are removed, one at the start and one at the end
    assert check_order(calls) == (1, 13)
    assert {call for call, *_ in calls} == {"write", "fsync", "rename", "unlink", "pwrite64", "fdatasync"}


def steps(trace):
    """The calls at which a stop makes a difference: of writes to one file in a row, the first and the last."""
    kept = []
    for before, event, after in zip([None, *trace], trace, [*trace[1:], None], strict=False):
        same = [other is not None and (other[0], other[2]) == (event[0], event[2]) for other in (before, after)]
        if event[2] not in NOT_KEPT and not (event[0] in WRITES and all(same)):
            kept.append(event)
    return kept


def contents(out):
    """All result files, and of the ledger what does not depend on the time."""
    skipped = ("sqlite", ".cellseg", "failed.csv")
    found = {path.name: path.read_bytes() for path in out.iterdir() if not any(part in path.name for part in skipped)}
    with sqlite3.connect(out / LEDGER) as connection:
        columns = "image, size, mtime_ns, sha256, status, reason, stem, count, files, settings"
        rows = connection.execute(f"SELECT {columns} FROM images ORDER BY seq").fetchall()
    connection.close()
    return found, rows


@pytest.fixture(scope="module")
def whole(start, once, tmp_path_factory):
    """What an uninterrupted run leaves."""
    out = tmp_path_factory.mktemp("whole") / "out"
    once(out, copied(start, out))
    return contents(out)


@pytest.mark.slow
def test_a_kill_at_every_step_costs_nothing(once, command, trace, whole, tmp_path):
    names = ["a.png", "b.png", "c.png"]
    done_before = set()
    for number, (call, when, name, *_) in enumerate(steps(trace)):
        out = tmp_path / str(number)
        result = command(out, "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={when}")
        where = f"killed at {call} {when} ({name})"
        assert result.returncode == -signal.SIGKILL, f"{where}: {result.stderr}"
        known, outcomes = once(out, out.parent / "images")
        assert [outcome.image for outcome in outcomes] == names, where
        assert contents(out) == whole, where
        assert not list(out.glob(".*.tmp")), where
        again, unchanged = once(out, out.parent / "images")
        assert set(again) == set(names), where
        assert [outcome.status for outcome in unchanged] == ["unchanged", "unchanged", "failed"], where
        done_before.add(tuple(sorted(known)))
        shutil.rmtree(out)
    # The kills fell before, between and after the commits; what was being replaced was not known
    assert {len(known) for known in done_before} == {1, 2, 3}


@pytest.mark.slow
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_fault_of_the_disk_at_every_step_is_reported_and_mended(once, command, trace, whole, tmp_path, error):
    failed = 0
    for number, (call, when, name, *_) in enumerate(steps(trace)[::2] if error == "EIO" else steps(trace)[1::2]):
        out = tmp_path / str(number)
        result = command(out, "-o", os.devnull, "-e", f"inject={call}:error={error}:when={when}")
        where = f"{error} at {call} {when} ({name}): {result.stderr}"
        assert "Traceback" not in result.stderr, where
        assert result.returncode in (1, 2), where
        failed += "make room or fix the disk" in result.stderr or "cannot take results" in result.stderr
        once(out, out.parent / "images")
        assert sorted(contents(out)[1]) == sorted(whole[1]), where
        assert {k: v for k, v in contents(out)[0].items() if k != "counts.csv"} == {
            k: v for k, v in whole[0].items() if k != "counts.csv"
        }, where
        shutil.rmtree(out)
    assert failed > number / 2
