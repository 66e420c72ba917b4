"""One model for all images, or those that a gate chooses from."""

import dataclasses
import hashlib

import gates
import numpy as np
import pytest

from cellseg_device.errors import ModelError
from cellseg_device.image.pixels import Image
from cellseg_device.model import card as cards
from cellseg_device.model.interpreter import bundled_path
from cellseg_device.pipeline import models
from cellseg_device.pipeline.gate import classify, open_gate
from cellseg_device.pipeline.renewal import Renewal
from cellseg_device.pipeline.segmenter import Segmenter
from cellseg_device.pipeline.selftest import known_image

DARK = known_image()
BRIGHT, RED, BLUE = (Image(gates.tinted(*colour)) for colour in ((200, 200, 200), (220, 150, 120), (90, 120, 220)))


@pytest.fixture
def folder(tmp_path, model_path):
    """A gate, tint.tflite, and chamber.tflite beside it."""
    gates.write_gate(tmp_path / "tint.tflite")
    gates.write_model(tmp_path / "chamber.tflite", model_path)
    return tmp_path


def load(folder, model=None, gate="tint.tflite", **options):
    lines = []
    path = folder / gate if gate else gate
    loaded = models.load(model, path, options.get("threads", 1), options.get("accelerator", "cpu"), lines.append)
    assert lines == options.get("lines", [])
    return loaded


def write_wanting(folder):
    """A gate that names a model which is neither beside it nor bundled."""
    wanting = dataclasses.replace(gates.DARK, model="tissue")
    gates.write_gate(folder / "tint.tflite", gates.kinds_gate([wanting, gates.BRIGHT, gates.RED, gates.BLUE]))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_gate_chooses_a_model_for_each_image(folder):
    loaded = load(folder)
    chosen = [(loaded.choose(image), name) for image, name in ((DARK, "nuclei"), (BRIGHT, "chamber"), (RED, "nuclei"))]
    assert [choice.model.card.name for choice, _ in chosen] == [name for _, name in chosen]
    assert all(choice.is_segmented and choice.counter is choice.model for choice, _ in chosen)
    flagged = chosen[2][0].verdict
    assert (flagged.found.name, flagged.flag) == (
        "smear",
        "unlike what the models are made for: looks like a blood smear",
    )
    assert chosen[0][0].verdict.flag == ""


def test_an_image_that_is_like_no_class_is_flagged(folder, tmp_path):
    gate = dataclasses.replace(gates.kinds_gate(), sure_from=1.0)
    path = gates.write_gate(tmp_path / "tint.tflite", gate)
    verdict = classify(DARK, open_gate(path))
    assert verdict.found.name == gates.DARK.name
    assert not verdict.is_sure
    assert verdict.flag == f"unlike what the models are made for: looks only a little like {gates.DARK.looks_like}"


def test_what_is_taken_for_empty_is_by_the_gate(folder):
    choice = load(folder).choose(BLUE)
    assert not choice.is_segmented
    assert choice.counter is choice.gate
    assert choice.verdict.flag == "no cells looked for: looks like nothing at all"


def test_a_model_is_loaded_when_it_is_needed_and_once(folder, monkeypatch):
    loaded = load(folder)
    done, real = [], models.accelerators.load
    monkeypatch.setattr(models.accelerators, "load", lambda path, *rest: done.append(path) or real(path, *rest))
    loaded.others["chamber"]._load = lambda: models.accelerators.load(folder / "chamber.tflite", 1, "cpu", print)
    loaded.choose(DARK)
    assert done == []
    first, second = loaded.choose(BRIGHT), loaded.choose(BRIGHT)
    assert first.model is second.model
    assert done == [folder / "chamber.tflite"]


def test_a_model_by_the_user_counts_every_image(folder, model_path):
    mine = gates.write_model(folder / "mine.tflite", model_path)
    loaded = load(folder, model=mine)
    assert {loaded.choose(image).model.card.name for image in (DARK, BRIGHT, RED)} == {"mine"}
    assert loaded.choose(RED).verdict.flag
    assert not loaded.choose(BLUE).is_segmented


def test_without_a_gate_there_is_one_model(folder):
    for loaded in (load(folder, model=bundled_path(), gate=None), models.load(None, "none", 1, "cpu", print)):
        assert (loaded.gate_sha256, loaded.counters) == (None, {"": digest(bundled_path())})
        assert loaded.choose(RED) == models.Choice(loaded.default)


def test_a_count_is_as_it_would_be_made(folder):
    loaded, plain = load(folder), load(folder, model=bundled_path(), gate=None)
    paths = folder / "tint.tflite", bundled_path(), folder / "chamber.tflite"
    gate, nuclei, chamber = map(digest, paths)
    assert loaded.counters == {"fluorescence": nuclei, "chamber": chamber, "smear": nuclei, "blank": gate}
    assert loaded.have_made("chamber", chamber, gate)
    assert not loaded.have_made("chamber", nuclei, gate)
    assert not loaded.have_made("fluorescence", nuclei, None)
    assert not loaded.have_made("fluorescence", nuclei, "0" * 64)
    assert not loaded.have_made("", nuclei, gate)
    assert plain.have_made("", nuclei, None)
    assert not plain.have_made("fluorescence", nuclei, gate)


