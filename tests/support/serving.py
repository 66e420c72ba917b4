"""A `cellseg-device serve` in the background, and requests to it as any program may make them."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

HOSTILE = "<img src=x onerror=alert(1)>.png"  # the name of an image, which is no markup


@dataclass(frozen=True)
class Answer:
    """What the server answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    urls: list[str]

    @property
    def port(self) -> int:
        port = urlsplit(self.urls[0]).port
        assert port is not None
        return port

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """Make a request; headers are named with _ for -, and their names may be those that are set by default."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host="Host" in named)
            for name, value in named.items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in named:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers.items()), answer.read())
        finally:
            connection.close()

    def post(self, path: str, **fields: str) -> Answer:
        """Send a form, as the page does."""
        body = "&".join(f"{name}={quote(value)}" for name, value in fields.items()).encode()
        return self.ask(path, "POST", body, Origin=self.base, Content_Type="application/x-www-form-urlencoded")

    def resident_mb(self) -> float:
        """Memory of the server itself."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def helpers(self) -> list[str]:
        """The command lines of the processes that it has started."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in text.split()]


@contextlib.contextmanager
def served(environment: Mapping[str, str], *arguments: object) -> Iterator[Served]:
    """Serve until the block ends."""
    given = [*map(str, arguments)]
    listen = [] if "--listen" in given else ["--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cellseg_device", "serve", *given, *listen],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        first = process.stdout.readline().strip()
        assert first, process.stderr.read()
        yield Served(process, [first])
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def until(condition, seconds: float = 60):
    """Wait for a condition, and return what it came to."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found
