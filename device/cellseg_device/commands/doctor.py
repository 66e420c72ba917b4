"""``cellseg-device doctor``: what works on this computer and what does not, and what to do about it."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command
from cellseg_device.commands.common import PATH, gate_option
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, InputError

if TYPE_CHECKING:
    from cellseg_device.doctor.finding import Finding, Subject
    from cellseg_device.pipeline.models import GateChoice

_LONGEST_S = 60.0


@click.command(cls=Command, short_help="Check everything that counting depends on.")
@click.option("--out", type=PATH, default=Path(), help="Folder for the results.  [default: the current folder]")
@click.option("--model", type=PATH, help="A .tflite model with a card.  [default: the bundled one]")
@gate_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def doctor(*, out: Path, model: Path | None, gate: GateChoice, as_json: bool) -> None:
    """Check everything that counting depends on, and say what to do about what does not work.

    That is Python and its runtime, the processor, the answers of model and gate for a built-in field, cameras and Edge
    TPU and the rights to use them, the disk for the results, temperature, power, clock, and the services. Exit code 0
    if there is no problem, else 1.

    \b
    Examples:
      cellseg-device doctor
      cellseg-device doctor --out /results --json
    """
    from cellseg_device.doctor.finding import OK, PROBLEM, WARNING, Subject
    from cellseg_device.system.rights import is_there

    if is_there(out) and not out.is_dir():
        raise InputError(f"{out} is not a folder: choose another --out")
    findings = []
    for finding in _findings(Subject(out, model, gate)):
        findings.append(finding)
        if not as_json:
            click.echo(f"{finding.state:8} {finding.name:12} {finding.text}")
            if finding.fix:
                click.echo(f"{'':21} -> {finding.fix}")
    count = {state: sum(f.state == state for f in findings) for state in (OK, WARNING, PROBLEM)}
    if as_json:
        result = {"findings": [dataclasses.asdict(f) for f in findings], "problems": count[PROBLEM]}
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        click.echo(f"{count[OK]} ok, {count[WARNING]} to note, {count[PROBLEM]} to fix")
    raise SystemExit(EXIT_IMAGES_FAILED if count[PROBLEM] else EXIT_OK)


def _findings(subject: Subject) -> Iterator[Finding]:
    """Yield every finding, each within its time limit."""
    from cellseg_device.doctor import board, devices, services, software, storage

    checks = {
        "python": software.python,
        "runtime": software.runtime,
        "processor": software.simd,
        "model": software.model,
        "gate": software.gate,
        "camera": devices.camera,
        "edge tpu": devices.edge_tpu,
        "rights": devices.rights,
        "disk": storage.room,
        "writing": storage.writing,
        "temperature": board.temperature,
        "power": board.power,
        "clock": board.clock,
        "service": services.services,
    }
    for name, check in checks.items():
        yield _within_limit(name, check, subject)


def _within_limit(name: str, check: Callable[[Subject], Finding], subject: Subject) -> Finding:
    """Return a finding, even if a disk or a device hangs."""
    from cellseg_device.doctor.finding import PROBLEM, Finding

    future: Future[Finding] = Future()

    def work() -> None:
        try:
            future.set_result(check(subject))
        except BaseException as error:  # noqa: BLE001 - raised again below: it is a bug
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(_LONGEST_S)
    except FutureTimeout:
        return Finding(
            name, PROBLEM, f"no answer within {_LONGEST_S:.0f} s: a disk or a device hangs", "restart the computer"
        )
