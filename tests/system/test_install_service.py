"""``cellseg-device install-service`` as a user runs it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device.camera import live_folder
from cellseg_device.model.graph import _EDGETPU_MARK


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
    quoted = '"' + str(captures).replace("%", "%%").replace('"', '\\"')
    assert text.count(quoted.replace("$", "$$")) == 2  # folder and output
    assert f'BindReadOnlyPaths={quoted}"\n' in text
    assert f'BindPaths={quoted}/cellseg-results"\n' in text
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
    assert f"BindPaths={tmp_path}/results/new\n" in done.stdout


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
def test_an_edge_tpu_is_let_in_where_it_may_be_used(device_here, model_path, tmp_path, arguments, is_let_in):
    for name in ("a", "b"):
        shutil.copyfile(model_path, tmp_path / f"{name}.tflite")
    (tmp_path / "b_edgetpu.tflite").write_bytes(_EDGETPU_MARK.join([b"\0\0\0\0TFL3", b""]))
    chosen = [argument.replace("{}", str(tmp_path)) for argument in arguments]
    done = device_here("install-service", "--watch", tmp_path, "--print", "--", *chosen)
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
def test_a_folder_that_the_user_cannot_read_is_reported(install, captures):
    captures.chmod(0o700)
    done = install("--watch", captures, "--user", "nobody", "--out", captures.parent)
    assert done.returncode == 0
    assert "warning: nobody may not use " in done.stderr
    assert "(rights of " in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_it_does_not_matter_who_may_enter_the_folder_around_what_it_sees_by_a_mount(install, captures, tmp_path):
    (tmp_path / "model").mkdir()
    captures.parent.chmod(0o700)
    done = install("--watch", captures, "--user", "nobody", "--print")
    assert f"(rights of {captures.parent})" not in done.stderr


def test_of_a_folder_with_a_model_all_is_seen_since_the_model_may_be_replaced(install, captures, model_path, tmp_path):
    model, link = tmp_path / "models" / "m.tflite", tmp_path / "link.tflite"
    model.parent.mkdir()
    shutil.copyfile(model_path, model)
    link.symlink_to(model)
    (tmp_path / "a.toml").write_text(f'model = "{model}"\n')
    for arguments in (["--model", model], ["--config", tmp_path / "a.toml"]):
        text = install("--watch", captures, "--print", "--", *arguments).stdout
        assert f"BindReadOnlyPaths={model.parent}\n" in text
        assert ("/a.toml\n" in text) is ("--config" in arguments)
    text = install("--watch", captures, "--print", "--", "--model", link).stdout
    assert f"BindReadOnlyPaths={tmp_path}\n" in text  # the link may be, too


ADDRESS = "rtsp://user:s3cret@camera:554/live?key=s3cret"


def test_the_address_of_a_camera_is_kept_where_root_alone_may_read(install, tmp_path):
    units = tmp_path / "units"
    former = os.umask(0)
    try:
        done = install("--camera", ADDRESS, "--out", tmp_path / "out", "--name", "lab", "--", "--every", "1min")
    finally:
        os.umask(former)
    assert done.returncode == 0, done.stderr
    unit, secret = units / "cellseg-lab.service", units / "cellseg-lab.source"
    text = unit.read_text()
    assert " camera --out " in text
    assert " --every 1min --keep-free 1GB --source @%d/source\n" in text
    assert f"LoadCredential=source:{secret}\n" in text
    assert "PrivateNetwork" not in text
    assert "s3cret" not in text + done.stdout + done.stderr
    assert secret.read_text() == f"{ADDRESS}\n"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert f"wrote {secret}: the camera's address, which root alone may read" in done.stdout
    assert {path.name for path in units.iterdir()} == {unit.name, secret.name}


def test_with_print_the_address_is_to_be_typed(install, tmp_path):
    done = install("--camera", ADDRESS, "--out", tmp_path, "--print")
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    assert f"sudo install -m 600 /dev/stdin {tmp_path}/units/cellseg-camera.source  " in done.stderr
    assert not list((tmp_path / "units").iterdir())


@pytest.mark.parametrize(("source", "has_network", "mode"), [(ADDRESS, True, 0o600), ("usb:0", False, 0o644)])
def test_a_source_may_be_in_a_file_from_the_start(device, tmp_path, source, has_network, mode):
    (tmp_path / "my source").write_text(f"{source}\n")
    (tmp_path / "my source").chmod(mode)
    command = ["install-service", "--unit-folder", tmp_path, "--camera", "@my source", "--out", tmp_path / "out"]
    done = device(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "cellseg-camera.service").read_text()
    assert f"LoadCredential=source:{tmp_path}/my source\n" in text
    assert ("PrivateNetwork=yes" not in text) is has_network
    assert ("char-video4linux" in text) is not has_network
    assert not (tmp_path / "cellseg-camera.source").exists()
    assert ("warning: others may read the address" in done.stderr) is (mode == 0o644)


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
    "neither": ([], "give either --watch FOLDER, --camera SOURCE or --web RESULTS"),
    "both": (["--watch", "{}", "--camera", "usb:0"], "give either --watch FOLDER, --camera SOURCE or --web RESULTS"),
    "camera without output": (["--camera", "usb:0"], "a camera needs --out"),
    "name": (["--watch", "{}", "--name", "../x"], "cannot be the name of a service"),
    "long name": (["--watch", "{}", "--name", "x" * 300], "cannot be the name of a service"),
    "root": (["--watch", "{}", "--user", "root"], "does not need root's rights"),
    "user": (["--watch", "{}", "--user", "no-such-user"], "there is no user no-such-user"),
    "line break": (["--watch", "{}/a\nb"], "rename it"),
    "folder of units": (["--watch", "{}", "--unit-folder", "{}/none"], "choose another --unit-folder"),
    "once": (["--watch", "{}", "--", "--once"], "runs until it is stopped: leave out --once"),
    "second output": (["--watch", "{}", "--", "--out", "/x"], "give it before the --"),
    "unknown flag": (["--watch", "{}", "--", "--overlai"], "no such option '--overlai'"),
    "bad value": (["--watch", "{}", "--", "--threads", "none"], "invalid value for '--threads'"),
    "second folder": (["--watch", "{}", "--", "{}"], "unexpected extra argument"),
    "no model": (["--watch", "{}", "--", "--model", "/none.tflite"], "/none.tflite: no such file"),
    "relative model": (["--watch", "{}", "--", "--model", "m.tflite"], "/m.tflite instead of m.tflite"),
    "no source": (["--camera", "@{}/none", "--out", "{}"], "cannot be read (No such file or directory): check it"),
    "empty source": (["--camera", "@{}/file", "--out", "{}"], "does not hold a camera's source"),
    "second source": (["--camera", "usb:0", "--out", "{}", "--", "--source", "usb:1"], "give it as --camera, before"),
    "control character": (["--camera", "http://a:b@c/\x1b", "--out", "{}"], "has a control character in it"),
    "objective": (["--watch", "{}", "--", "--objective", "mine"], "write --pixel-size-um 0.325 instead"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_not_run_is_refused(device_here, tmp_path, name):
    (tmp_path / "units").mkdir()
    arguments, message = WRONG[name]
    folder = tmp_path / "captures"
    (folder / "a\nb").mkdir(parents=True)
    (folder / "file").write_text("")
    (folder / "m.tflite").write_text("")
    (tmp_path / "home/cellseg").mkdir(parents=True)
    (tmp_path / "home/cellseg/calibrations.toml").write_text("[mine]\npixel-size-um = 0.325\n")
    command = ["install-service", "--unit-folder", str(tmp_path / "units")]
    command += [argument.replace("{}", str(folder)) for argument in arguments]
    done = device_here(*command, cwd=folder, env={"XDG_CONFIG_HOME": str(tmp_path / "home")})
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
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
import cellseg_device.commands.config_file, cellseg_device.service.unit, cellseg_device.system.files
import cellseg_device.watching.scan, cellseg_device.system.rights
import cellseg_device.model.edgetpu, cellseg_device.calibration.store, cellseg_device.camera.parse
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
    assert f"sudo install -d -o cellseg {closed}/in/x\n" in done.stderr
    assert run("install-service", "--watch", closed / "in").stderr.endswith("check the path\n")
    assert "put sudo before" in run("install-service", "--watch", open_, "--unit-folder", tmp_path).stderr


@pytest.fixture
def results(device, tmp_path, write_image):
    """Results of one image."""
    (tmp_path / "captures").mkdir()
    write_image(tmp_path / "captures" / "a.png")
    assert device("watch", tmp_path / "captures", "--once").returncode == 0
    return tmp_path / "captures" / "cellseg-results"


def test_the_page_may_write_corrections_models_and_uploads_alone(install, results, tmp_path):
    done = install("--web", results, "--", "--name", "cells.example.org")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "units" / "cellseg-web.service").read_text()
    token = tmp_path / "units" / "cellseg-web.token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert f" serve {results} --name cells.example.org --listen 0.0.0.0 --token-file %d/token\n" in text
    assert f"LoadCredential=token:{token}\n" in text
    assert "SocketBindAllow=tcp:8377\nSocketBindDeny=any\n" in text
    assert "listen accept" not in text
    assert "PrivateNetwork" not in text
    writable = [
        line.partition("=")[2] for line in text.splitlines() if line.startswith(("BindPaths=", "ReadWritePaths="))
    ]
    assert writable == [str(results / name) for name in ("corrections", "models", "uploads", ".cellseg-thumbnails")]
    assert f"BindReadOnlyPaths={results.parent}\n" in text
    shared = f"RuntimeDirectory={live_folder.runtime_name(results)}\n"
    assert f"{shared}RuntimeDirectoryMode=0755\nRuntimeDirectoryPreserve=yes\n" in text
    assert install("--camera", "usb:0", "--out", results).returncode == 0
    assert shared in (tmp_path / "units" / "cellseg-camera.service").read_text()
    assert install("--watch", results.parent, "--out", results).returncode == 0
    assert "RuntimeDirectory" not in (tmp_path / "units" / "cellseg-watch.service").read_text()
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert any(line.startswith("sudo install -d -o ") and line.endswith(" ".join(writable)) for line in lines)
    (shown, *_) = [line for line in lines if ".local:8377/?token=" in line]
    assert shown.startswith("http://")
    assert shown.endswith(f"?token={token.read_text().strip()}")
    assert f"https://cells.example.org/?token={token.read_text().strip()}" in lines
    again = install("--web", results)
    assert shown in [line.strip() for line in again.stdout.splitlines()]  # the same token


def test_the_token_is_not_in_the_unit_and_is_asked_for_where_nothing_is_written(device, results, tmp_path):
    done = device("install-service", "--web", results, "--unit-folder", tmp_path, "--print")
    assert "?token=" not in done.stdout + done.stderr
    assert "sudo install -m 600 /dev/stdin" in done.stderr
    assert not (tmp_path / "cellseg-web.token").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--web", "{}/nothing"],
            "holds no results of cellseg-device: name the folder that a watch or camera writes to",
        ),
        (["--web", "{}", "--out", "{}"], "leave out --out"),
        (["--web", "{}", "--watch", "{}"], "give either --watch FOLDER, --camera SOURCE or --web RESULTS"),
        (["--web", "{}", "--", "--token-file", "/x"], "leave out --token-file"),
        (["--web", "{}", "--", "--listen", "0.0.0.0:0"], "a service needs a port that stays the same"),
        (["--web", "{}", "--", "--listen", "here"], "is not an address to listen on"),
        (["--web", "{}", "--", "--originals", "captures"], "write the whole path of a folder"),
        (["--web", "{}", "--user", "root"], "does not need root's rights"),
    ],
)
def test_a_page_that_would_not_run_is_refused(install, results, arguments, words):
    done = install(*[argument.replace("{}", str(results)) for argument in arguments])
    assert done.returncode == 2
    assert words in done.stderr
