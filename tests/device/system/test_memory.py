"""How much memory is left: the least of what the machine, the process's own limits and its control groups leave."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device.system import memory

MB = 1_000_000
PAGE = resource.getpagesize()
NO_LIMIT_IN_V1 = 0x7FFFFFFFFFFFF000

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="not applicable: there is no /proc")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of our own: write files of /proc, and of control groups whose root is mounted at ``groups``."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    memory._groups.cache_clear()

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if isinstance(text, str) else f"{text}\n")

    write("proc/meminfo", f"MemTotal: 8000000 kB\nMemFree: 5 kB\nMemAvailable:  {4000 * MB // 1000} kB\n")
    yield write
    memory._groups.cache_clear()


def in_kb(number):
    return number // 1000 * 1024


def mounted(machine, tmp_path, line, kind="cgroup2 cgroup2 rw", root="/"):
    mounts = f"21 1 0:20 / / rw,relatime - ext4 /dev/sda rw\n30 21 0:26 {root} {tmp_path}/groups rw shared:4 - {kind}\n"
    machine("proc/self/mountinfo", mounts)
    machine("proc/self/cgroup", line)


def group(machine, name, limit, taken, file=0, **more):
    machine(f"groups/{name}/memory.max", limit)
    machine(f"groups/{name}/memory.current", taken)
    machine(f"groups/{name}/memory.stat", f"anon 5\nfile 6\nactive_file 7\ninactive_file {file}\n")
    for key, value in more.items():
        machine(f"groups/{name}/memory.{key}", value)


def test_without_groups_it_is_what_the_machine_has(machine):
    assert memory.available_bytes() == in_kb(4000 * MB)


def test_without_proc_it_is_not_known(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    assert memory.available_bytes() is None
    before = resource.getrlimit(resource.RLIMIT_AS)
    memory.limit_to_available(os.getpid(), MB)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"limit": 600 * MB, "taken": 250 * MB}, 350 * MB),
        ({"limit": 600 * MB, "taken": 250 * MB, "file": 40 * MB}, 390 * MB),
        ({"limit": "max", "taken": 250 * MB, "high": 300 * MB}, 50 * MB),
        ({"limit": 600 * MB, "taken": 250 * MB, "high": 700 * MB}, 350 * MB),
        ({"limit": "max", "taken": 250 * MB, "high": "max"}, None),
        ({"limit": 9000 * MB, "taken": 250 * MB}, None),
        ({"limit": 600 * MB, "taken": 700 * MB}, 0),
    ],
)
def test_a_group_of_version_2_leaves_its_limit_less_what_it_cannot_give_back(machine, tmp_path, limits, left):
    mounted(machine, tmp_path, "0::/a.slice/b.service\n")
    group(machine, "a.slice/b.service", **limits)
    assert memory.available_bytes() == (in_kb(4000 * MB) if left is None else left)


@pytest.mark.parametrize(("outer", "left"), [(1000 * MB, 100 * MB), (2000 * MB, 350 * MB)])
def test_groups_above_count_too(machine, tmp_path, outer, left):
    mounted(machine, tmp_path, "0::/a.slice/b.service\n")
    group(machine, "a.slice/b.service", 600 * MB, 250 * MB)
    group(machine, "a.slice", outer, 900 * MB)
    assert memory.available_bytes() == left


def test_a_container_sees_its_own_group_at_the_top(machine, tmp_path):
    mounted(machine, tmp_path, "0::/\n")
    group(machine, ".", 600 * MB, 250 * MB)
    assert memory.available_bytes() == 350 * MB


@pytest.mark.parametrize("path", ["/docker/c0ffee/inner", "/docker/c0ffee", "/elsewhere"])
def test_a_container_may_know_its_group_by_the_name_that_the_machine_gives_it(machine, tmp_path, path):
    mounted(machine, tmp_path, f"0::{path}\n", root="/docker/c0ffee")
    group(machine, ".", 600 * MB, 250 * MB)
    assert memory.available_bytes() == 350 * MB


@pytest.mark.parametrize(("limit", "left"), [(600 * MB, 390 * MB), (NO_LIMIT_IN_V1, None)])
def test_a_group_of_version_1_does_too(machine, tmp_path, limit, left):
    lines = "9:name=systemd:/x\n4:cpu,memory:/a\n0::/x\n"
    mounted(machine, tmp_path, lines, kind="cgroup cgroup rw,cpu,memory")
    machine("groups/a/memory.limit_in_bytes", limit)
    machine("groups/a/memory.usage_in_bytes", 250 * MB)
    machine("groups/a/memory.stat", f"inactive_file 5\ntotal_inactive_file {40 * MB}\n")
    assert memory.available_bytes() == (in_kb(4000 * MB) if left is None else left)


def test_names_of_mount_points_may_hold_spaces(machine, tmp_path):
    machine("proc/self/mountinfo", f"30 21 0:26 / {tmp_path}/my\\040groups rw - cgroup2 cgroup2 rw\n")
    machine("proc/self/cgroup", "0::/a\n")
    machine("my groups/a/memory.max", 600 * MB)
    machine("my groups/a/memory.current", 250 * MB)
    assert memory.available_bytes() == 350 * MB


@pytest.mark.parametrize(("kind", "taken_pages"), [(resource.RLIMIT_AS, 30_000), (resource.RLIMIT_DATA, 10_000)])
def test_limits_of_the_process_itself_count(machine, monkeypatch, kind, taken_pages):
    machine("proc/self/statm", "30000 20000 500 1 0 10000 0\n")
    plain = resource.getrlimit
    monkeypatch.setattr(resource, "getrlimit", lambda k: (900 * MB, -1) if k == kind else plain(k))
    assert memory.available_bytes() == 900 * MB - taken_pages * PAGE


def python(code, limits=""):
    command = f"{limits} exec {sys.executable} -c '{code}'"
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)


LIMITED = """
import os, resource
from cellseg_device.system import memory
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
for _ in range(3):
    memory.limit_to_available(os.getpid(), 100_000_000)
    held = bytearray(60_000_000)
    try:
        more = bytearray(60_000_000)
    except MemoryError:
        print("refused")
    del held
    assert resource.getrlimit(resource.RLIMIT_AS)[1] == hard
memory.limit_to_available(os.getpid(), 300_000_000)
assert bytearray(200_000_000)
"""


@needs_proc
@pytest.mark.parametrize("limits", ["", "ulimit -v 4000000;", "ulimit -S -v 4000000;"])
def test_a_process_may_take_no_more_than_it_is_given_now(environment, monkeypatch, limits):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    done = python(LIMITED, limits)
    assert (done.stdout.split(), done.stderr) == (["refused"] * 3, "")


@needs_proc
@pytest.mark.parametrize("limit", ["-v", "-d"])
def test_a_limit_of_the_shell_is_what_is_left(environment, monkeypatch, limit):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    code = "from cellseg_device.system import memory; print(memory.available_bytes())"
    done = python(code, f"ulimit {limit} 500000;")
    assert 300 * MB < int(done.stdout) < 512 * MB


@needs_proc
def test_what_is_freed_can_be_returned(environment, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    code = """
import re
from cellseg_device.system import memory

def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

import resource
blocks = [bytearray(100_000) for _ in range(1000)]
last = bytearray(100_000)
before = held()
del blocks
print(memory.return_all(), memory.return_all(), before - held())
"""
    first, second, returned_mb = python(code.replace("'", '"')).stdout.split()
    assert (first, second, float(returned_mb) > 80) == ("True", "False", True)
