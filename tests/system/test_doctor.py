"""``cellseg-device doctor`` as a user runs it."""

import json
import shutil
import subprocess
import sys

import pytest

NAMES = (
    "python",
    "runtime",
    "processor",
    "model",
    "gate",
    "camera",
    "edge tpu",
    "rights",
    "disk",
    "writing",
    "temperature",
    "power",
    "clock",
    "service",
)


def test_every_finding_is_reported_with_what_to_do(device, tmp_path):
    report = json.loads(device("doctor", "--json", "--out", tmp_path).stdout)
    findings = {finding["name"]: finding for finding in report["findings"]}
    assert tuple(findings) == NAMES
    for finding in findings.values():
        assert set(finding) == {"name", "state", "text", "fix"}
        assert finding["state"] in ("ok", "warning", "problem", "absent")
        assert finding["fix"] or finding["state"] in ("ok", "absent")
    for name in ("python", "runtime", "processor", "model", "gate", "writing"):
        assert findings[name]["state"] == "ok", findings[name]
    assert "every pixel as expected" in findings["model"]["text"]
    assert not list(tmp_path.iterdir())


def test_the_exit_code_says_whether_there_is_a_problem(device, tmp_path):
    report = json.loads(device("doctor", "--json", "--out", tmp_path).stdout)
    assert report["problems"] == sum(finding["state"] == "problem" for finding in report["findings"])
    done = device("doctor", "--out", tmp_path)
    assert done.returncode == (1 if report["problems"] else 0)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].endswith(f"{report['problems']} to fix")


def test_a_problem_and_its_fix(device, tmp_path):
    (tmp_path / "broken.tflite").write_bytes(b"nothing")
    done = device("doctor", "--out", tmp_path, "--model", tmp_path / "broken.tflite")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("problem  model")]
    assert lines[at + 1].strip().startswith("-> ")
    assert device("doctor", "--out", "/proc").returncode == 1  # not even root may write there


def test_a_file_is_no_folder(device, tmp_path):
    (tmp_path / "file").write_text("")
    done = device("doctor", "--out", tmp_path / "file")
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {tmp_path / 'file'} is not a folder: choose another --out\n",
    )


@pytest.mark.skipif(shutil.which("unshare") is None, reason="makes a system without /proc with unshare")
def test_a_system_without_proc_and_sys(environment, tmp_path):
    """A bare chroot, where the runtime silently falls back to slow kernels."""
    script = 'mount -t tmpfs x /sys && mount -t tmpfs x /proc && cd / && exec "$@"'
    hide = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    command = [*hide, sys.executable, "-m", "cellseg_device", "doctor", "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr or "denied" in done.stderr or "permitted" in done.stderr:
        pytest.skip(f"cannot hide /proc here: {done.stderr.strip()}")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert findings["processor"]["state"] == "problem"
    assert "mount /proc and /sys" in findings["processor"]["fix"]
