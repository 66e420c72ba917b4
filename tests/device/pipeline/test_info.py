"""What is shown of a model, whose card may say anything."""

import dataclasses

from cellseg_device.model import card as cards
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import info


def test_text_in_a_card_does_not_move_the_cursor(model_path, tmp_path):
    data = model_path.read_bytes()
    provenance = {"note": "a\x1b[2J\nb", "x\ry": {"\u202e": "\x07"}}
    path = tmp_path / "a.tflite"
    path.write_bytes(cards.attach(data, dataclasses.replace(cards.read_from(data), provenance=provenance)))
    text = info.as_text(info.describe(Model(path)))
    assert "\n    note: a\\x1b[2J\\nb\n    x\\ry: " in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_the_description_needs_no_file_any_more(model_path, tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(model_path.read_bytes())
    model = Model(path)
    path.unlink()
    assert info.describe(model)["file_bytes"] == model_path.stat().st_size
