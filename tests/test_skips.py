"""What is skipped for want of a program is a failure in CI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Without the short summary (-rN): it repeats the messages, whole in CI and cut short elsewhere.
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rN"]

SKIPS = """
import pytest

def test_skipped_in_its_body():
    pytest.skip("there is no strace")

@pytest.mark.skipif(True, reason="there is no strace")
def test_skipped_by_a_mark():
    pass

@pytest.fixture
def strace():
    pytest.skip("there is no strace")

def test_skipped_by_a_fixture(strace):
    pass

@pytest.mark.skipif(True, reason="not applicable: a wheel for another Python")
def test_that_does_not_apply():
    pass

@pytest.mark.xfail
def test_expected_to_fail():
    assert False
"""


@pytest.fixture
def run(tmp_path):
    """Run tests of this text below our conftest, in CI or not: the number of each outcome, and what was printed."""

    def run(text, ci):
        shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
        (tmp_path / "test_it.py").write_text(text)
        command = [*PYTEST, f"--rootdir={tmp_path}", str(tmp_path)]
        variables = {**os.environ, "CELLSEG_CI": ci}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100, check=False)
        *_, summary = done.stdout.splitlines()
        return {name: int(n) for n, name in re.findall(r"(\d+) ([a-z]+)", summary)}, done.stdout

    return run


def test_a_skip_is_a_failure_in_ci_unless_it_says_that_it_does_not_apply(run):
    outcomes, _ = run(SKIPS, ci="")
    assert outcomes == {"skipped": 4, "xfailed": 1}
    outcomes, said = run(SKIPS, ci="1")
    assert outcomes == {"failed": 1, "errors": 2, "skipped": 1, "xfailed": 1}
    assert said.count("skipped, which CI counts as a failure: there is no strace\n") == 3


def test_a_file_that_is_skipped_is_a_failure_in_ci(run):
    text = 'import pytest\npytest.importorskip("no_such_module")\n'
    assert run(text, ci="")[0] == {"skipped": 1}
    outcomes, said = run(text, ci="1")
    assert outcomes == {"error": 1}
    assert "skipped, which CI counts as a failure: could not import 'no_such_module'" in said
