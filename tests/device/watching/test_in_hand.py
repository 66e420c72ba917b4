"""What was in hand when a process was killed: done alone the next time, passed over the third."""

from __future__ import annotations

import errno
import os

import pytest

from cellseg_device.errors import KILLS
from cellseg_device.image.source import source_at
from cellseg_device.pipeline.models import Models
from cellseg_device.results.entry import DONE, FAILED
from cellseg_device.results.folder import Output
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.watching import watch
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.worker import Worker


class Killed(BaseException):
    """In place of a kill: nothing catches it, and nothing is closed after it."""


def kill(output):
    """Leave a folder as a process does that is killed."""
    output._ledger._connection.close()
    os.close(output._lock)


class Machine:
    """Does a folder of images again and again, and is killed by those that it is said to be."""

    def __init__(self, tmp_path, model, write_image, monkeypatch):
        self.folder, self.out, self.killers = tmp_path / "images", tmp_path / "out", set()
        self.folder.mkdir()
        for seed, name in enumerate("abcd"):
            write_image(self.folder / f"{name}.png", seed=seed)
        self._model, self._patch = model, monkeypatch
        self.alone = []  # of each image that was begun, whether no other one was

    def start(self, do=watch.once, *names):
        """Returns the outcomes; None if it was killed."""
        output = Output(self.out, lambda line: None, watched=self.folder)
        worker = Worker(Models(self._model), output)
        begin = worker._prefetcher.take

        def take(source, *arguments, following):
            self.alone.append((source.image, following is None))
            if self.killers & {one.path.name for one in (source, following) if one is not None}:
                raise Killed
            return begin(source, *arguments, following=following)

        self._patch.setattr(worker._prefetcher, "take", take)
        try:
            if do is watch.run:
                outcomes = list(watch.run([self.folder / name for name in names], worker, StopSignal()))
            else:
                outcomes = list(watch.once(self.folder, worker, watch.Timing(0, 0.01), StopSignal()))
        except Killed:
            kill(output)
            return None
        finally:
            worker.close()
        output.close()
        return {outcome.image: outcome for outcome in outcomes}


@pytest.fixture
def machine(tmp_path, model, write_image, monkeypatch):
    return Machine(tmp_path, model, write_image, monkeypatch)


def test_what_kills_twice_is_passed_over_and_all_others_are_counted(machine):
    machine.killers = {"b.png"}
    assert machine.start() is None
    assert machine.alone == [("a.png", False)]  # and "b.png" ahead of its turn
    machine.alone.clear()
    assert machine.start() is None
    assert machine.alone == [("a.png", True), ("b.png", True)]
    outcomes = machine.start()
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "a.png": "unchanged",
        "b.png": FAILED,
        "c.png": DONE,
        "d.png": DONE,
    }
    assert outcomes["b.png"].reason == KILLS
    assert "b.png" in (machine.out / "failed.csv").read_text()
    assert machine.start()["b.png"].reason == KILLS  # not tried again


def test_it_is_tried_again_when_it_is_asked_for_or_changes(machine, write_image):
    machine.killers = {"b.png"}
    for _ in range(2):
        assert machine.start() is None
    assert machine.start()["b.png"].status == FAILED
    assert machine.start(watch.run, "b.png") is None
    machine.killers = set()
    assert machine.start()["b.png"].status == FAILED
    assert machine.start(watch.run, "b.png")["b.png"].status == DONE

    machine.killers = {"c.png"}
    write_image(machine.folder / "c.png", seed=30, mtime=1_700_000_030)
    for _ in range(2):
        assert machine.start() is None
    assert machine.start()["c.png"].status == FAILED
    machine.killers = set()
    write_image(machine.folder / "c.png", seed=31, mtime=1_700_000_031)
    assert machine.start()["c.png"].status == DONE


def test_two_kills_by_a_file_that_changed_between_are_of_two_files(machine, write_image):
    machine.killers = {"a.png"}
    for seed in (1, 2, 3):
        write_image(machine.folder / "a.png", seed=seed, mtime=1_700_000_000 + seed)
        assert machine.start() is None


@pytest.mark.parametrize("is_opened_again", [True, False])
def test_a_fault_of_a_disk_and_a_stop_are_no_kills(machine, model, monkeypatch, is_opened_again):
    """Of three starts: the disk is full, and the command is stopped before or after it has tried again."""
    source = source_at(machine.folder / "a.png", "a.png")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    for _ in range(3):
        output = Output(machine.out, lambda line: None)
        worker = Worker(Models(model), output)
        with monkeypatch.context() as patch:
            patch.setattr("cellseg_device.system.files.write_all", full)
            with pytest.raises(OSError, match="No space left"):
                worker.process(source)
        assert not output.is_open
        if is_opened_again:
            output.open()
        worker.close()
        output.close()
    output = Output(machine.out, lambda line: None)
    output.open()
    assert output.kills(source) == 0
    output.close()


def test_a_disk_that_comes_back_is_written_to_again(machine, model, monkeypatch):
    """As a stick that was pulled out and put in again: nothing that was open on it works any more."""
    source = source_at(machine.folder / "a.png", "a.png")
    output = Output(machine.out, lambda line: None)
    worker = Worker(Models(model), output)
    output.open()
    gone = output.ledger

    def dead(sources):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(gone, "take_in_hand", dead)
    with pytest.raises(OSError, match="Input/output error"):
        worker.process(source)
    assert worker.process(source).status == DONE
    assert output.ledger is not gone
    worker.close()
    output.close()


def test_an_image_that_cannot_be_read_is_not_in_hand_while_it_waits(machine, model):
    def unreadable(path, budget):
        raise OSError(5, "Input/output error")

    output = Output(machine.out, lambda line: None)
    worker = Worker(Models(model), output, decode=unreadable)
    source = source_at(machine.folder / "a.png", "a.png")
    with pytest.raises(OSError, match="Input/output error"):
        worker.process(source)
    worker.close()
    kill(output)
    ledger = Ledger(machine.out / FILE_NAME)
    assert ledger.note_kills() == {}
    ledger.close()
