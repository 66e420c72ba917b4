"""What no command says in a traceback, whichever of them meets it."""

import errno
import os

import pytest
from click.testing import CliRunner

from cellseg_host import train
from cellseg_host.cli import main


def test_an_out_that_cannot_be_made_is_said_in_a_line(tiny_dataset, model_path, tmp_path):
    (tmp_path / "file").touch()
    command = ["evaluate", str(model_path), str(tiny_dataset.root), "--out", str(tmp_path / "file" / "below")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert f"error: {tmp_path}/file/below: Not a directory: check the path and the disk" in done.output


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"), RuntimeError("x.tmp; No space left on device")]
)
def test_a_full_disk_in_a_training_is_said_in_a_line(tiny_dataset, tmp_path, monkeypatch, error):
    def full(*arguments, **keywords):
        raise error
        yield

    monkeypatch.setattr(train, "train", full)
    done = CliRunner().invoke(main, ["train", str(tiny_dataset.root), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    assert done.output.lower().startswith(("error: x: no space left", "error: no space is left"))


def test_a_fault_that_is_ours_is_not_hidden(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *arguments, **keywords: 1 / 0)
    done = CliRunner().invoke(main, ["train", str(tiny_dataset.root), "--out", str(tmp_path / "run")])
    assert isinstance(done.exception, ZeroDivisionError)
