"""Maps for edits: by the model that counted, at the image's size, in line with the labels that it gave."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from cellseg_device.correcting import edits, maps
from cellseg_device.errors import InputError
from cellseg_device.model.interpreter import bundled_path


def shown(counted, work):
    return maps.predicted(work.image, work.counting, counted.entry, counted.out)


@pytest.mark.parametrize("options", [(), ("--diameter", "30px"), ("--region", "circle")])
def test_a_cell_that_is_removed_comes_back_with_a_click(count, options):
    counted = count(*options, height=97, width=131, seed=4, count=9)
    work = counted.work()
    found = shown(counted, work)
    assert found.foreground.shape == found.landscape.shape == work.labels.shape
    assert found.note == ""
    machine = work.labels.copy()
    back = 0
    for cell in range(1, int(machine.max()) + 1):
        rows, cols = np.nonzero(machine == cell)
        peak = np.argmax(found.landscape[rows, cols])
        point = float(rows[peak]), float(cols[peak])
        work.edit("remove", lambda labels, at=point: edits.remove(labels, at))
        given = dataclasses.asdict(found)
        options = {name: given[name] for name in ("threshold", "prominence", "most_px")}
        work.edit(
            "add",
            lambda labels, at=point, options=options: edits.add(
                labels, at, found.foreground, found.landscape, **options, field=work.image.field
            ),
        )
        new = work.labels == work.labels[round(point[0]), round(point[1])]
        both = np.count_nonzero(new & (machine == cell)) / np.count_nonzero(new | (machine == cell))
        back += both > 0.8
        work.undo()
        work.undo()
    assert back == machine.max()
    assert np.array_equal(work.labels, machine)


def test_a_click_on_the_ground_adds_nothing(counted):
    work = counted.work()
    found = shown(counted, work)
    row, col = np.unravel_index(np.argmin(found.foreground.astype(int)), found.foreground.shape)
    with pytest.raises(InputError, match="nothing is recognised there"):
        edits.add(
            work.labels,
            (float(row), float(col)),
            found.foreground,
            found.landscape,
            threshold=found.threshold,
            prominence=found.prominence,
            most_px=found.most_px,
        )


def test_the_model_that_counted_is_looked_for_also_among_those_of_the_folder(counted, tmp_path):
    bundled = bundled_path("nuclei")
    assert maps.found_model(counted.entry, counted.out) == (bundled, "")
    own = tmp_path / "own.tflite"
    shutil.copy(bundled, own)
    with open(own, "ab") as file:
        file.write(b" ")
    counted.put(model="own", model_sha256=maps._digest(own))
    path, note = maps.found_model(counted.entry, counted.out)
    assert path == bundled
    assert note == "The model own, which counted this image, is not here: nuclei helps instead."
    (counted.out / "models").mkdir()
    shutil.copy(own, counted.out / "models" / "in-use.tflite")
    assert maps.found_model(counted.entry, counted.out) == (counted.out / "models" / "in-use.tflite", "")
