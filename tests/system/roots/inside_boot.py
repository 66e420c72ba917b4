"""What test_boot.py does inside the booted system, as root: installs the service as a user would, and mistreats it.

Takes a folder to work in from the first argument; writes what it saw to report.json there, and powers off.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHARED = Path(sys.argv[1])
SAMPLES = SHARED / "samples"
HOME = Path("/home/someone")
CAPTURES = HOME / "cap: tures 100% é"
OUT = CAPTURES / "cellseg-results"
PRIVATE = HOME / "private.txt"
FRAMES = Path("/srv/frames")
PASSWORD = "s3cret-Pa55"
UNIT = "cellseg-watch.service"
# Times that a test can wait for; the rest of the unit stays as it is
DROP_IN = f"""[Service]
Environment=PYTHONPATH={os.environ["PYTHONPATH"]}
WatchdogSec=2
TimeoutAbortSec=1
RestartSec=1
"""


def call(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain\n{call('journalctl', '--no-pager', '-u', UNIT)}"
        time.sleep(0.05)


def shown(name: str, unit: str = UNIT) -> str:
    return call("systemctl", "show", unit, "--value", "-p", name).strip()


def counted(name: str) -> bool:
    table = OUT / "counts.csv"
    return table.exists() and f"\n{name}," in table.read_text()


def drop(name: str, sample: str) -> None:
    """Bring an image and wait until it is counted."""
    shutil.copy(SAMPLES / sample, CAPTURES / name)
    until(lambda: counted(name))


def device(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cellseg_device", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def inside_service(*command: str) -> str:
    """Run a command, as root, with the service's view of the file system; what it says on standard error."""
    enter = ["nsenter", "-t", shown("MainPID"), "-m", *command]
    return subprocess.run(enter, capture_output=True, text=True, check=False).stderr


def touch_inside(path: Path) -> str:
    return inside_service(sys.executable, "-c", "import sys; open(sys.argv[1], 'w').close()", str(path))


def install(*arguments: str) -> str:
    """Install a service and do what it says; returns what it said."""
    installed = device("install-service", *arguments)
    assert installed.returncode == 0, installed.stderr
    unit = re.search(r"cellseg-\w+\.service", installed.stdout)[0]
    drop_in = Path(f"/etc/systemd/system/{unit}.d")
    drop_in.mkdir()
    (drop_in / "test.conf").write_text(DROP_IN)
    for line in re.findall(r"^  sudo (.*)$", installed.stdout, re.MULTILINE):
        call("sh", "-c", line)
    return installed.stdout


def use_a_disk_that_is_not_there() -> dict[str, object]:
    """Results on a disk, which is away when the service starts."""
    disk, mounted, unit = Path("/srv/disk"), Path("/mnt/usb"), "cellseg-disk.service"
    disk.mkdir()
    mounted.mkdir()
    call("mount", "-t", "tmpfs", "disk", disk)
    call("mount", "--bind", disk, mounted)
    install("--watch", str(CAPTURES), "--name", "disk", "--out", str(mounted / "results"), "--user", "cellseg")
    call("systemctl", "stop", unit)
    call("umount", mounted)
    call("systemctl", "start", "--no-block", unit)
    until(lambda: shown("NRestarts", unit) not in ("", "0"))
    seen = {"underneath": [path.name for path in mounted.iterdir()], "tries": shown("NRestarts", unit)}
    call("mount", "--bind", disk, mounted)
    until(lambda: shown("ActiveState", unit) == "active")
    seen |= {"state": shown("ActiveState", unit), "unit": Path(f"/etc/systemd/system/{unit}").read_text()}
    call("systemctl", "disable", "--now", unit)
    Path(f"/etc/systemd/system/{unit}").unlink()
    return seen


def probed(unit: str, out: Path, secret: Path) -> dict[str, object]:
    """What a unit lets its command do."""
    probe = Path("/etc/systemd/system/probe.service")
    command = " ".join(
        [sys.executable, str(SHARED / "probe.py"), f'"{out}"'.replace("%", "%%"), str(PRIVATE), str(secret)]
    )
    text = Path(f"/etc/systemd/system/{unit}").read_text()
    text = re.sub(r"^ExecStart=.*$", f"ExecStart={command}", text, flags=re.MULTILINE).replace("=notify", "=oneshot")
    probe.write_text(re.sub(r"^(Restart|Watchdog).*\n", "", text, flags=re.MULTILINE))
    call("systemctl", "daemon-reload")
    subprocess.run(["systemctl", "start", "probe.service"], check=False)
    answers = out / "probe.json"
    until(answers.exists, 1)
    return json.loads(answers.read_text())


