"""Faults that pass and faults that stay, with the bundled model and a disk that is made to fail."""

import errno
import hashlib
import threading

import cv2
import numpy as np
import pytest

from cellseg_device.cells.counting import Counting
from cellseg_device.errors import TRIED_AGAIN, ImageError, InputError
from cellseg_device.image import decode as decoding
from cellseg_device.image import source as sources
from cellseg_device.image.sandbox import decode_here
from cellseg_device.image.source import source_at
from cellseg_device.pipeline import predict, segment
from cellseg_device.pipeline.models import Models
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_device.results import image_files
from cellseg_device.results.entry import DONE, FAILED
from cellseg_device.results.folder import Output
from cellseg_device.system import memory
from cellseg_device.units import Length
from cellseg_device.watching import scan, watch
from cellseg_device.watching.faults import ReadError
from cellseg_device.watching.outcome import UNCHANGED
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.worker import Worker


def source_of(path):
    return source_at(path, path.name)


def failing(times, error, function):
    """Make a function that raises `error` the first `times` times."""
    left = [times]

    def call(*arguments, **keywords):
        if left[0]:
            left[0] -= 1
            raise error
        return function(*arguments, **keywords)

    return call


IO_ERROR = OSError(errno.EIO, "Input/output error")
FULL = OSError(errno.ENOSPC, "No space left on device")


def test_an_image_is_done_and_its_writing_timed(work, tmp_path, write_image):
    stopwatch = Stopwatch()
    outcome = work.process(source_of(write_image(tmp_path / "a.png")), stopwatch)
    assert (outcome.image, outcome.status, outcome.labels) == ("a.png", DONE, "a.labels.tif")
    assert stopwatch.ms["write"] > 0
    entry = work.output.ledger.get("a.png")
    assert entry.counts.count == outcome.cells
    assert entry.model_sha256 == work.models.default.sha256
    assert len(entry.sha256) == 64


def test_a_depth_without_a_pixel_size_is_reported_once(work, worker_with, tmp_path, write_image, warnings):
    sources = [source_of(write_image(tmp_path / name)) for name in ("a.png", "b.png")]
    work.process(sources[0])
    assert warnings == []
    work = worker_with(counting=Counting(depth_mm=0.1))
    for source in sources:
        work.process(source)
    assert warnings == ["a.png has no pixel size, so --depth-mm gives no cells per mL: give --pixel-size-um, too"]


def test_a_depth_with_a_pixel_size_needs_no_word(worker_with, tmp_path, write_image, warnings):
    work = worker_with(counting=Counting(depth_mm=0.1, pixel_size_um=0.5))
    work.process(source_of(write_image(tmp_path / "a.png")))
    assert warnings == []


@pytest.mark.parametrize(
    ("where", "error", "raised"), [("source.read", IO_ERROR, ReadError), ("results.write", FULL, OSError)]
)
def test_a_fault_of_the_disk_is_raised_and_nothing_recorded(
    work, tmp_path, write_image, monkeypatch, where, error, raised
):
    source = source_of(write_image(tmp_path / "a.png"))
    module, name = where.split(".")
    module = {"source": sources, "results": image_files}[module]
    monkeypatch.setattr(module, name, failing(1, error, getattr(module, name)))
    with pytest.raises(raised, match=error.strerror):
        work.process(source)
    assert work.process(source).status == DONE


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("no memory")])
def test_an_image_too_large_for_the_memory_fails_with_advice(work, tmp_path, write_image, monkeypatch, error):
    if isinstance(error, cv2.error):
        error.code = cv2.Error.StsNoMem
    monkeypatch.setattr(decoding, "decode", failing(1, error, None))
    outcome = work.process(source_of(write_image(tmp_path / "a.png")))
    assert outcome.status == FAILED
    assert outcome.reason == "needs more memory than there is: crop or split it"


@pytest.mark.parametrize("step", ["finish", "write"])
def test_a_bug_costs_one_image_and_says_to_report_it(work, tmp_path, write_image, monkeypatch, step):
    module = segment if step == "finish" else image_files
    monkeypatch.setattr(module, step, failing(1, ValueError("no such\nnumber"), getattr(module, step)))
    source = source_of(write_image(tmp_path / "a.png"))
    outcome = work.process(source)
    assert outcome.status == FAILED
    assert outcome.reason == "makes cellseg fail (ValueError: no such number): report it with this image"
    assert work.output.ledger.get("a.png").reason == outcome.reason
    assert work.process(source).status == DONE


@pytest.mark.parametrize("reason", TRIED_AGAIN)
def test_a_failure_that_may_pass_is_tried_again(work, tmp_path, write_image, monkeypatch, reason):
    source = source_of(write_image(tmp_path / "a.png"))
    monkeypatch.setattr(sources, "read", failing(1, ImageError(reason), sources.read))
    assert work.process(source).reason == reason
    assert work.former(source, strict=False) is None
    assert work.process(source).status == DONE


