"""A folder is whole or absent, whatever stops the command that makes it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device.errors import InputError, OutputError
from cellseg_host.data.whole_folder import check_place, whole_folder


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fail_in(out):
    """Make half of a folder."""

    def fill():
        with whole_folder(out) as folder:
            (folder / "images").mkdir()
            (folder / "manifest.csv").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fill()


def test_the_folder_is_there_once_all_is_in_it(tmp_path):
    out = tmp_path / "a" / "b" / "out"
    with whole_folder(out) as folder:
        (folder / "manifest.csv").touch()
        assert not out.exists()
    assert names(tmp_path) == ["a", "a/b", "a/b/out", "a/b/out/manifest.csv"]
    mask = out.stat().st_mode
    (tmp_path / "plain").mkdir()
    assert mask == (tmp_path / "plain").stat().st_mode


def test_an_error_leaves_nothing(tmp_path):
    fail_in(tmp_path / "a" / "out")
    assert names(tmp_path) == []


def test_an_empty_folder_that_is_there_is_filled_and_stays_the_same(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    before = (tmp_path / "real").stat().st_ino
    fail_in(tmp_path / "link")
    assert names(tmp_path / "real") == []
    with whole_folder(tmp_path / "link") as folder:
        (folder / "images").mkdir()
        (folder / "manifest.csv").touch()
    assert names(tmp_path / "real") == ["images", "manifest.csv"]
    assert (tmp_path / "real").stat().st_ino == before


@pytest.mark.parametrize("made", ["a folder", "a file"])
def test_what_is_there_is_not_touched(tmp_path, made):
    if made == "a folder":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "kept").touch()
    else:
        (tmp_path / "out").touch()
    before = names(tmp_path)
    words = "is not empty: choose a new folder" if made == "a folder" else "is a file: choose a new folder"
    with pytest.raises(InputError, match=words), whole_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == before


@pytest.mark.parametrize("is_there", [False, True])
def test_a_kill_leaves_what_the_next_attempt_removes(tmp_path, environment, is_there):
    out = tmp_path / "out"
    if is_there:
        out.mkdir()
    code = (
        "import pathlib, sys; from cellseg_host.data.whole_folder import whole_folder\n"
        "with whole_folder(pathlib.Path('out')) as folder:\n"
        "    (folder / 'manifest.csv').touch(); print('made', flush=True); sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, **pipes) as maker:
        assert maker.stdout.readline() == b"made\n"
        with pytest.raises(OutputError, match="is being made by another process"), whole_folder(out):
            pass
        maker.send_signal(signal.SIGKILL)
    assert not (out / "manifest.csv").exists()
    with whole_folder(out) as folder:
        assert names(folder) == []
        (folder / "rejected.csv").touch()
    assert names(tmp_path) == ["out", "out/rejected.csv"]


def test_a_place_is_looked_at_before_anything_is_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/a/b: cannot be made, since .*/file is a file: choose another place"):
        check_place(tmp_path / "file" / "a" / "b")
    check_place(tmp_path / "a" / "b")
    assert names(tmp_path) == ["file"]


def test_a_place_that_cannot_be_written_is_said():
    with pytest.raises(OutputError, match=r"/proc/out: cannot be made \("), whole_folder(Path("/proc/out")):
        pass
