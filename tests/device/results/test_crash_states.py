"""After a power cut at any step, whatever of the unsynced is gone, no result is lost or mixed or counted twice."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile
from simulated_disk import State, materialise, recorded

from cellseg_device.cells.counting import Counting
from cellseg_device.model import card as cards
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline.models import Models
from cellseg_device.results import audit, export, image_files, rebuild
from cellseg_device.results.entry import DONE, FAILED
from cellseg_device.results.folder import Output
from cellseg_device.results.image_files import SUMMARY_NAMES
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.summary import workbook
from cellseg_device.summary.save import save
from cellseg_device.system import files
from cellseg_device.units import Length
from cellseg_device.watching import watch
from cellseg_device.watching.scan import scan
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.worker import Worker

LARGE = Counting(min_diameter=Length(14, "px"))
EXTRAS = ("geojson", "overlay")
LONG = {"summary-cells.csv": b"\xef\xbb\xbfimage,label,area_px\n", "summary.xlsx": b"PK" + workbook.MADE_BY}
THEIRS = {"notes.txt": b"of somebody", ".cellseg-notes.tmp": b"of somebody too"}


@pytest.fixture(scope="module")
def strict_model(model_path, tmp_path_factory):
    """A second model, which finds fewer cells."""
    data = model_path.read_bytes()
    card = cards.read_from(data)
    strict = dataclasses.replace(card, separation=dataclasses.replace(card.separation, confidence=0.995))
    path = tmp_path_factory.mktemp("model") / "strict.tflite"
    path.write_bytes(cards.attach(data, dataclasses.replace(strict, name="strict", known_answer=None)))
    return Model(path)


class Bench:
    """A folder with images and their results, and the work on them."""

    def __init__(self, root: Path, model: Model, strict_model: Model, write_image: Callable[..., Path]) -> None:
        self.root, self.out, self.images = root, root / "out", root / "images"
        self.model, self.strict_model, self._write_image = model, strict_model, write_image
        self.right: dict[tuple[str, ...], dict[str, str]] = {}
        self.images.mkdir()
        for seed, name in enumerate(("a.png", "b.png")):
            self.image(name, seed + 1)
        self.out.mkdir()
        for name, data in THEIRS.items():
            (self.out / name).write_bytes(data)

    def image(self, name: str, seed: int) -> None:
        """Write one of the images; the same seed always gives the same file, time included."""
        self._write_image(self.images / name, seed=seed, height=64, width=80, mtime=1_700_000_000 + seed)

    def work(self, do=watch.once, *names, extras=(), counting=None, model=None):
        output = Output(self.out, lambda line: None, settings=(counting or Counting()).key(), watched=self.images)
        worker = Worker(Models(model or self.model), output, counting=counting, extras=extras)
        try:
            if do is scan:  # as 'watch' does
                output.open()
                return [worker.process(source) for source in scan(self.images, self.out, known=output.known)]
            if do is watch.run:
                return list(watch.run([self.images / name for name in names], worker, StopSignal()))
            return list(watch.once(self.images, worker, watch.Timing(0, 0.01), StopSignal()))
        finally:
            worker.close()
            output.close()

    def scan(self):
        return self.work(scan)

    def run(self, *names, **how):
        return self.work(watch.run, *names, **how)

    def export(self, *names, force=False):
        ledger = Ledger(self.out / FILE_NAME)
        try:
            return [export.export(self.out, ledger, e, names, force=force) for e in list(ledger.entries(DONE))]
        finally:
            ledger.close()

    def rebuild(self):
        return rebuild.rebuild(self.out, self.images, lambda number: None)

    def entries(self):
        ledger = Ledger(self.out / FILE_NAME, is_for_reading=True)
        try:
            return [*ledger.entries(DONE), *ledger.entries(FAILED)]
        finally:
            ledger.close()

    def learn(self):
        """Take the results as they are for right: those of these images with these settings and models."""
        for entry in self.entries():
            if entry.stem is not None:
                self.right.setdefault(self._key(entry), {}).update(self._digests(entry))

    @staticmethod
    def _key(entry):
        return Path(entry.image).name, entry.sha256, entry.settings, entry.model_sha256

    def _digests(self, entry):
        there = {suffix: self.out / f"{entry.stem}{suffix}" for suffix in image_files.SUFFIXES}
        there = {suffix: path for suffix, path in there.items() if path.exists()}
        return {suffix: hashlib.sha256(path.read_bytes()).hexdigest() for suffix, path in there.items()}

    def check(self):
        """Assert that the results are whole, each of one image with one setting and model, and counted once."""
        audited = audit.verify(self.out, lambda number: None)
        assert audited.problems == ()
        assert (audited.strays, audited.behind) == ((), ())
        entries = {entry.image: entry for entry in self.entries()}
        with open(self.out / "counts.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert Counter(row["image"] for row in rows) == Counter(e.image for e in entries.values() if e.stem)
        for row in rows:
            entry = entries[row["image"]]
            found, right = self._digests(entry), self.right[self._key(entry)]
            assert found.keys() >= {*image_files.ALWAYS}
            assert found == {suffix: right[suffix] for suffix in found}, "mixed"
            assert int(row["count"]) == entry.counts.count == tifffile.imread(self.out / row["labels"]).max()
        names = {path.name for path in self.out.iterdir()}
        assert [name for name in names if name.endswith(".tmp")] == [".cellseg-notes.tmp"]
        assert {name: (self.out / name).read_bytes() for name in THEIRS} == THEIRS

    def check_all_done(self):
        """Assert that every image that is there has a result (or is no image), and that nothing is left to do."""
        self.check()
        places = Counter(Path(os.path.normpath(self.out / entry.place)) for entry in self.entries())
        assert {path: places[path] for path in self.images.iterdir()} == dict.fromkeys(self.images.iterdir(), 1)
        assert {outcome.status for outcome in self.work()} <= {"unchanged", FAILED}


@pytest.fixture
def bench(tmp_path, model, strict_model, write_image):
    return Bench(tmp_path, model, strict_model, write_image)


def states_of(bench: Bench, act: Callable[[], object]) -> list[State]:
    """All that a power cut during an action may leave in the output folder, in an order that is the same every time."""
    with recorded(bench.out) as states:
        act()
    for state in states:
        assert {name: content.data for name, content in state if name in THEIRS} == THEIRS
    return sorted(states, key=repr)


def check_each(bench: Bench, states: list[State], *restarts: Callable[[], object]) -> int:
    """Go on from each state with each of the restarts, and check what that leaves; returns how many were tried."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the power stays on now: a third of the time
    tried = 0
    images = bench.root / "images-kept"
    shutil.copytree(bench.images, images)
    for number, state in enumerate(states):
        for restart in restarts:
            shutil.rmtree(bench.out)
            materialise(state, bench.out)
            for path in bench.images.iterdir():
                path.unlink()
            shutil.copytree(images, bench.images, dirs_exist_ok=True)
            try:
                restart()
                bench.check_all_done()
            except BaseException as error:
                error.add_note(f"state {number}: {[(name, len(content.data)) for name, content in state]}")
                raise
            tried += 1
    monkeypatch.undo()
    return tried


