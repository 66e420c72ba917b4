"""``cellseg-device install-service`` as a user runs it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device.graph import _EDGETPU_MARK


@pytest.fixture
def install(device, tmp_path):
    """Write a unit into a folder of the test, with these arguments."""
    units = tmp_path / "units"
    units.mkdir()

    def run(*arguments):
        return device("install-service", "--unit-folder", units, *arguments)

    return run


@pytest.fixture
def captures(tmp_path):
    folder = tmp_path / 'cap tures 100% "é" $HOME'
    folder.mkdir()
    return folder


def test_the_unit_is_written_and_what_to_run_is_said(install, captures, tmp_path):
    done = install("--watch", captures, "--", "--overlay", "--threads", "3")
    assert done.returncode == 0, done.stderr
    unit = tmp_path / "units" / "cellseg-watch.service"
    text = unit.read_text()
    assert f"ExecStart={sys.executable} -m cellseg_device watch " in text
    assert text.count('cap tures 100%% \\"é\\" $$HOME') == 2  # folder and output
    assert text.count('"/') == 3
    assert "--overlay --threads 3 --keep-free 1GB\n" in text
    assert unit.stat().st_mode & 0o777 == 0o644
    first, *steps = done.stdout.splitlines()
    assert first.startswith(f"wrote {unit}: runs as ")
    assert "  sudo systemctl enable --now cellseg-watch.service" in steps
    assert any(step.startswith("  sudo install -d -o ") for step in steps)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_is_content_with_it(install, captures, tmp_path):
    assert install("--watch", captures, "--out", captures, "--name", "a.b-c_1", "--", "--poll", "5s").returncode == 0
    unit = tmp_path / "units" / "cellseg-a.b-c_1.service"
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_print_writes_nothing(install, captures, tmp_path):
    done = install("--watch", captures, "--print")
    assert done.returncode == 0
    assert done.stdout.startswith("# Written by cellseg-device install-service")
    assert done.stdout.endswith("WantedBy=multi-user.target\n")
    assert "systemctl daemon-reload" in done.stderr
    assert not list((tmp_path / "units").iterdir())


def test_relative_paths_become_whole_ones(device, tmp_path):
    (tmp_path / "captures").mkdir()
    done = device("install-service", "--watch", "captures", "--out", "results/new", "--print", cwd=tmp_path)
    assert f" watch {tmp_path}/captures --out {tmp_path}/results/new --keep-free 1GB\n" in done.stdout
    assert f"ReadWritePaths={tmp_path}/results/new\n" in done.stdout


@pytest.mark.parametrize("where", ["flag", "file"])
def test_room_to_keep_free_may_be_chosen(device, tmp_path, where):
    (tmp_path / "a.toml").write_text('keep-free = "5GB"\n')
    chosen = ["--config", tmp_path / "a.toml"] if where == "file" else ["--keep-free", "5GB"]
    done = device("install-service", "--camera", "usb:0", "--out", tmp_path, "--print", "--", *chosen)
    assert done.returncode == 0, done.stderr
    assert "1GB" not in done.stdout
    assert ("--keep-free 5GB" in done.stdout) is (where == "flag")


@pytest.mark.parametrize(
    ("arguments", "is_let_in"),
    [
        ([], False),
        (["--accelerator", "auto"], False),
        (["--accelerator", "edgetpu"], True),
        (["--model", "{}/a.tflite"], False),
        (["--model", "{}/b.tflite"], True),
        (["--model", "{}/b_edgetpu.tflite"], True),
        (["--model", "{}/b.tflite", "--accelerator", "cpu"], False),
    ],
)
def test_an_edge_tpu_is_let_in_where_it_may_be_used(device, model_path, tmp_path, arguments, is_let_in):
    for name in ("a", "b"):
        shutil.copyfile(model_path, tmp_path / f"{name}.tflite")
    (tmp_path / "b_edgetpu.tflite").write_bytes(_EDGETPU_MARK.join([b"\0\0\0\0TFL3", b""]))
    chosen = [argument.replace("{}", str(tmp_path)) for argument in arguments]
    done = device("install-service", "--watch", tmp_path, "--print", "--", *chosen)
    assert done.returncode == 0, done.stderr
    assert ("DeviceAllow=char-apex" in done.stdout) is is_let_in
    assert all(argument in done.stdout for argument in chosen)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_it_runs_as_the_owner_of_the_results(install, captures, tmp_path):
    shutil.chown(captures, "nobody")
    done = install("--watch", captures, "--print")
    assert "User=nobody\n" in done.stdout
    assert "useradd" not in done.stderr
    assert "sudo install -d -o nobody" in done.stderr
    done = install("--watch", captures, "--out", tmp_path / "out", "--print")  # of root's folder
    assert "User=cellseg\n" in done.stdout
    done = install("--watch", captures, "--out", captures, "--user", "daemon", "--print")
    assert "User=daemon\n" in done.stdout
    assert "sudo chown -R daemon: " in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_folder_that_the_user_cannot_read_is_told(install, captures):
    captures.chmod(0o700)
    done = install("--watch", captures, "--user", "nobody", "--out", captures.parent)
    assert done.returncode == 0
    assert "warning: nobody may not use " in done.stderr
    assert "(rights of " in done.stderr


def test_its_own_unit_is_replaced_and_another_s_is_not(install, captures, tmp_path):
    unit = tmp_path / "units" / "cellseg-watch.service"
    assert install("--watch", captures).returncode == 0
    assert install("--watch", captures, "--", "--threads", "2").returncode == 0
    assert "--threads 2" in unit.read_text()
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    done = install("--watch", captures)
    assert done.returncode == 2
    assert re.fullmatch("error: .* was not written by this command: choose another --name, or remove it\n", done.stderr)
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"


WRONG = {
    "no folder": (["--watch", "{}/none"], "no such folder"),
    "a file": (["--watch", "{}/file"], "is not a folder"),
    "output a file": (["--watch", "{}", "--out", "{}/file"], "is not a folder: choose another --out"),
    "neither": ([], "Give either --watch FOLDER or --camera SOURCE"),
    "both": (["--watch", "{}", "--camera", "usb:0"], "Give either --watch FOLDER or --camera SOURCE"),
    "camera without output": (["--camera", "usb:0"], "A camera needs --out"),
    "name": (["--watch", "{}", "--name", "../x"], "cannot be the name of a service"),
    "long name": (["--watch", "{}", "--name", "x" * 300], "cannot be the name of a service"),
    "root": (["--watch", "{}", "--user", "root"], "no need of root's rights"),
    "user": (["--watch", "{}", "--user", "no-such-user"], "there is no user no-such-user"),
    "line break": (["--watch", "{}/a\nb"], "rename it"),
    "folder of units": (["--watch", "{}", "--unit-folder", "{}/none"], "choose another --unit-folder"),
    "once": (["--watch", "{}", "--", "--once"], "counts for ever: leave --once out"),
    "second output": (["--watch", "{}", "--", "--out", "/x"], "give --out before the --"),
    "unknown flag": (["--watch", "{}", "--", "--overlai"], "No such option '--overlai'"),
    "bad value": (["--watch", "{}", "--", "--threads", "none"], "Invalid value for '--threads'"),
    "second folder": (["--watch", "{}", "--", "{}"], "unexpected extra argument"),
    "no model": (["--watch", "{}", "--", "--model", "/none.tflite"], "/none.tflite: no such file"),
    "relative model": (["--watch", "{}", "--", "--model", "m.tflite"], "/m.tflite instead of m.tflite"),
    "calibration": (["--watch", "{}", "--", "--calibration", "mine"], "write --pixel-size-um 0.325 instead"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_not_run_is_refused(install, tmp_path, environment, name):
    arguments, message = WRONG[name]
    folder = tmp_path / "captures"
    (folder / "a\nb").mkdir(parents=True)
    (folder / "file").write_text("")
    (folder / "m.tflite").write_text("")
    (tmp_path / "home/cellseg").mkdir(parents=True)
    (tmp_path / "home/cellseg/calibrations.toml").write_text("[mine]\npixel-size-um = 0.325\n")
    command = ["install-service", "--unit-folder", str(tmp_path / "units")]
    command += [argument.replace("{}", str(folder)) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "cellseg_device", *command],
        env={**environment, "XDG_CONFIG_HOME": str(tmp_path / "home")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "units").iterdir())


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="a folder where even root may write nothing")
def test_who_is_not_root_is_told_what_to_do(device, captures):
    done = device("install-service", "--watch", captures, "--unit-folder", "/sys/kernel")
    assert done.returncode == 2
    assert "put sudo before" in done.stderr
    assert "--print" in done.stderr


# As root it imports, then becomes nobody: root's Python may lie where nobody else can read it
AS_NOBODY = """
import os, sys
from cellseg_device.cli import main
import cellseg_device.settings, cellseg_device.service, cellseg_device.files, cellseg_device.scan
import cellseg_device.rights, cellseg_device.edgetpu, cellseg_device.calibrations
os.setgroups([]); os.setgid(65534); os.setuid(65534)
main(sys.argv[1:])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_what_another_user_may_not_even_look_at(environment, tmp_path, let_in):
    let_in(tmp_path)
    closed, open_ = tmp_path / "closed", tmp_path / "open"
    (closed / "in").mkdir(parents=True)
    closed.chmod(0o700)
    open_.mkdir()

    def run(*arguments):
        command = [sys.executable, "-c", AS_NOBODY, *map(str, arguments)]
        done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done

    done = run("install-service", "--watch", open_, "--out", closed / "in" / "x", "--print")
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr
    assert run("install-service", "--watch", closed / "in").stderr.endswith("check the path\n")
    assert "put sudo before" in run("install-service", "--watch", open_, "--unit-folder", tmp_path).stderr
