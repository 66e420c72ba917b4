"""cellseg beside what people would use instead: one run, the same images, the same threads.

    cellseg-host data import --format labels DSB2018 nuclei-data
    python benchmarks/peers.py nuclei-data --split test --train-unet --train-stardist 25

Every peer is a process in a virtual environment of its own, which this script makes and keeps; one that cannot be
installed is left out with the reason. Each writes its label images to a folder, and one code judges all:
``cellseg_host.evaluate``. Then each segments the same field of 1200 × 1600 pixels, all in turn, on one and on two
cores. Writes peers.json beside this file, and its table into README.md. Training may be stopped and started again.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import architectures
import click
import numpy as np
import peers_page
import road
from environments import DEVICE, ROOT, Environment, Unavailable, ready, size_mb

from cellseg_device import card, files, hardware
from cellseg_host import evaluate
from cellseg_host.data import dataset as datasets
from cellseg_host.data.dataset import Dataset, Entry

HERE = Path(__file__).resolve().parent
RUNNERS = HERE / "runners"
JSON, README = HERE / "peers.json", HERE / "README.md"
MODELS = tuple(ROOT / "models" / name for name in ("nuclei.tflite", "nuclei-nano.tflite"))
UNET_ROADS = ("dynamic", "int8")  # the first as published, the second the faster one
TURN_MS = 500  # a peer that is quicker is run again within its turn

CELLSEG = Environment("cellseg", (DEVICE,))
OTSU = Environment("otsu", ("opencv-python-headless>=4.10",))
STARDIST = Environment(
    "stardist",
    (
        "stardist==0.9.2",
        'tensorflow-cpu==2.15.1; python_version < "3.12"',  # a quarter of the size of those that came after
        'tensorflow~=2.21.0; python_version >= "3.12"',
        'tf-keras~=2.21.0; python_version >= "3.12"',
    ),
)
# The build for CPUs alone, 4 GB smaller; where pip does not find it, PyTorch's own index has it (PIP_EXTRA_INDEX_URL)
CELLPOSE = Environment("cellpose", ("torch==2.13.0+cpu", "cellpose==3.1.1"))


@dataclass(frozen=True)
class Peer:
    """One that takes part.

    Attributes
    ----------
    name : str
    about : str
        How it came by its weights, in a few words.
    environment : Environment
    command : tuple of str
        The runner's file in `RUNNERS`, and its arguments.
    judged : bool
        Whether it gives labels that mean something; else its network alone is timed.
    """

    name: str
    about: str
    environment: Environment
    command: tuple[str, ...]
    judged: bool = True


class Runner:
    """A peer's process, bound to as many cores as it has threads.

    Parameters
    ----------
    peer : Peer
    python : Path
        Of its environment.
    threads : int
    log : Path
        Receives what it prints.
    """

    def __init__(self, peer: Peer, python: Path, threads: int, log: Path) -> None:
        self.peer, self._log = peer, log
        cores = sorted(os.sched_getaffinity(0))[:threads]
        names = ("OMP", "OPENBLAS", "MKL", "NUMBA")
        limits = {f"{name}_NUM_THREADS": str(threads) for name in names} | {"TF_CPP_MIN_LOG_LEVEL": "2"}
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [str(python), str(RUNNERS / peer.command[0]), *peer.command[1:], "--threads", str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | limits,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )
        self.versions: dict[str, str] = {}

    def start(self) -> None:
        """Wait until it has loaded.

        Raises
        ------
        Unavailable
            If it ends.
        """
        self.versions = self._read()["versions"]

    def ask(self, image: Path, labels: Path | None = None, mask: Path | None = None) -> dict[str, Any]:
        """Have one image segmented; see ``runners/protocol.py``.

        Raises
        ------
        Unavailable
            If it ends.
        """
        request = {k: None if v is None else str(v) for k, v in (("image", image), ("labels", labels), ("mask", mask))}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `_read` tells why
        return self._read()

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            said = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
            raise Unavailable(f"stopped ({code}): {said[-1].strip() if said else 'without a word'}")
        answer: dict[str, Any] = json.loads(line)
        return answer


Outcome = dict[str, Any]


def judge(runner: Runner, data: Dataset, entries: Sequence[Entry], folder: Path) -> dict[str, evaluate.Summary]:
    """Accuracy of a peer by modality, from the label images that it writes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    scores = []
    for entry in entries:
        labels, mask = folder / f"{entry.id}.npy", folder / f"{entry.id}.mask.npy"
        runner.ask((data.root / "images" / f"{entry.id}.png").resolve(), labels, mask)
        scores.append(evaluate.score(entry, data.labels(entry), numbered(np.load(labels)), np.load(mask)))
    return evaluate.by_modality(scores)