def learn_of(bench: Bench, *works: Callable[[], object]) -> None:
    """Do some work in an output folder that is then removed, and take the results for right."""
    kept = bench.out
    for number, work in enumerate(works):
        bench.out = bench.root / f"learnt-{number}"
        bench.out.mkdir()
        work()
        bench.learn()
        shutil.rmtree(bench.out)
    bench.out = kept


def all_of(bench: Bench, **how):
    return lambda: bench.run("a.png", "b.png", extras=("geojson", "overlay", "coco"), **how)


def test_results_written_for_the_first_time(bench):
    learn_of(bench, all_of(bench))
    states = states_of(bench, lambda: bench.work(extras=EXTRAS))
    assert check_each(bench, states, bench.work, lambda: bench.work(extras=EXTRAS)) > 200


def test_an_image_that_changed_and_one_that_is_put_back(bench):
    learn_of(bench, all_of(bench))
    bench.work(extras=EXTRAS)
    bench.image("a.png", 7)
    learn_of(bench, all_of(bench))

    def put_back():
        bench.image("a.png", 1)
        bench.scan()

    assert check_each(bench, states_of(bench, bench.work), bench.work, put_back) > 200


def test_other_settings(bench):
    learn_of(bench, all_of(bench), all_of(bench, counting=LARGE))
    bench.work(extras=EXTRAS)
    states = states_of(bench, lambda: bench.run("a.png", counting=LARGE))
    restarts = (bench.scan, bench.work, lambda: bench.run("a.png"), lambda: bench.run("a.png", counting=LARGE))
    assert check_each(bench, states, *restarts) > 100


