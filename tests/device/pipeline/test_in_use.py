"""The model in use of a results folder: taken up, refused, exchanged with the one before."""

import dataclasses
import hashlib
import time

import gates
import pytest

from cellseg_device.errors import InputError, ModelError
from cellseg_device.image.pixels import Image
from cellseg_device.model import card as cards
from cellseg_device.model.interpreter import bundled_path
from cellseg_device.pipeline import in_use, models
from cellseg_device.pipeline.in_use import Loading
from cellseg_device.pipeline.renewal import Renewal
from cellseg_device.pipeline.selftest import known_image

BRIGHT = Image(gates.tinted(200, 200, 200))


def made(model_path, name, start=None, **fields):
    """A model of this name, made by `adapt` from another."""
    data = model_path.read_bytes()
    provenance = {} if start is None else {"adapted": {"start": start}}
    return cards.attach(data, dataclasses.replace(cards.read_from(data), name=name, provenance=provenance, **fields))


def wrong(model_path, name="wrong"):
    return made(model_path, name, known_answer=cards.KnownAnswer("0" * 64, 7))


@pytest.fixture
def lines():
    return []


@pytest.fixture
def loading(tmp_path, lines):
    gates.write_gate(tmp_path / "tint.tflite")
    (tmp_path / "chamber.tflite").write_bytes(bundled_path("chamber").read_bytes())
    (tmp_path / "out").mkdir()
    return Loading(tmp_path / "out", None, tmp_path / "tint.tflite", 1, "cpu", lines.append)


def names(found):
    return found.default.card.name, *(f"{name}={other.card.name}" for name, other in found.others.items())


def test_without_one_the_models_are_the_bundled_ones(loading, lines):
    assert names(loading.first()) == names(loading.again()) == ("nuclei", "chamber=chamber")
    assert lines == []


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (None, ("mine", "chamber=chamber")),
        ({"name": "nuclei"}, ("mine", "chamber=chamber")),
        ({"name": "nuclei-nano"}, ("mine", "chamber=chamber")),
        ({"name": "chamber"}, ("nuclei", "chamber=mine")),
        ({"name": "theirs", "kind": "chamber"}, ("nuclei", "chamber=mine")),
    ],
)
def test_it_replaces_the_model_of_its_kind(loading, model_path, lines, start, expected):
    in_use.use(loading.out, made(model_path, "mine", start))
    found = loading.first()
    assert names(found) == expected
    assert found.choose(known_image()).model.card.name == expected[0]
    assert found.choose(BRIGHT).model.card.name == expected[1].partition("=")[2]
    assert lines == []


def test_a_tuned_model_is_of_the_kind_that_it_was_tuned_from(model_path):
    card = cards.read_from(made(model_path, "mine"))
    assert models.kind_of(card) == "mine"
    tuned = dataclasses.replace(card, provenance={"tuning": {"start": {"name": "chamber"}}})
    assert models.kind_of(tuned) == "chamber"
    assert models.kind_of(dataclasses.replace(card, provenance={"tuning": {"start": 3}, "adapted": []})) == "mine"


def test_without_a_gate_it_counts_all_images(loading, model_path):
    in_use.use(loading.out, made(model_path, "mine", {"name": "chamber"}))
    found = dataclasses.replace(loading, gate="none").first()
    assert (names(found), found.gate) == (("mine",), None)


def test_a_model_that_is_named_counts_instead(loading, model_path):
    in_use.use(loading.out, made(model_path, "mine"))
    named = dataclasses.replace(loading, model=bundled_path(), gate=None)
    assert names(named.first()) == ("nuclei",)
    assert named.awaited is None


@pytest.mark.parametrize("damage", [lambda path: b"no model", wrong], ids=["damaged", "self-test"])
def test_one_that_is_refused_gives_way_to_the_one_before(loading, model_path, lines, damage):
    path = in_use.path_in(loading.out)
    in_use.use(loading.out, made(model_path, "first"))
    in_use.use(loading.out, made(model_path, "second"))
    path.write_bytes(damage(model_path))
    assert names(loading.first())[0] == "first"
    (line,) = lines
    assert line.startswith(str(path))
    assert line.endswith(f": counting with {path.with_name('before.tflite')}, the model that was in use before it")
    with pytest.raises(ModelError):
        loading.again()


