import json
import os
import pty
import sys

import pytest

from cellseg_device.commands.console import Report
from cellseg_device.results.entry import DONE, FAILED
from cellseg_device.watching.worker import UNCHANGED, Outcome

OUTCOMES = [
    Outcome("a.png", DONE, 1, 12.34, "a.labels.tif", cells_in_frame=1),
    Outcome("b.png", FAILED, reason="is empty"),
    Outcome("c.png", UNCHANGED, 1200, labels="c.labels.tif", cells_in_frame=1178),
]


def reported(as_json):
    report = Report(as_json=as_json, total=len(OUTCOMES))
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
    assert summary.startswith("3 images: 1 done, 1 failed, 1 done before; 1,201 cells, 1,179 in the counting frame; ")
    assert summary.endswith("; out")
    assert printed.err.splitlines() == ["error: b.png: is empty", "warning: take care"]


def test_cells_outside_of_the_counting_frame_are_told(capsys):
    report = Report(as_json=False)
    for in_frame in (1071, 1083):
        report.add(Outcome("a.png", DONE, 1083, 12.34, "a.labels.tif", cells_in_frame=in_frame))
    report.finish("out")
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [
        "a.png  1,083 cells, 1,071 in the counting frame  12 ms",
        "a.png  1,083 cells  12 ms",
    ]
    assert last.startswith("2 images: 2 done, 0 failed; 2,166 cells, 2,154 in the counting frame; ")


def test_json_has_standard_output_for_itself(capsys):
    reported(True)
    printed = capsys.readouterr()
    objects = [json.loads(line) for line in printed.out.splitlines()]
    assert [found["status"] for found in objects] == ["done", "failed", "unchanged"]
    assert objects[0] == {
        "image": "a.png",
        "status": "done",
        "cells": 1,
        "cells_in_frame": 1,
        "ms": 12.3,
        "labels": "a.labels.tif",
        "reason": None,
        "flags": "",
        "surround": "",
        "class": "",
        "class_probability": None,
        "made": [],
    }
    assert printed.err.splitlines()[-1].startswith("3 images: ")


def test_files_that_were_made_of_an_earlier_result_are_said(capsys):
    Report(as_json=False).add(Outcome("c.png", UNCHANGED, 2, cells_in_frame=2, made=("c.overlay.jpg", "c.rois.zip")))
    assert capsys.readouterr().out == "c.png  2 cells, counted before; made now: c.overlay.jpg, c.rois.zip\n"


@pytest.mark.parametrize("total", [3, None, 1])
def test_progress_on_a_terminal_only_where_the_end_is_known(monkeypatch, capsys, total):
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        report = Report(as_json=False, total=total)
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
