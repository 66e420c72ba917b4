"""Peers compared: each a process in its own environment, asked for labels in turn, all scored by the same code."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from environments import Environment, UnavailableError, ready, size_mb

from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluation import evaluate

RUNNERS = Path(__file__).resolve().parent / "runners"
TURN_MS = 500  # a peer that is quicker is run again within its turn


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
    scored : bool
        Whether its labels mean something; otherwise only its network is timed.
    """

    name: str
    about: str
    environment: Environment
    command: tuple[str, ...]
    scored: bool = True


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
        limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
        answers, answering = os.pipe()
        self._answers = os.fdopen(answers)
        with log.open("wb") as file, os.fdopen(answering, "wb"), on_cores(threads):
            self._process = subprocess.Popen(
                [str(python), str(RUNNERS / peer.command[0]), *peer.command[1:], "--threads", str(threads)],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                text=True,
                pass_fds=(answering,),
                env=variables() | limits | {"ANSWERS_FD": str(answering)},
            )

    def versions(self) -> dict[str, str]:
        """Of what it runs; waits until it has loaded, and is to be called once, before `ask`.

        Raises
        ------
        UnavailableError
            If it ends.
        """
        versions: dict[str, str] = self._read()["versions"]
        return versions

    def ask(self, image: Path, labels: Path | None = None, mask: Path | None = None) -> dict[str, Any]:
        """Have one image segmented; see ``runners/protocol.py``.

        Raises
        ------
        UnavailableError
            If it ends.
        """
        request = {k: None if v is None else str(v) for k, v in (("image", image), ("labels", labels), ("mask", mask))}
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_read` tells why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._read()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            code = self._process.wait()
            said = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
            raise UnavailableError(f"stopped ({code}): {said[-1].strip() if said else 'without a word'}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def variables() -> dict[str, str]:
    """The environment variables of a peer, without what would have it find or behave like the host's packages."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "TF_", "KERAS_"))}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "2"}


@contextlib.contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Bind what is started in this block to the first `count` cores."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


def accuracy(runner: Runner, data: Dataset, entries: Sequence[Entry], folder: Path) -> dict[str, evaluate.Summary]:
    """Return the accuracy of a peer by modality and set, from the label images that it writes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    scores = []
    for entry in entries:
        labels, mask = folder / f"{entry.id}.npy", folder / f"{entry.id}.mask.npy"
        runner.ask((data.root / "images" / f"{entry.id}.png").resolve(), labels, mask)
        scores.append(evaluate.score_labels(entry, data.labels(entry), numbered(np.load(labels)), np.load(mask)))
    return evaluate.by_group(scores)


def numbered(labels: np.ndarray) -> np.ndarray:
    """The same cells, numbered from 1 without gaps."""
    present = np.unique(labels[labels > 0])
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint16)
    table[present] = np.arange(1, len(present) + 1)
    return table[labels]


def _ms(answer: dict[str, Any]) -> float:
    """From the file to the labels; of the network alone where there are no labels."""
    return float(answer["ms"] if "cells" in answer else answer["network_ms"])


def turn(runner: Runner, field: Path) -> dict[str, Any]:
    """The median answer of a turn, which lasts half a second and at least one run."""
    answers = [runner.ask(field)]
    while sum(answer["ms"] for answer in answers) < TURN_MS:
        answers.append(runner.ask(field))
    return sorted(answers, key=_ms)[len(answers) // 2]


def timed(turns: Sequence[dict[str, Any]], first: Sequence[dict[str, Any]] | None) -> dict[str, float]:
    """Medians over the rounds.

    Parameters
    ----------
    turns, first : sequence of dict
        The answers of a peer, and in the same rounds those of the one that it is measured by.

    Returns
    -------
    dict
        ``seconds`` from the file to the labels, or of the network alone where there are none; ``network_seconds`` where
        there is a network; ``times_first``, the median of the rounds' ratios; ``peak_rss_mb``.
    """
    found = {"seconds": statistics.median(map(_ms, turns)) / 1e3}
    if turns[0]["network_ms"] is not None:
        found["network_seconds"] = statistics.median(answer["network_ms"] for answer in turns) / 1e3
    if first is not None:
        found["times_first"] = statistics.median(_ms(a) / _ms(b) for a, b in zip(turns, first, strict=True))
    found["peak_rss_mb"] = max(answer["peak_rss_mb"] for answer in turns)
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def file_name(peer: Peer) -> str:
    """Its name, fit for a file's."""
    return "".join(c if c.isalnum() else "-" for c in peer.name.lower())


class Contest:
    """Who takes part, what each has reached, and who is left out, with the reason.

    Parameters
    ----------
    peers : sequence of Peer
        The others are measured by the first.
    environments : Path
        Holds the environments.
    work : Path
        Label images and logs go there.

    Attributes
    ----------
    reached : dict of str to dict
        By name.
    left_out : dict of str to str
    """

    def __init__(self, peers: Sequence[Peer], environments: Path, work: Path) -> None:
        self.reached: dict[str, dict[str, Any]] = {}
        self.left_out: dict[str, str] = {}
        self._peers, self._work = tuple(peers), work
        self._pythons: dict[str, Path] = {}
        for peer in peers:
            with self._leaving_out(peer):
                python = self._pythons[peer.name] = ready(peer.environment, environments)
                self.reached[peer.name] = {"about": peer.about, "install_mb": round(size_mb(python), 1)}

    def score(self, data: Dataset, entries: Sequence[Entry], threads: int) -> None:
        """Measure the accuracy of all that are scored, one after the other."""
        for peer in self._left():
            if not peer.scored:
                continue
            print(f"{peer.name}: {len(entries)} images", flush=True)
            with self._leaving_out(peer), self._runner(peer, threads) as runner:
                self.reached[peer.name]["versions"] = runner.versions()
                groups = accuracy(runner, data, entries, self._work / "labels" / file_name(peer))
                self.reached[peer.name]["accuracy"] = {group: vars(summary) for group, summary in groups.items()}

    def time(self, field: Path, threads: int, rounds: int) -> None:
        """Seconds of all for the field, in turn, on so many cores; one run before is not counted."""
        turns: dict[str, list[dict[str, Any]]] = {}
        with contextlib.ExitStack() as stack:
            runners = {peer: stack.enter_context(self._runner(peer, threads)) for peer in self._left()}
            for peer, runner in runners.items():
                with self._leaving_out(peer):
                    self.reached[peer.name]["versions"] = runner.versions()
                    runner.ask(field)
                    turns[peer.name] = []
            for number in range(rounds):
                print(f"{threads} thread(s), round {number + 1} of {rounds}", flush=True)
                for peer in self._left():
                    with self._leaving_out(peer):
                        turns[peer.name].append(turn(runners[peer], field))
        first = turns[self._peers[0].name] if self._peers[0].name in self.reached else None
        for peer in self._left():
            timing = timed(turns[peer.name], first)
            self.reached[peer.name].setdefault("threads", {})[str(threads)] = timing
            self.reached[peer.name]["cells_in_field"] = turns[peer.name][0].get("cells")

    def _left(self) -> list[Peer]:
        return [peer for peer in self._peers if peer.name in self.reached]

    def _runner(self, peer: Peer, threads: int) -> Runner:
        log = self._work / "logs" / f"{file_name(peer)}-{threads}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        return Runner(peer, self._pythons[peer.name], threads, log)

    @contextlib.contextmanager
    def _leaving_out(self, peer: Peer) -> Iterator[None]:
        """Do without a peer that is unavailable in this block."""
        try:
            yield
        except UnavailableError as error:
            print(f"{peer.name} is left out: {error}", flush=True)
            self.left_out[peer.name] = str(error)
            self.reached.pop(peer.name, None)
