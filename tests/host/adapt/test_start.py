"""The model to start from is the one that made the corrections, if nobody names another."""

import dataclasses
from pathlib import Path

import pytest

from cellseg_device.errors import InputError
from cellseg_device.model import card as cards
from cellseg_device.model.interpreter import bundled_path
from cellseg_device.system import files
from cellseg_host.adapt.start import find

HERE = Path("corrections.zip")


def card_of(name="nuclei"):
    return cards.read_from(bundled_path(name).read_bytes())


def test_without_a_word_it_is_the_nucleus_model():
    found = find(None, None, "", HERE)
    assert (found.path, found.card.name) == (bundled_path(), "nuclei")
    assert found.settings()["border_weight"] == 12


def test_it_is_the_bundled_model_that_made_the_corrections():
    digest = files.sha256(bundled_path("chamber"))
    renamed = dataclasses.replace(card_of("chamber"), name="renamed")
    assert find(None, renamed, digest, HERE).path == bundled_path("chamber")
    other = find(None, card_of("chamber"), "0" * 64, HERE)
    assert other.path == bundled_path("chamber")
    assert "another version" in other.why


def test_a_model_of_the_user_s_has_to_be_named(tmp_path):
    with pytest.raises(InputError, match="made with the model mine, which does not come with cellseg: name its file"):
        find(None, dataclasses.replace(card_of(), name="mine"), "0" * 64, HERE)
    path = tmp_path / "mine.tflite"
    path.write_bytes(bundled_path().read_bytes())
    assert find(path, card_of("chamber"), "", HERE).path == path


def test_what_cannot_be_trained_on_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a gate"):
        find(bundled_path("kind"), None, "", HERE)
    card = card_of()
    card = dataclasses.replace(card, provenance={"settings": {"arch": "unet"}})
    (tmp_path / "unet.tflite").write_bytes(cards.attach(bundled_path().read_bytes(), card))
    with pytest.raises(InputError, match="of the network unet, which adapt does not train: use a model of edge-unet"):
        find(tmp_path / "unet.tflite", None, "", HERE)