@pytest.mark.parametrize("suffix", image_files.ALWAYS)
def test_an_image_whose_results_are_gone_is_done_again(work, tmp_path, write_image, suffix):
    source = source_of(write_image(tmp_path / "a.png"))
    work.process(source)
    assert work.former(source, strict=False).status == UNCHANGED
    (tmp_path / "out" / f"a{suffix}").unlink()
    assert work.former(source, strict=False) is None


@pytest.fixture(autouse=True)
def keeps(monkeypatch):
    """It depends on the tests before whether this process has much memory to return, and tries an image again."""
    monkeypatch.setattr(memory, "return_all", lambda: False)


@pytest.fixture
def steps(monkeypatch):
    """The steps of the pipeline as they begin: their names, and what they were called with."""
    seen = []

    def recorded(module, name):
        plain = getattr(module, name)

        def step(*arguments, **options):
            seen.append((name, arguments[0]))
            return plain(*arguments, **options)

        return step

    for module, name in ((decoding, "decode"), (predict, "predict_maps"), (segment, "finish")):
        monkeypatch.setattr(module, name, recorded(module, name))
    return seen


def test_the_next_image_is_begun_before_this_one_is_finished_and_once(work, tmp_path, write_image, steps):
    sources = [source_of(write_image(tmp_path / f"{n}.png", seed=n)) for n in range(3)]
    for source, following in zip(sources, [*sources[1:], None], strict=True):
        assert work.process(source, following=following).status == DONE
    decoded = [data for name, data in steps if name == "decode"]
    assert decoded == [s.path.read_bytes() for s in sources]
    order = [name for name, _ in steps if name != "predict_maps"]
    assert order == ["decode", "decode", "finish", "decode", "finish", "finish"]
    assert len(steps) == 9


def test_an_image_refused_ahead_of_its_turn_is_not_decoded_again(work, tmp_path, write_image, steps):
    sources = [source_of(write_image(tmp_path / f"{n}.png", seed=n)) for n in range(3)]
    sources[1].path.write_text("no image")
    sources[1] = source_of(sources[1].path)
    for source, following in zip(sources, [*sources[1:], None], strict=True):
        assert work.process(source, following=following).status == (FAILED if source == sources[1] else DONE)
    assert [name for name, _ in steps].count("decode") == 3
    assert work.process(sources[1]).status == FAILED  # but anew when it comes again
    assert [name for name, _ in steps].count("decode") == 4


def test_what_is_begun_ahead_is_used_under_the_name_that_it_has(work, worker_with, tmp_path, write_image):
    paths = [write_image(tmp_path / f"{name}.png", seed=seed) for seed, name in enumerate("ab")]
    for path in paths:
        work.process(source_at(path, path.name))
    read = []

    def decode(path, budget):
        read.append(path)
        return decode_here(path, budget)

    work = worker_with(counting=Counting(min_diameter=Length(3, "px")), decode=decode)
    assert [o.status for o in watch.run(paths, work, StopSignal())] == [DONE, DONE]
    assert read == paths


def test_labels_are_the_same_whether_begun_ahead_or_not(work, model, tmp_path, write_image):
    sources = [source_of(write_image(tmp_path / f"{n}.png", seed=n, count=12)) for n in range(4)]
    for source, following in zip(sources, [*sources[1:], None], strict=True):
        work.process(source, following=following)
    alone = Output(tmp_path / "alone", print)
    for source in sources:
        worker = Worker(Models(model), alone)
        worker.process(source)
        worker.close()
    alone.close()
    for source in sources:
        name = f"{source.path.stem}.labels.tif"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_what_was_begun_of_a_file_that_then_changed_is_not_used(work, tmp_path, write_image, steps):
    first = source_of(write_image(tmp_path / "a.png"))
    second = source_of(write_image(tmp_path / "b.png", seed=1))
    work.process(first, following=second)
    changed = source_of(write_image(tmp_path / "b.png", seed=2, mtime=1_700_000_009))
    work.process(changed)
    assert [data for name, data in steps if name == "decode"][-1] == changed.path.read_bytes()
    assert work.output.ledger.get("b.png").sha256 == hashlib.sha256(changed.path.read_bytes()).hexdigest()


def test_a_bad_image_begun_ahead_fails_in_its_own_turn(work, tmp_path, write_image):
    good = source_of(write_image(tmp_path / "a.png"))
    (tmp_path / "b.png").write_text("not an image")
    bad = source_of(tmp_path / "b.png")
    assert work.process(good, following=bad).status == DONE
    assert work.output.ledger.get("b.png") is None
    outcome = work.process(bad, following=good)
    assert outcome.status == FAILED
    assert "is not a PNG" in outcome.reason