def numbered(labels: np.ndarray) -> np.ndarray:
    """The same cells, numbered from 1 without gaps."""
    present = np.unique(labels[labels > 0])
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint16)
    table[present] = np.arange(1, len(present) + 1)
    return table[labels]


def in_turn(runners: Sequence[Runner], field: Path, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """What each peer answers, a median turn per round, all in turn; one run before is not counted."""
    for runner in runners:
        runner.ask(field)
    answers: dict[str, list[dict[str, Any]]] = {runner.peer.name: [] for runner in runners}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for runner in runners:
            turn = [runner.ask(field)]
            while sum(answer["ms"] for answer in turn) < TURN_MS:
                turn.append(runner.ask(field))
            answers[runner.peer.name].append(sorted(turn, key=_ms)[len(turn) // 2])
    return answers


def _ms(answer: dict[str, Any]) -> float:
    """From the file to the labels; of the network alone where there are no labels."""
    return float(answer["ms"] if "cells" in answer else answer["network_ms"])


class Contest:
    """Who takes part, what each has reached, and who is left out.

    Parameters
    ----------
    peers : sequence of Peer
        The first is the one that the others are measured by.
    environments : Path
        Holds the environments.
    work : Path
        Label images and logs go there.
    """

    def __init__(self, peers: Sequence[Peer], environments: Path, work: Path) -> None:
        self.work = work
        self.left_out: dict[str, str] = {}
        self.reached: dict[str, Outcome] = {}
        self._pythons: dict[str, Path] = {}
        self.peers: list[Peer] = []
        for peer in peers:
            try:
                self._pythons[peer.name] = ready(peer.environment, environments)
            except Unavailable as error:
                self._leave_out(peer, error)
                continue
            self.peers.append(peer)
            self.reached[peer.name] = {"about": peer.about, "install_mb": round(size_mb(self._pythons[peer.name]), 1)}

    def judge(self, data: Dataset, entries: Sequence[Entry], threads: int) -> None:
        """Accuracy of all, one after the other."""
        for peer in [p for p in self.peers if p.judged]:
            print(f"{peer.name}: {len(entries)} images", flush=True)

            def judged(runner: Runner, peer: Peer = peer) -> None:
                found = judge(runner, data, entries, self.work / "labels" / _file_name(peer))
                self.reached[peer.name]["accuracy"] = {k: vars(summary) for k, summary in found.items()}

            runner = self._started(peer, threads)
            if runner:
                self._with(runner, judged)
                runner.stop()

    def time(self, field: Path, threads: int, rounds: int) -> None:
        """Seconds of all for the field, in turn, on so many threads; and the memory that each has taken."""
        runners = [runner for peer in list(self.peers) if (runner := self._started(peer, threads))]
        try:
            while True:
                try:
                    answers = in_turn(runners, field, rounds)
                    break
                except Unavailable as error:  # without the one that has ended, from the first round again
                    ended = next(runner for runner in runners if runner.ended)
                    self._leave_out(ended.peer, error)
                    runners.remove(ended)
        finally:
            for runner in runners:
                runner.stop()
        first = answers[self.peers[0].name] if self.peers else []
        for name, own in answers.items():
            ratios = [_ms(a) / _ms(b) for a, b in zip(own, first, strict=True)]
            told = {"seconds": statistics.median(_ms(a) for a in own) / 1e3, "times_first": statistics.median(ratios)}
            if own[0]["network_ms"] is not None:
                told["network_seconds"] = statistics.median(a["network_ms"] for a in own) / 1e3
            timing = {k: float(f"{v:.4g}") for k, v in told.items()}
            timing["peak_rss_mb"] = round(max(a["peak_rss_mb"] for a in own))
            self.reached[name].setdefault("threads", {})[str(threads)] = timing
            self.reached[name]["cells_in_field"] = own[0].get("cells")

    def _started(self, peer: Peer, threads: int) -> Runner | None:
        log = self.work / "logs" / f"{_file_name(peer)}.{threads}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        runner = Runner(peer, self._pythons[peer.name], threads, log)
        self._with(runner, lambda runner: runner.start())
        if runner.ended:
            return None
        self.reached[peer.name]["versions"] = runner.versions
        return runner

    def _with(self, runner: Runner, work: Callable[[Runner], None]) -> None:
        try:
            work(runner)
        except Unavailable as error:
            self._leave_out(runner.peer, error)
        except BaseException:
            runner.stop()
            raise

    def _leave_out(self, peer: Peer, error: Unavailable) -> None:
        print(f"{peer.name} is left out: {error}", flush=True)
        self.left_out[peer.name] = str(error)
        self.peers = [p for p in self.peers if p != peer]
        self.reached.pop(peer.name, None)


