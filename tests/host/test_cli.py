"""What no command says in a traceback, whichever of them meets it."""

import errno
import os

import pytest
from click.testing import CliRunner

from cellseg_host.cli import main
from cellseg_host.training import train


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "{model}", "{data}"],
        ["compare", "{model}", "--data", "{data}"],
        ["train", "{data}"],
        ["quantize", "{run}", "--data", "{data}"],
        ["average", "{run}"],
    ],
)
def test_an_out_that_cannot_be_made_is_said_before_the_work(tiny_dataset, model_path, tmp_path, command):
    (tmp_path / "file").touch()
    places = {"model": model_path, "data": tiny_dataset.root, "run": tmp_path / "none"}
    words = [word.format(**places) for word in command]
    done = CliRunner().invoke(main, [*words, "--out", f"{tmp_path}/file/below/x"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert f", since {tmp_path}/file is a file: choose another place\n" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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
    (line,) = done.stderr.splitlines()
    assert line.lower().startswith(("error: x: no space left", "error: no space is left"))


def test_a_fault_that_is_ours_is_not_hidden(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *arguments, **keywords: 1 / 0)
    done = CliRunner().invoke(main, ["train", str(tiny_dataset.root), "--out", str(tmp_path / "run")])
    assert isinstance(done.exception, ZeroDivisionError)
