import json
import os
import pty
import sys

import pytest

from cellseg_device.console import Report
from cellseg_device.ledger import DONE, FAILED
from cellseg_device.worker import UNCHANGED, Outcome

OUTCOMES = [
    Outcome("a.png", DONE, 1, 12.34, "a.labels.tif"),
    Outcome("b.png", FAILED, reason="is empty"),
    Outcome("c.png", UNCHANGED, 1200, labels="c.labels.tif"),
]


def reported(as_json):
    report = Report(as_json, total=len(OUTCOMES))
    for outcome in OUTCOMES:
        report.add(outcome)
    report.warn("take care")
    report.finish("out")
    return report


def test_text(capsys):
    assert reported(False).exit_code == 1
    printed = capsys.readouterr()
    first, summary = printed.out.splitlines()
    assert first == "a.png  1 cell  12 ms"
    assert summary.startswith("3 images: 1 done, 1 failed, 1 done before; 1,201 cells; ")
    assert summary.endswith("; out")
    assert printed.err.splitlines() == ["b.png: is empty", "warning: take care"]


def test_json_has_standard_output_for_itself(capsys):
    reported(True)
    printed = capsys.readouterr()
    objects = [json.loads(line) for line in printed.out.splitlines()]
    assert [found["status"] for found in objects] == ["done", "failed", "unchanged"]
    assert objects[0] == {
        "image": "a.png",
        "status": "done",
        "cells": 1,
        "ms": 12.3,
        "labels": "a.labels.tif",
        "reason": None,
        "flags": "",
    }
    assert printed.err.splitlines()[-1].startswith("3 images: ")


@pytest.mark.parametrize("total", [3, None, 1])
def test_progress_on_a_terminal_only_where_the_end_is_known(monkeypatch, capsys, total):
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        report = Report(False, total=total)
        for outcome in OUTCOMES:
            report.add(outcome)
        report.finish("out")
        terminal.write("end")
        terminal.flush()
        shown = ""
        while "end" not in shown:
            shown += os.read(leader, 10_000).decode()
    os.close(leader)
    assert ("2 of 3, " in shown) == (total == 3)
    assert shown.endswith("\x1b[Kend" if total == 3 else "end")
