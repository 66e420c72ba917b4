"""A power cut at any instant of a correction: what was acknowledged is there, and no count is used that is not true."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from simulated_disk import materialise, recorded

from cellseg_device.correcting import edits
from cellseg_device.results import corrected_labels, corrections
from cellseg_device.results.corrections import BEGUN, CHECKED


@pytest.fixture
def probe(counted, tmp_path):
    """A second results folder, to look at what a cut leaves."""
    out = tmp_path / "probe"
    shutil.copytree(counted.out, out)
    return dataclasses.replace(counted, out=out)


def removed(work, cell):
    rows, cols = np.nonzero(work.labels == cell)
    point = float(rows[len(rows) // 2]), float(cols[len(cols) // 2])
    return work.edit("remove", lambda labels: edits.remove(labels, point))


def left_by(state, probe):
    """The labels after a cut, and the count that is then used; None for the machine's."""
    folder = corrections.folder_of(probe.out)
    shutil.rmtree(folder, ignore_errors=True)
    materialise(state, folder)
    work = probe.work()
    row = corrections.get(probe.out, probe.entry)
    if row is not None and row.state == CHECKED:
        selection = corrected_labels.counted(work.labels, work.image, work.counting)
        assert row.corrected_count == len(selection.cells)
    return work


def test_a_power_cut_leaves_the_labels_before_or_after_a_step(counted, probe):
    with corrections.writing(counted.out) as folder:
        pass
    work = counted.work()
    steps = {
        "begin": lambda: removed(work, 1),
        "edit": lambda: removed(work, 2),
        "undo": work.undo,
        "save": work.save,
        "redo": work.redo,
        "check": lambda: work.mark(CHECKED, by="Ann"),
        "edit what was checked": lambda: removed(work, 3),
        "undo what is in the label image": lambda: (work.save(), work.undo(), work.undo()),
        "take back": lambda: work.mark(BEGUN),
    }
    looked_at = 0
    for name, step in steps.items():
        before = work.labels.copy()
        with recorded(folder) as states:
            step()
        after = work.labels.copy()
        for state in states:
            found = left_by(state, probe).labels
            is_between = name.startswith("undo what") and np.count_nonzero(found != before) > 0
            assert np.array_equal(found, before) or np.array_equal(found, after) or is_between, name
            looked_at += 1
        with recorded(folder) as states:
            pass
        for state in states:  # acknowledged
            again = left_by(state, probe)
            assert np.array_equal(again.labels, after), name
            removed(again, 5)
            again.undo()
    assert looked_at > 50