def test_a_renewed_model(bench):
    learn_of(bench, all_of(bench), all_of(bench, model=bench.strict_model))
    bench.work(extras=EXTRAS)
    states = states_of(bench, lambda: bench.run("a.png", model=bench.strict_model))
    assert check_each(bench, states, bench.work, lambda: bench.work(model=bench.strict_model)) > 100


@pytest.mark.parametrize("suffix", image_files.ALWAYS)
def test_a_result_file_that_was_deleted(bench, suffix):
    learn_of(bench, all_of(bench), all_of(bench, model=bench.strict_model))
    bench.work(extras=EXTRAS)
    (bench.out / f"a{suffix}").unlink()
    states = states_of(bench, lambda: bench.work(model=bench.strict_model))
    assert check_each(bench, states, bench.work) > 50


def test_an_image_that_fails_and_one_that_is_put_back(bench):
    learn_of(bench, all_of(bench))
    bench.work(extras=EXTRAS)
    (bench.images / "a.png").write_bytes(b"no image")
    os.utime(bench.images / "a.png", (1_700_000_100,) * 2)

    def put_back():
        bench.image("a.png", 1)
        bench.work(extras=EXTRAS)

    assert check_each(bench, states_of(bench, bench.work), bench.work, put_back) > 20


def test_an_image_that_was_renamed(bench):
    bench.work(extras=EXTRAS)
    (bench.images / "a.png").rename(bench.images / "field 1.png")
    learn_of(bench, lambda: bench.run("field 1.png", "b.png", extras=EXTRAS))
    assert check_each(bench, states_of(bench, bench.work), bench.work) > 50


@pytest.mark.parametrize("force", [False, True])
def test_an_export(bench, force):
    learn_of(bench, all_of(bench))
    bench.work(extras=("geojson",) if force else ())

    def changed():
        bench.image("a.png", 7)
        bench.work()
        bench.export("geojson", "coco")
        bench.work()

    kept = bench.images / "a.png"
    first = kept.read_bytes()
    bench.image("a.png", 7)
    learn_of(bench, all_of(bench))
    kept.write_bytes(first)
    os.utime(kept, (1_700_000_001,) * 2)

    def again():
        bench.export("geojson", "coco")
        bench.work()

    states = states_of(bench, lambda: bench.export("geojson", "coco", force=force))
    assert check_each(bench, states, changed, again) > 50


def test_a_rebuild(bench):
    learn_of(bench, all_of(bench))
    bench.work(extras=EXTRAS)

    def again():
        if (bench.out / FILE_NAME).exists():
            bench.rebuild()
        bench.work()

    states = states_of(bench, bench.rebuild)
    assert check_each(bench, states, bench.work, again) > 10


def test_a_rebuild_after_a_kill_in_the_middle_of_a_result(bench):
    """What the former ledger has in doubt, the new one does not take for done."""
    learn_of(bench, all_of(bench), all_of(bench, counting=LARGE))
    bench.work(extras=EXTRAS)

    def again():
        bench.rebuild()
        bench.work()

    states = states_of(bench, lambda: bench.run("a.png", counting=LARGE))
    assert check_each(bench, states, again) > 50


@pytest.mark.parametrize("more", [[{}], [LONG, {}], [{}, LONG], [LONG]])
def test_a_summary(bench, more):
    """Files of two summaries never lie beside each other, whichever of them each has."""

    def contents(number):
        return {
            "summary.csv": b"\xef\xbb\xbfgroup,images,flagged,cells,cells_in_frame\n(all),%d,0,9,8\n" % number,
            "summary-counts.png": b"\x89PNG Software\0cellseg-device %d" % number,
            "summary-sizes.png": b"\x89PNG Software\0cellseg-device %d" % number,
        } | more[number % len(more)]

    def written(number):
        save(bench.out, {name: files.holding(data) for name, data in contents(number).items()})

    def found():
        return {name: (bench.out / name).read_bytes() for name in SUMMARY_NAMES if (bench.out / name).exists()}

    written(1)
    states = states_of(bench, lambda: written(2))
    assert len(states) > 10
    for state in states:
        shutil.rmtree(bench.out)
        materialise(state, bench.out)
        assert found().items() <= contents(1).items() or found().items() <= contents(2).items(), state
        written(3)
        assert found() == contents(3)
