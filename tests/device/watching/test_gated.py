"""Images that go through a gate: their models, flags and rows, and what is done again."""

import csv

import cv2
import gates
import numpy as np
import pytest

from cellseg_device.cells import region
from cellseg_device.cells.counting import Counting
from cellseg_device.image.source import source_at
from cellseg_device.pipeline import models, predict
from cellseg_device.results import image_files
from cellseg_device.results.entry import DONE, FAILED
from cellseg_device.units import Length
from cellseg_device.watching.worker import Worker


@pytest.fixture
def files(tmp_path, model_path):
    folder = tmp_path / "models"
    folder.mkdir()
    gates.write_gate(folder / "tint.tflite")
    gates.write_model(folder / "chamber.tflite", model_path)
    return folder


def load(folder, **options):
    return models.load(options.get("model"), folder / "tint.tflite", 1, "cpu", print)


@pytest.fixture
def images(tmp_path, draw_blobs, write_image):
    """An image of each class, by its name."""
    dark = draw_blobs()
    drawn = {
        "fluorescence": dark,
        "chamber": 255 - dark,
        "smear": gates.tinted(220, 150, 120)[..., ::-1],
        "blank": gates.tinted(90, 120, 220)[..., ::-1],
    }
    paths = {name: write_image(tmp_path / f"{name}.png", pixels) for name, pixels in drawn.items()}
    return {name: source_at(path, path.name) for name, path in paths.items()}


def rows(out):
    with open(out / "counts.csv", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def work_through(worker, images):
    sources = list(images.values())
    outcomes = [worker.process(s, following=f) for s, f in zip(sources, [*sources[1:], None], strict=True)]
    worker.output.refresh_tables(now=True)
    return dict(zip(images, outcomes, strict=True))


def test_each_image_gets_the_model_of_its_class_and_its_row_says_so(files, images, output):
    loaded = load(files)
    worker = Worker(loaded, output)
    outcomes = work_through(worker, images)
    assert {outcome.status for outcome in outcomes.values()} == {DONE}
    table = rows(output.folder)
    by = {"fluorescence": "nuclei", "chamber": "chamber", "smear": "nuclei", "blank": "tint"}
    for name, outcome in outcomes.items():
        row, entry = table[f"{name}.png"], output.ledger.get(f"{name}.png")
        assert (row["class"], row["model"]) == (name, by[name])
        assert 0.5 < float(row["class_probability"]) <= 1
        assert (outcome.class_name, outcome.flags) == (name, row["flags"])
        assert entry.model_sha256 == digest_of(loaded, by[name])
        made_from = image_files.read_provenance(output.folder / f"{name}.labels.tif")
        assert (made_from.model, made_from.model_sha256) == (entry.model, entry.model_sha256)
        assert made_from.gate_sha256 == entry.gate_sha256 == loaded.gate.sha256
    assert "looks like a blood smear" in table["smear.png"]["flags"]
    assert "unlike" not in table["fluorescence.png"]["flags"] + table["chamber.png"]["flags"]
    worker.close()


def digest_of(loaded, name):
    return next(part.sha256 for part in loaded.parts if part.card.name == name)


def test_nothing_is_looked_for_in_what_is_taken_for_empty(files, images, output, monkeypatch):
    monkeypatch.setattr(predict, "predict_maps", lambda *_: pytest.fail("the network ran"))
    worker = Worker(load(files), output, extras=["overlay"])
    outcome = worker.process(images["blank"])
    assert (outcome.status, outcome.cells, outcome.cells_in_frame) == (DONE, 0, 0)
    assert outcome.flags.split("; ")[0] == "no cells looked for: looks like nothing at all"
    labels = cv2.imread(str(output.folder / "blank.labels.tif"), cv2.IMREAD_UNCHANGED)
    assert (labels.shape, labels.any()) == ((96, 128), False)
    assert len((output.folder / "blank.cells.csv").read_text().splitlines()) == 1
    assert (output.folder / "blank.overlay.jpg").exists()
    worker.close()


def test_labels_are_those_of_the_model_alone(files, images, output, worker_with, tmp_path):
    """A gate changes nothing but which model counts."""
    gated = Worker(load(files), output)
    gated.process(images["fluorescence"])
    first = cv2.imread(str(output.folder / "fluorescence.labels.tif"), cv2.IMREAD_UNCHANGED)
    plain = worker_with()
    assert plain.former(images["fluorescence"], strict=True) is None
    plain.process(images["fluorescence"])
    second = cv2.imread(str(output.folder / "fluorescence.labels.tif"), cv2.IMREAD_UNCHANGED)
    assert first.max() > 3
    assert np.array_equal(first, second)
    entry = output.ledger.get("fluorescence.png")
    assert (entry.gate_sha256, entry.counts.class_name, entry.counts.class_probability) == (None, "", None)
    gated.close()


def test_what_was_counted_under_the_same_gate_stays_and_under_another_is_done_again(files, images, output):
    loaded = load(files)
    worker = Worker(loaded, output)
    work_through(worker, images)
    assert all(worker.former(source, strict=True) is not None for source in images.values())
    assert others(output, loaded) == 0
    worker.close()
    gates.write_gate(files / "tint.tflite", gates.kinds_gate(side_px=32))
    again = load(files)
    worker = Worker(again, output)
    assert others(output, again) == len(images)
    assert all(worker.former(source, strict=True) is None for source in images.values())
    assert all(worker.former(source, strict=False) is not None for source in images.values())
    worker.close()


def test_another_second_model_concerns_its_images_alone(files, images, output, model_path):
    worker = Worker(load(files), output)
    work_through(worker, images)
    worker.close()
    gates.write_model(files / "chamber.tflite", model_path, cell_diameter_px=19.0)
    again = load(files)
    worker = Worker(again, output)
    assert others(output, again) == 1
    assert [name for name, source in images.items() if worker.former(source, strict=True) is None] == ["chamber"]
    worker.close()


def test_a_class_that_has_another_model_now_is_done_again(files, images, output):
    """Also where its former model is still that of other classes."""
    worker = Worker(models.load(files / "chamber.tflite", files / "tint.tflite", 1, "cpu", print), output)
    work_through(worker, images)
    worker.close()
    again = load(files)
    worker = Worker(again, output)
    assert others(output, again) == 2
    again_too = [name for name, source in images.items() if worker.former(source, strict=True) is None]
    assert again_too == ["fluorescence", "smear"]
    worker.close()


def others(output, loaded):
    return output.ledger.count_made_otherwise(loaded.counters, loaded.gate_sha256, Counting().key())


def test_a_second_model_that_fails_to_load_fails_its_images_alone(files, images, output):
    loaded = load(files)
    (files / "chamber.tflite").unlink()
    worker = Worker(loaded, output)
    outcomes = work_through(worker, images)
    assert [name for name, outcome in outcomes.items() if outcome.status == FAILED] == ["chamber"]
    assert "chamber.tflite: the model cannot be read" in outcomes["chamber"].reason
    worker.close()


def test_region_channel_and_diameter_work_beside_a_gate(files, images, output):
    for counting in (
        Counting(region=region.parse("circle")),
        Counting(channel="green"),
        Counting(diameter=Length(30, "px")),
    ):
        worker = Worker(load(files), output, counting=counting)
        outcome = worker.process(images["smear" if counting.channel else "chamber"])
        assert outcome.status == DONE, outcome.reason
        assert outcome.class_name == "chamber"  # one channel of the smear is bright, and has no tint
        worker.close()