def test_a_disk_that_fails_ahead_is_raised_in_the_image_s_own_turn(work, tmp_path, write_image, monkeypatch):
    first, second = (source_of(write_image(tmp_path / name)) for name in ("a.png", "b.png"))
    read = sources.read
    fails = failing(2, IO_ERROR, read)
    monkeypatch.setattr(sources, "read", lambda path: (read if path == first.path else fails)(path))
    assert work.process(first, following=second).status == DONE
    with pytest.raises(ReadError):
        work.process(second)


MB = 1_000_000
BEGUN_AHEAD = ["decode", "decode", "predict_maps", "predict_maps", "finish"]
ALONE = ["decode", "predict_maps", "finish"]


@pytest.mark.parametrize(("available", "expected"), [(9 * MB, ALONE), (30 * MB, BEGUN_AHEAD), (None, BEGUN_AHEAD)])
def test_the_next_image_is_begun_only_if_there_is_the_memory_for_both(
    work, tmp_path, write_image, monkeypatch, steps, available, expected
):
    """An image of this size needs 7 or 8 MB."""
    monkeypatch.setattr(memory, "available_bytes", lambda: available)
    first, second = (source_of(write_image(tmp_path / f"{n}.png", seed=n)) for n in range(2))
    assert work.process(first, following=second).status == DONE
    work.close()  # which waits for the network
    found = [name for name, _ in steps]
    if expected == ALONE:  # the next one was refused by its header
        found.remove("decode")
    assert sorted(found) == sorted(expected)


def test_an_image_that_lacks_memory_ahead_of_its_turn_is_done_in_it(work, tmp_path, write_image, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 9 * MB)
    sources = [source_of(write_image(tmp_path / f"{n}.png", seed=n)) for n in range(3)]
    for source, following in zip(sources, [*sources[1:], None], strict=True):
        assert work.process(source, following=following).status == DONE


def test_an_image_larger_than_the_memory_fails_with_the_numbers_and_is_tried_again(
    work, tmp_path, write_image, monkeypatch
):
    available = [20 * MB]
    monkeypatch.setattr(memory, "available_bytes", lambda: available[0])
    source = source_of(write_image(tmp_path / "a.png", np.zeros((1500, 1500, 3), np.uint8)))
    reason = work.process(source).reason
    assert reason == "needs more memory than there is (22 MB, and 20 MB are free): crop or split it"
    assert work.former(source, strict=False) is None
    assert work.output.ledger.known(work.settings) == []
    available[0] = 1000 * MB
    assert work.process(source).status == DONE


@pytest.mark.parametrize("is_freed", [False, True])
def test_what_the_process_keeps_for_the_next_image_is_returned_before_one_is_refused(
    work, tmp_path, write_image, monkeypatch, is_freed
):
    available = [MB]

    def return_all():
        available[0] = 100 * MB
        return is_freed

    monkeypatch.setattr(memory, "available_bytes", lambda: available[0])
    monkeypatch.setattr(memory, "return_all", return_all)
    assert work.process(source_of(write_image(tmp_path / "a.png"))).status == (DONE if is_freed else FAILED)


def test_a_name_that_the_file_system_refuses_fails_its_image(work, tmp_path, write_image, monkeypatch):
    monkeypatch.setattr(image_files, "write", failing(1, OSError(errno.EINVAL, "Invalid argument"), image_files.write))
    outcome = work.process(source_of(write_image(tmp_path / "10:30.png")))
    assert outcome.status == FAILED
    assert "rename it" in outcome.reason
    assert work.output.is_open


def test_an_image_that_is_gone_is_not_recorded(work, tmp_path, write_image):
    source = source_of(write_image(tmp_path / "a.png"))
    source.path.unlink()
    assert work.process(source).status == FAILED
    assert work.output.known == {}


def collect(generator, stop_signal, number):
    """Take outcomes of a watch until there are `number`, then stop it."""
    timer = threading.Timer(20, stop_signal.stop)
    timer.start()
    found = []
    for outcome in generator:
        found.append(outcome)
        if len(found) == number:
            stop_signal.stop()
    timer.cancel()
    return found


def test_a_watch_reads_again_what_could_not_be_read_and_does_the_others(
    work, tmp_path, write_image, monkeypatch, warnings
):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    monkeypatch.setattr(sources, "read", failing(1, IO_ERROR, sources.read))
    stop_signal = StopSignal()
    found = collect(watch.watch(tmp_path, work, watch.Timing(0.05, 0.05), stop_signal), stop_signal, 2)
    assert [(outcome.image, outcome.status) for outcome in found] == [("b.png", DONE), ("a.png", DONE)]
    assert warnings == ["a.png: cannot be read (Input/output error): trying again until it works"]


