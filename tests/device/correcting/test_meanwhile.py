"""Who packs or exports corrected labels while somebody goes on to correct them: no half-done labels are taken."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_device.correcting import edits, requests, teaching
from cellseg_device.errors import InputError
from cellseg_device.image.sandbox import decode_here
from cellseg_device.results import corrected_export, corrected_labels, corrections
from cellseg_device.results.corrections import CHECKED
from cellseg_device.results.export import Originals
from cellseg_device.web import correcting


@pytest.fixture
def reopened(counted):
    """An image that was checked, and then edited again; with its row as of before that."""
    work = counted.work()
    work.mark(CHECKED)
    row = corrections.get(counted.out, counted.entry)
    rows, cols = np.nonzero(work.labels == 1)
    point = float(rows[len(rows) // 2]), float(cols[len(cols) // 2])
    work.edit("remove", lambda labels: edits.remove(labels, point))
    return row


def test_no_formats_are_made_of_labels_that_are_being_corrected(counted, reopened):
    done = corrected_export.export(counted.out, counted.entry, reopened, ("geojson",))
    assert done.made == ()
    assert done.reason == "its correction: is being corrected again: mark it as checked first"
    assert not (counted.out / "corrections" / "a.geojson").exists()


def test_no_model_learns_from_labels_that_are_being_corrected(counted, reopened):
    originals = Originals.under((counted.folder,), counted.out, decode_here)
    with pytest.raises(InputError, match="is being corrected again: mark it as checked first"):
        teaching.taught(counted.out, counted.entry, originals, None)


def test_a_mark_that_a_kill_kept_from_the_table_leaves_the_count_and_the_labels(counted, monkeypatch):
    work = counted.work()
    work.mark(CHECKED)
    row = corrections.get(counted.out, counted.entry)

    def killed(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr(corrections, "put", killed)
    with pytest.raises(KeyboardInterrupt):
        work.mark(CHECKED)
    assert corrections.get(counted.out, counted.entry) == row
    assert np.array_equal(corrected_labels.checked(counted.out, row), counted.machine())
    shown = correcting.facts(counted.out, counted.entry)
    assert (shown["revision"], shown["corrected"]) == (row.revision + 1, row.corrected_count)


@pytest.mark.parametrize(
    "wrong",
    [
        {"what": "remove", "at": [10**400, 0]},
        {"what": "erase", "points": [[0, 0]], "radius": 10**400},
        {"what": "erase", "points": [[float("nan"), 0]], "radius": 1},
        {"what": ["remove"], "at": [0, 0]},
    ],
)
def test_numbers_beyond_all_bounds_are_no_edit(counted, wrong):
    with pytest.raises(InputError, match="that is not an edit: load the page again"):
        requests.make(counted.work(), {"revision": 0, **wrong}, lambda: pytest.fail("no maps are needed"))