class Camera(BaseHTTPRequestHandler):
    """A camera that wants a password, and then sends the same picture again and again."""

    picture = b""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Basic {base64.b64encode(f'user:{PASSWORD}'.encode()).decode()}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(self.picture)}\r\n\r\n"
                self.wfile.write(head.encode() + self.picture + b"\r\n")
                time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def use_a_camera_with_a_password() -> dict[str, object]:
    """A network camera; all that is known of it outside of its service."""
    import cv2

    Camera.picture = cv2.imencode(".jpg", cv2.imread(str(SAMPLES / "tissue.png")))[1].tobytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://user:{PASSWORD}@127.0.0.1:{server.server_port}/live?key={PASSWORD}"
    unit, secret = "cellseg-camera.service", Path("/etc/systemd/system/cellseg-camera.source")
    FRAMES.mkdir()
    said = install("--camera", address, "--out", str(FRAMES), "--user", "cellseg", "--", "--every", "1s")
    until(lambda: (FRAMES / "counts.csv").exists() and (FRAMES / "counts.csv").read_text().count("\n") > 2)
    process = Path(f"/proc/{shown('MainPID', unit)}")
    copy = f"/run/credentials/{unit}/source"
    stranger = [sys.executable, "-c", f"import os; os.setuid(65534); print(open({copy!r}).read())"]
    seen: dict[str, object] = {
        "state": shown("ActiveState", unit),
        "mode": secret.stat().st_mode & 0o777,
        "known": said
        + Path(f"/etc/systemd/system/{unit}").read_text()
        + call("systemctl", "show", unit)
        + call("systemctl", "status", unit)
        + call("journalctl", "--no-pager", "-o", "cat", "-u", unit)
        + call("ps", "-ef")
        + (process / "cmdline").read_text()
        + (process / "environ").read_text(),
        "stranger": subprocess.run(stranger, capture_output=True, text=True, check=False).stderr,
        "live": look_through_the_camera(unit),
        "probe": probed(unit, FRAMES, secret),
    }
    call("systemctl", "disable", "--now", unit)
    for path in (secret, secret.with_suffix(".service")):
        path.unlink()
    return seen


def look_through_the_camera(camera: str) -> dict[str, object]:
    """What the page shows of a camera that is another service, also after that was started again."""
    import urllib.parse
    import urllib.request

    unit = "cellseg-look.service"
    said = install("--web", str(FRAMES), "--name", "look", "--user", "cellseg")
    token = re.search(r"token=(\S+)", said)[1]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    base = "http://localhost:8377"
    until(lambda: shown("ActiveState", unit) == "active")
    opener.open(f"{base}/?token={token}", timeout=60).close()

    def asked(path: str) -> tuple[dict[str, object] | None, bytes]:
        with opener.open(urllib.request.Request(f"{base}{path}", b"", {"Origin": base}), timeout=90) as answer:
            head = answer.headers.get("X-Cellseg-Frame")
            return head and json.loads(urllib.parse.unquote(head)), answer.read()

    until(lambda: asked("/api/camera/frame")[0])
    head, picture = asked("/api/camera/frame")
    seen: dict[str, object] = {"camera": head["camera"], "is_jpeg": picture.startswith(b"\xff\xd8")}
    seen["image"] = json.loads(asked("/api/camera/snap")[1])["image"]
    folder = Path("/run") / shown("RuntimeDirectory", unit)
    seen |= {"owner": folder.owner(), "mode": folder.stat().st_mode & 0o777}
    call("systemctl", "stop", camera)
    seen["stopped"] = json.loads(asked("/api/camera/frame")[1])["words"]
    call("systemctl", "start", camera)
    until(lambda: asked("/api/camera/frame")[0])
    call("systemctl", "disable", "--now", unit)
    seen["hidden"] = (FRAMES / ".cellseg-camera").exists()
    for path in Path("/etc/systemd/system").glob("cellseg-look.*"):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    return seen


def use_the_page() -> dict[str, object]:
    """The page of the results, whose watch is running, as a browser in the network sees it."""
    import urllib.error
    import urllib.request

    unit = "cellseg-web.service"
    said = install("--web", str(OUT))
    address = re.search(r"http://\S+:(8377/\?token=\S+)", said)[1]
    token = Path("/etc/systemd/system/cellseg-web.token")
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    base = "http://localhost:8377"

    def asked(path: str, body: bytes | None = None) -> str:
        request = urllib.request.Request(f"{base}{path}", body, {"Origin": base})
        try:
            with opener.open(request, timeout=60) as answer:
                return answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()}"

    until(lambda: shown("ActiveState", unit) == "active")
    process = shown("MainPID", unit)
    enter = ["nsenter", "-t", process, "-m", sys.executable, "-c", "import sys; open(sys.argv[1], 'w').close()"]
    tried = {
        str(place): subprocess.run([*enter, str(place / "x")], capture_output=True, text=True, check=False).stderr
        for place in (OUT, CAPTURES, OUT / "corrections", OUT / "models")
    }
    stranger = asked("/api/now")
    asked(f"/{address.partition('/')[2]}")
    model = Path(os.environ["PYTHONPATH"]).parent / "models" / "nuclei-nano.tflite"
    uploaded = json.loads(asked("/api/models", model.read_bytes()))
    mark = json.dumps({"what": "checked", "revision": 0}).encode()
    seen = {
        "mode": token.stat().st_mode & 0o777,
        "known": Path(f"/etc/systemd/system/{unit}").read_text() + call("ps", "-ef"),
        "token": token.read_text().strip(),
        "stranger": stranger,
        "now": json.loads(asked("/api/now"))["done"],
        "tried": tried,
        "uploaded": uploaded["model"]["name"],
        "used": json.loads(asked(f"/api/use?model={uploaded['model']['sha256']}", b""))["in_use"]["name"],
        "checked": asked("/api/correct?image=d.png", mark)[:200],
        "counted by the page": json.loads(asked("/api/upload?name=x.png", (SAMPLES / "tissue.png").read_bytes())),
        "uploads": json.loads(asked("/api/uploads"))["rows"],
        "corrections": sorted(path.name for path in (OUT / "corrections").iterdir()),
        "restarts": shown("NRestarts", unit),
    }
    time.sleep(2)  # until then the watch takes the model for one that is still being written
    drop("e.png", "dapi16.png")
    seen["counted"] = next(line for line in (OUT / "counts.csv").read_text().splitlines() if line.startswith("e.png,"))
    asked("/api/back", b"")
    call("systemctl", "disable", "--now", unit)
    seen["result"] = shown("Result", unit)
    for path in (token, token.with_suffix(".service")):
        path.unlink()
    return seen