def test_a_watch_waits_twice_as_long_each_time_and_says_so_once(work, tmp_path, write_image, monkeypatch, warnings):
    write_image(tmp_path / "a.png")
    monkeypatch.setattr(image_files, "write", failing(4, FULL, image_files.write))
    stop_signal, slept = StopSignal(), []
    monkeypatch.setattr(stop_signal, "sleep", slept.append)
    found = collect(watch.watch(tmp_path, work, watch.Timing(0.05, 0.05), stop_signal), stop_signal, 1)
    assert [outcome.status for outcome in found] == [DONE]
    assert slept == [1, 2, 4, 8]
    out = work.output.folder
    assert warnings == [
        f"results cannot be written to {out} (No space left on device): trying again until it works",
        f"results can be written to {out} again",
    ]


def test_tables_are_brought_up_to_date_while_the_watched_folder_is_gone(
    work, tmp_path, write_image, monkeypatch, warnings
):
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in (1, 2):  # the second takes the place of the first, so a row of the table has to be replaced
        outcome = work.process(source_of(write_image(folder / "a.png", seed=seed)))
    assert work.output.refresh_in_s() == 0
    stop_signal = StopSignal()
    monkeypatch.setattr(scan.Scanner, "scan", failing(1, IO_ERROR, scan.Scanner.scan))
    monkeypatch.setattr(stop_signal, "sleep", lambda _seconds: stop_signal.stop())
    assert list(watch.watch(folder, work, watch.Timing(), stop_signal)) == []
    assert (work.output.folder / "counts.csv").read_text().splitlines()[1].startswith(f"a.png,{outcome.cells},")
    assert warnings == [f"{folder} is gone (Input/output error): trying again until it works"]


def test_tables_count_as_written_only_when_they_are(work, monkeypatch, warnings):
    answers = [FULL, False, True]

    def refresh_tables(**_options):
        answer = answers.pop(0)
        if answer is FULL:
            raise FULL
        return answer

    work.output.open()
    monkeypatch.setattr(work.output, "refresh_tables", refresh_tables)
    monkeypatch.setattr(watch.Backoff, "left_s", lambda _self: 0.0)
    batch, out = watch.Batch(work, StopSignal()), work.output.folder
    fault = f"the tables in {out} cannot be written (No space left on device): trying again until it works"
    for said in ([fault], [fault], [fault, f"the tables in {out} are written"]):
        batch.tidy(is_idle=True)
        assert warnings == said
    monkeypatch.undo()


def test_run_and_once_report_a_fault_and_go_on(work, tmp_path, write_image, monkeypatch):
    paths = [write_image(tmp_path / name) for name in ("a.png", "b.png")]
    for look in (
        lambda stop_signal: watch.once(tmp_path, work, watch.Timing(), stop_signal),
        lambda stop_signal: watch.run(paths, work, stop_signal),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(image_files, "write", failing(1, FULL, image_files.write))
            first, second = look(StopSignal())
        assert (first.status, second.status) == (FAILED, DONE)
        assert "cannot be written (No space left on device): make room" in first.reason
        work.output.close()
        for path in work.output.folder.iterdir():
            path.unlink()
    assert first.image == str(paths[0])


def test_once_says_when_the_folder_goes_away(work, tmp_path, write_image, monkeypatch):
    write_image(tmp_path / "a.png")
    monkeypatch.setattr(scan.Scanner, "scan", failing(1, IO_ERROR, scan.Scanner.scan))
    with pytest.raises(InputError, match="went away"):
        list(watch.once(tmp_path, work, watch.Timing(), StopSignal()))


def test_once_survives_a_ledger_that_cannot_be_read_for_a_moment(work, tmp_path, write_image, monkeypatch):
    write_image(tmp_path / "a.png")
    monkeypatch.setattr(work, "former", failing(1, IO_ERROR, work.former))
    (outcome,) = watch.once(tmp_path, work, watch.Timing(), StopSignal())
    assert outcome.status == DONE


def test_a_stop_ends_run_and_once_after_the_image_in_hand(work, tmp_path, write_image):
    paths = [write_image(tmp_path / name) for name in ("a.png", "b.png")]
    (tmp_path / "other").mkdir()
    others = [write_image(tmp_path / "other" / name) for name in ("c.png", "d.png")]
    stop_signal = StopSignal()
    assert len(collect(watch.run(others, work, stop_signal), stop_signal, 1)) == 1
    stop_signal = StopSignal()
    outcomes = collect(watch.once(tmp_path, work, watch.Timing(), stop_signal), stop_signal, 1)
    assert [outcome.image for outcome in outcomes] == ["a.png"]
    assert all(path.exists() for path in paths)