def test_without_one_before_the_bundled_models_count(loading, model_path, lines):
    in_use.use(loading.out, wrong(model_path))
    assert names(loading.first())[0] == "nuclei"
    (line,) = lines
    assert line.endswith(
        "in-use.tflite does not answer as its card says (the self-test): copy it again, or make it anew: "
        "counting with the bundled models"
    )


def test_where_no_model_answers_as_it_should_it_is_the_computer_and_a_warning(loading, model_path, lines, monkeypatch):
    in_use.use(loading.out, made(model_path, "mine"))
    monkeypatch.setattr(models.accelerators.selftest, "check", lambda model: f"{model.card.name} differs")
    assert names(loading.first())[0] == "mine"
    assert lines == ["mine differs"]


def test_it_is_exchanged_with_the_one_before(tmp_path, model_path):
    first, second = made(model_path, "first"), made(model_path, "second")
    with pytest.raises(InputError, match="never had a model of its own in use: the bundled ones count"):
        in_use.back(tmp_path)
    in_use.use(tmp_path, first)
    assert (in_use.back(tmp_path), in_use.before(tmp_path).card.name) == (None, "first")
    assert not in_use.path_in(tmp_path).exists()
    assert in_use.back(tmp_path).card.name == "first"
    assert in_use.before(tmp_path) is None
    in_use.use(tmp_path, second)
    in_use.use(tmp_path, second)  # which changes nothing
    assert (in_use.in_use(tmp_path).card.name, in_use.before(tmp_path).card.name) == ("second", "first")
    assert in_use.back(tmp_path).card.name == "first"
    assert in_use.before(tmp_path).card.name == "second"
    assert in_use.path_in(tmp_path).read_bytes() == first
    assert {one.sha256 for one in in_use.kept(tmp_path)} == {
        hashlib.sha256(data).hexdigest() for data in (first, second)
    }


def test_what_finds_no_cells_is_not_kept(tmp_path):
    gate = gates.write_gate(tmp_path / "tint.tflite").read_bytes()
    for data in (gate, b"no model", b""):
        with pytest.raises(ModelError):
            in_use.use(tmp_path, data)
    assert [path.name for path in (tmp_path / "models").iterdir()] == []
    (tmp_path / "models" / ("0" * 16 + ".tflite")).write_bytes(b"damaged")
    assert in_use.kept(tmp_path) == []


def test_a_running_watch_takes_it_up_and_goes_back(loading, model_path, lines):
    renewal = Renewal(loading.first(), loading.again, lines.append, settle_s=0, awaited=loading.awaited)
    path = in_use.path_in(loading.out)
    assert renewal.due() is None
    mine = in_use.use(loading.out, made(model_path, "mine"))
    assert names(renewal.due()) == ("mine", "chamber=chamber")
    assert renewal.due() is None
    path.write_bytes(wrong(model_path))
    assert renewal.due() is None
    in_use.use(loading.out, made(model_path, "other", {"name": "chamber"}))
    assert names(renewal.due()) == ("nuclei", "chamber=other")
    in_use.back(loading.out)
    renewal.due()
    path.unlink()
    assert names(renewal.due()) == ("nuclei", "chamber=chamber")
    assert renewal.due() is None
    assert lines[0] == f"{path} is used from now on: counting goes on with it (mine, {mine.sha256[:12]})"
    assert lines[1].endswith(
        "(the self-test): copy it again, or make it anew: counting goes on with the model as it was"
    )
    assert not [line for line in lines if "is gone" in line]


def test_one_that_comes_is_waited_for_until_it_has_settled(loading, model_path, lines):
    renewal = Renewal(loading.first(), loading.again, lines.append, settle_s=0.2, awaited=loading.awaited)
    in_use.use(loading.out, made(model_path, "mine"))
    assert renewal.due() is None
    time.sleep(0.3)
    assert renewal.due().default.card.name == "mine"


def test_no_link_leads_models_elsewhere(tmp_path, model_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="models is a link: remove it"):
        in_use.use(tmp_path, made(model_path, "mine"))
    assert list((tmp_path / "elsewhere").iterdir()) == []