def work(report: dict[str, object]) -> None:
    for folder in Path(sys.executable).resolve().parents:
        folder.chmod(folder.stat().st_mode | 0o055)  # a Python in root's home; this file system is thrown away
    HOME.mkdir(mode=0o700)  # whose user's way to what is in it does not matter to the service
    PRIVATE.write_text("nobody's business")
    CAPTURES.mkdir()
    report |= {"captures": str(CAPTURES), "password": PASSWORD}
    report["systemd"] = call("systemctl", "--version")
    report["installed"] = install("--watch", str(CAPTURES), "--", "--overlay", "--poll", "20s")
    report["state_after_start"] = shown("ActiveState")  # Type=notify: start returns when it is ready

    drop("a.png", "tissue.png")
    until(lambda: "a.png" in shown("StatusText"))
    report["status"] = shown("StatusText")
    report["owner"] = (OUT / "a.labels.tif").owner()
    process = Path(f"/proc/{shown('MainPID')}")
    report["process"] = dict(re.findall(r"^(\w+):\s+(.*)$", (process / "status").read_text(), re.MULTILINE))
    report["refused"] = {
        str(path): touch_inside(Path(path)) for path in (CAPTURES / "x", "/etc/x", "/usr/x", "/var/lib/x")
    }
    report["allowed"] = touch_inside(OUT / "x")
    report["shell"] = inside_service("sh", "-c", ":")
    report["limits"] = {name: shown(name) for name in ("TasksMax", "MemorySwapMax")}
    report["probe"] = probed(UNIT, OUT, Path("/etc/shadow"))
    report["devices"] = sorted(path.name for path in (process / "root/dev").iterdir())
    network = call("nsenter", "-t", shown("MainPID"), "-n", "cat", "/proc/net/dev")
    report["interfaces"] = re.findall(r"^\s*(\w+):", network, re.MULTILINE)

    time.sleep(5)  # idle, looking every 20 s, for longer than the watchdog allows
    report["restarts_while_idle"] = shown("NRestarts")

    hung = shown("MainPID")
    os.kill(int(hung), signal.SIGSTOP)
    until(lambda: shown("ActiveState") == "active" and shown("MainPID") not in ("0", hung))
    report["after_hang"] = {name: shown(name) for name in ("NRestarts", "ActiveState")}
    report["journal"] = call("journalctl", "--no-pager", "-o", "cat", "-u", UNIT)
    drop("b.png", "dapi16.png")

    os.kill(int(shown("MainPID")), signal.SIGKILL)
    until(lambda: shown("NRestarts") == "2" and shown("ActiveState") == "active")
    drop("c.png", "smear.png")

    CAPTURES.rename(
        HOME / "former"
    )  # with the results: the service sees a folder of its home by a mount, which goes along
    OUT.mkdir(parents=True)
    shutil.chown(OUT, "cellseg")
    until(lambda: shown("NRestarts") == "3" and shown("ActiveState") == "active")
    drop("d.png", "smear.png")
    report["made_again"] = call("journalctl", "--no-pager", "-o", "cat", "-u", UNIT)

    report["page"] = use_the_page()
    report["camera"] = use_a_camera_with_a_password()
    report["disk"] = use_a_disk_that_is_not_there()
    report["doctor"] = json.loads(device("doctor", "--json", "--out", str(CAPTURES)).stdout)
    call("systemctl", "stop", UNIT)
    report["end"] = {name: shown(name) for name in ("Result", "ExecMainStatus", "ActiveState", "NRestarts")}


seen: dict[str, object] = {}
try:
    work(seen)
except BaseException:  # noqa: BLE001 - whatever it is, the test outside has to show it
    journal = subprocess.run(["journalctl", "--no-pager", "-u", UNIT], capture_output=True, text=True, check=False)
    seen["error"] = traceback.format_exc() + journal.stdout
(SHARED / "report.json").write_text(json.dumps(seen))
subprocess.run(["systemctl", "poweroff", "--force"], check=False)
