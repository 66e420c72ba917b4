"""A model's file that changes under a worker."""

import dataclasses
import os
import shutil
import time

import pytest

from cellseg_device.model import card
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline.models import Models
from cellseg_device.pipeline.renewal import Renewal
from cellseg_device.results.folder import Output
from cellseg_device.watching import watch
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.worker import Worker


@pytest.fixture
def file(tmp_path, model_path):
    path = tmp_path / "model.tflite"
    shutil.copyfile(model_path, path)
    return path


def other(model_path, name="other"):
    data = model_path.read_bytes()
    return card.attach(data, dataclasses.replace(card.read_from(data), name=name))


def replace(path, data, seconds=0):
    """As a careful copy does it: whole, by a rename; its time is some seconds from a fixed one."""
    temporary = path.with_name("new")
    temporary.write_bytes(data)
    os.utime(temporary, (1_700_000_000 + seconds,) * 2)
    temporary.replace(path)


@pytest.fixture
def renewal(file, warnings):
    return Renewal(Models(Model(file)), lambda: Models(Model(file)), warnings.append)


def test_a_file_that_stays_is_not_loaded_again(renewal, file, warnings):
    assert renewal.due() is None
    os.utime(file, (5, 5))
    assert renewal.due() is None
    file.unlink()
    assert renewal.due() is None
    assert warnings == []


def test_a_new_model_is_taken_up_when_it_has_settled(renewal, file, model_path, warnings):
    file.write_bytes(other(model_path))
    assert renewal.due() is None  # a moment old: it may still be written
    os.utime(file, (1_700_000_000, 1_700_000_000))
    model = renewal.due().default
    assert model.card.name == "other"
    assert renewal.due() is None
    (line,) = warnings
    assert line == f"{file} was replaced: counting goes on with it (other, {model.sha256[:12]})"


@pytest.mark.parametrize("damage", [lambda data: b"no model", lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_file_that_is_no_model_is_reported_once_and_the_old_one_stays(renewal, file, model_path, warnings, damage):
    replace(file, damage(other(model_path)))
    assert renewal.due() is None
    assert renewal.due() is None
    (line,) = warnings
    assert line.startswith(str(file))
    assert line.endswith(": counting goes on with the model as it was")
    replace(file, other(model_path), seconds=1)
    assert renewal.due().default.card.name == "other"


def test_a_file_replaced_while_it_was_first_loaded_is_noticed(file, model_path, warnings):
    model = Model(file)
    replace(file, other(model_path))
    assert Renewal(Models(model), lambda: Models(Model(file)), warnings.append).due().default.card.name == "other"


def test_a_file_that_is_gone_is_reported_once_it_stays_so_and_may_come_back(file, model_path, warnings):
    renewal = Renewal(Models(Model(file)), lambda: Models(Model(file)), warnings.append, settle_s=0.1)
    kept = file.with_name("kept")
    file.rename(kept)
    assert renewal.due() is None
    assert warnings == []  # a moment only: it may be being replaced
    time.sleep(0.2)
    assert renewal.due() is None
    assert renewal.due() is None
    assert warnings == [f"{file} is gone, or cannot be looked at: counting goes on with the model as it was"]
    kept.rename(file)
    assert renewal.due() is None
    assert len(warnings) == 1
    replace(file, other(model_path))
    assert renewal.due().default.card.name == "other"


def test_a_file_that_is_replaced_while_it_is_loaded_is_loaded_again(file, model_path, warnings):
    def loading():
        replace(file, other(model_path, "second"), seconds=2)
        return first

    replace(file, other(model_path, "first"), seconds=1)
    first = Models(Model(file))
    loads = iter([loading, lambda: Models(Model(file))])
    shutil.copyfile(model_path, file)
    renewal = Renewal(Models(Model(file)), lambda: next(loads)(), warnings.append)
    replace(file, other(model_path, "first"), seconds=1)
    assert renewal.due().default.card.name == "first"
    assert renewal.due().default.card.name == "second"
    assert renewal.due() is None


@pytest.mark.parametrize("target", ["/dev/zero", "/proc/kmsg", "folder", "fifo"])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_at_once(file, tmp_path, warnings, target):
    renewal = Renewal(Models(Model(file)), lambda: Models(Model(file)), warnings.append, settle_s=0)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    file.unlink()
    file.symlink_to(target)
    for _ in range(3):
        assert renewal.due() is None
    (line,) = warnings
    assert line.startswith(f"{file}")
    assert line.endswith(": counting goes on with the model as it was")
    assert Renewal(renewal._models, lambda: Models(Model(file)), warnings.append, settle_s=0).due() is None


def test_rows_carry_the_model_they_were_made_with_and_nothing_begun_is_mixed(
    file, model_path, tmp_path, write_image, warnings
):
    output = Output(tmp_path / "out", warnings.append)
    model = Model(file)
    worker = Worker(Models(model), output, renewal=Renewal(Models(model), lambda: Models(Model(file)), warnings.append))
    first = worker.models.default.sha256
    paths = [write_image(tmp_path / f"{number}.png", seed=number) for number in range(4)]
    for number, outcome in enumerate(watch.run(paths, worker, StopSignal())):
        assert outcome.status == "done"
        if number == 1:  # the third image has been begun by now
            replace(file, other(model_path))
    entries = [output.ledger.get(path.name) for path in paths]
    second = worker.models.default.sha256
    assert first != second
    assert [entry.model for entry in entries] == ["nuclei", "nuclei", "other", "other"]
    assert [entry.model_sha256 for entry in entries] == [first, first, second, second]
    worker.close()
    output.close()
