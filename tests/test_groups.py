"""Tests of one xdist_group are done by one process; with pytest 9.2, pytest-xdist 3.8 silently forgets the groups."""

from __future__ import annotations

import subprocess
import sys

GROUPED = """
import pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(6))
def test_of_a_group(number, worker_id):
    with open("workers.txt", "a") as file:
        file.write(f"{worker_id}\\n")
"""


def test_a_group_is_done_by_one_process(tmp_path):
    (tmp_path / "test_it.py").write_text(GROUPED)
    options = ["-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    command = [sys.executable, "-m", "pytest", *options, "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    workers = (tmp_path / "workers.txt").read_text().split()
    assert len(workers) == 6
    assert len(set(workers)) == 1