def test_models_beside_the_gate_come_before_those_that_are_bundled(folder, model_path):
    loaded = load(folder)
    assert [*loaded.others] == ["chamber"]
    own = gates.write_model(folder / "nuclei.tflite", model_path, cell_diameter_px=20.0)
    loaded = load(folder)
    assert {name: other.path for name, other in loaded.others.items()} == {
        "nuclei": own,
        "chamber": folder / "chamber.tflite",
    }
    assert loaded.choose(DARK).model.card.cell_diameter_px == 20.0
    assert loaded.choose(RED).model.path == bundled_path()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda path: write_wanting(path.parent),
            "tint.tflite needs the model tissue: put tissue.tflite beside it, or name one",
        ),
        (lambda path: path.write_bytes(b"no model"), "chamber.tflite is not a .tflite model"),
        (lambda path: gates.write_gate(path), "chamber.tflite: only says what an image shows, not where"),
    ],
    ids=["missing", "damaged", "classifier"],
)
def test_a_model_that_cannot_be_used_is_told_at_the_start(folder, spoil, reason):
    spoil(folder / "chamber.tflite")
    with pytest.raises(ModelError, match=reason):
        load(folder)


def test_the_models_of_a_gate_have_to_be_compiled_where_only_an_edge_tpu_will_do(folder, model_path):
    with pytest.raises(ModelError, match=r"chamber.tflite is not compiled for an Edge TPU"):
        models.LaterModel(folder / "chamber.tflite", 1, "edgetpu", print)
    compiled = folder / "chamber_edgetpu.tflite"
    compiled.write_bytes(b"compiled\0TFL3")
    with pytest.raises(ModelError, match=r"chamber_edgetpu.tflite is not a .tflite model"):
        models.LaterModel(folder / "chamber.tflite", 1, "auto", print)
    assert [*models.LaterModel(folder / "chamber.tflite", 1, "cpu", print).files] == [folder / "chamber.tflite"]


def test_the_bundled_gate_is_for_those_who_name_nothing(tmp_path):
    assert models.gate_path(None, None) == bundled_path("kind")
    assert models.gate_path(tmp_path / "mine.tflite", None) is None
    assert models.gate_path(None, "none") is None
    assert models.gate_path(None, tmp_path / "gate.tflite") == tmp_path / "gate.tflite"


def test_a_gate_that_answers_otherwise_than_it_should_gives_a_warning(folder):
    path = folder / "tint.tflite"
    data = path.read_bytes()
    card = dataclasses.replace(cards.read_from(data), known_answer=cards.KnownAnswer("0" * 64, 0))
    path.write_bytes(cards.attach(data, card))
    lines = []
    models.load(None, path, 1, "cpu", lines.append)
    (line,) = lines
    assert "what the gate tint was evaluated with" in line


def test_a_gate_and_its_models_are_renewed(folder, model_path, warnings):
    renewal = Renewal(load(folder), lambda: load(folder), warnings.append, settle_s=0)
    assert renewal.due() is None
    gates.write_model(folder / "chamber.tflite", model_path, cell_diameter_px=40.0)
    renewed = renewal.due()
    assert renewed.choose(BRIGHT).model.card.cell_diameter_px == 40.0
    gates.write_gate(folder / "tint.tflite", gates.kinds_gate([gates.BRIGHT, gates.DARK, gates.RED, gates.BLUE]))
    renewed = renewal.due()
    assert renewed.choose(DARK).model.card.name == "chamber"
    assert renewal.due() is None
    assert [line.partition(":")[0] for line in warnings] == [
        f"{folder / 'chamber.tflite'} was replaced",
        f"{folder / 'tint.tflite'} was replaced",
    ]


def test_a_model_that_no_image_has_needed_is_as_safe_from_its_file(folder, warnings):
    """What is refused, or gone, does not take the place of the one that was there at the start."""
    path = folder / "chamber.tflite"
    loaded = load(folder)
    renewal = Renewal(loaded, lambda: load(folder), warnings.append, settle_s=0)
    data = path.read_bytes()
    path.write_bytes(cards.attach(b"\x18\0\0\0TFL3" + b"\0" * 64, cards.read_from(data)))
    assert renewal.due() is None
    assert "chamber.tflite" in warnings[0]
    assert warnings[0].endswith(": counting goes on with the model as it was")
    path.unlink()
    assert renewal.due() is None
    assert loaded.choose(BRIGHT).model.card.name == "chamber"


def test_a_new_gate_without_its_models_is_refused_and_the_old_one_stays(folder, warnings):
    renewal = Renewal(load(folder), lambda: load(folder), warnings.append, settle_s=0)
    write_wanting(folder)
    assert renewal.due() is None
    (line,) = warnings
    assert "needs the model tissue" in line
    assert line.endswith(": counting goes on with the model as it was")


def test_a_field_without_a_cell_is_not_flagged_for_being_like_no_class(tmp_path):
    classes = [dataclasses.replace(kind, model=None) for kind in gates.KINDS]
    gate = dataclasses.replace(gates.kinds_gate(classes), sure_from=1.0)
    segmenter = Segmenter(gate=gates.write_gate(tmp_path / "tint.tflite", gate))
    with_cells, without = (segmenter(pixels).counts for pixels in (DARK.pixels, np.full((64, 96), 20, np.uint8)))
    assert with_cells.count > 0
    assert "looks only a little like fluorescence" in with_cells.flags
    assert without.count == 0
    assert "looks only a little like" not in without.flags
