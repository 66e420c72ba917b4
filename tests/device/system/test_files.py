import os
import subprocess
import sys

import pytest

from cellseg_device.system import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_leaves_the_file_and_nothing_else(tmp_path):
    files.write(tmp_path / "a.csv", b"one")
    files.write(tmp_path / "a.csv", b"two")
    assert (tmp_path / "a.csv").read_bytes() == b"two"
    assert names(tmp_path) == ["a.csv"]


def test_files_that_belong_together_are_all_new_or_all_old(tmp_path):
    files.write(tmp_path / "a.csv", b"old a")
    files.write(tmp_path / "b.csv", b"old b")

    def fail(file):
        file.write(b"hal")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        files.write_all(tmp_path, {"a.csv": lambda file: file.write(b"new a"), "b.csv": fail})
    assert [(tmp_path / name).read_bytes() for name in ("a.csv", "b.csv")] == [b"old a", b"old b"]
    assert names(tmp_path) == ["a.csv", "b.csv"]


def test_names_appear_only_when_all_files_are_whole(tmp_path):
    def look(file):
        file.write(b"x" * 100_000)
        assert all(name.startswith(".") for name in names(tmp_path))

    files.write_all(tmp_path, {"a.csv": look, "b.csv": look})
    assert names(tmp_path) == ["a.csv", "b.csv"]
    assert (tmp_path / "a.csv").stat().st_size == 100_000


def test_the_longest_file_name_can_be_written(tmp_path):
    files.write(tmp_path / ("n" * 255), b"")
    assert (tmp_path / ("n" * 255)).exists()


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    for name in (".cellseg-123-0.tmp", ".cellseg-4-1.tmp", ".cellseg-x.tmp", "cellseg-5-0.tmp", ".cellseg.lock"):
        (tmp_path / name).touch()
    assert files.remove_leftovers(tmp_path) == 2
    assert names(tmp_path) == [".cellseg-x.tmp", ".cellseg.lock", "cellseg-5-0.tmp"]


def test_append_makes_and_extends(tmp_path):
    files.append(tmp_path / "a.csv", b"1\n")
    files.append(tmp_path / "a.csv", b"2\n")
    assert (tmp_path / "a.csv").read_bytes() == b"1\n2\n"


def test_a_part_of_an_append_is_taken_back(tmp_path, monkeypatch):
    files.append(tmp_path / "a.csv", b"1\n")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:1]))
    with pytest.raises(OSError, match="No space"):
        files.append(tmp_path / "a.csv", b"22\n")
    assert (tmp_path / "a.csv").read_bytes() == b"1\n"


def test_write_locks_are_held_one_after_the_other(tmp_path):
    code = """
import sys, pathlib
from cellseg_device.system import files
folder = pathlib.Path(sys.argv[1])
for _ in range(200):
    with files.write_lock(folder):
        number = int((folder / "n").read_text())
        (folder / "n").write_text(str(number + 1))
"""
    (tmp_path / "n").write_text("0")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [subprocess.Popen([sys.executable, "-c", code, tmp_path], env=environment) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "n").read_text() == "600"


def test_a_write_lock_ends_with_its_process(tmp_path):
    code = """
import os, sys, pathlib
from cellseg_device.system import files
lock = files.write_lock(pathlib.Path(sys.argv[1]))
lock.__enter__()
print("held", flush=True)
os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("held\n", -9)
    with files.write_lock(tmp_path):
        pass
