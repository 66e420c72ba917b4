"""The card travels inside the model file, and one that says nonsense is refused."""

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest

from cellseg_device import card as cards
from cellseg_device.card import Card, Join, KnownAnswer, Output, Separation
from cellseg_device.errors import ModelError

FLATBUFFER = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 8
CARD = Card(
    name="nuclei",
    quantization="int8",
    outputs=(Output("foreground", 1, "logit"), Output("distance", 0, "probability")),
    stride=16,
    margin=80,
    low_percentile=1.0,
    high_percentile=99.9,
    cell_diameter_px=18.1,
    separation=Separation(0.4, 0.35, 24, 0.8, Join(-2.5, -1.25, 0.2, 0.75, 0.5, -1.0)),
    cell_diameter_um=8.5,
    known_answer=KnownAnswer("ab" * 32, 26),
    provenance={"data": "dsb2018", "µ": ["é", 1, None]},
    metrics={"ap50": 0.75},
)
BARE = Card("bare", "float32", (Output("foreground", 0, "logit"),), 1, 0, 0, 100, 10.0)


def changed(**fields):
    """The card's JSON with other fields; those that are ``...`` are left out."""
    raw = json.loads(CARD.to_json()) | fields
    return json.dumps({name: value for name, value in raw.items() if value is not ...})


@pytest.mark.parametrize("card", [CARD, BARE], ids=lambda card: card.name)
def test_a_card_comes_back_as_it_went_in(card):
    packed = cards.attach(FLATBUFFER, card)
    assert cards.read_from(packed) == card
    assert cards.strip(packed) == FLATBUFFER
    assert cards.parse(card.to_json().encode()) == card


def test_the_same_card_gives_the_same_bytes_and_replaces_the_former():
    packed = cards.attach(FLATBUFFER, CARD)
    assert cards.attach(FLATBUFFER, CARD) == packed
    assert cards.attach(cards.attach(FLATBUFFER, BARE), CARD) == packed


def test_strip_leaves_a_file_without_a_card_alone():
    assert cards.strip(FLATBUFFER) == FLATBUFFER
    assert cards.strip(b"") == b""


def test_zipfile_reads_the_card_as_text():
    with zipfile.ZipFile(io.BytesIO(cards.attach(FLATBUFFER, CARD))) as archive:
        assert archive.namelist() == ["cellseg.json"]
        assert archive.testzip() is None
        raw = json.loads(archive.read("cellseg.json").decode())
    assert raw["format"] == cards.CARD_FORMAT
    assert raw["provenance"]["µ"] == ["é", 1, None]


def test_the_interpreter_runs_a_file_with_its_card(model, model_path):
    data = model_path.read_bytes()
    assert len(cards.strip(data)) < len(data)
    from cellseg_device.model import Interpreter

    answers = []
    for content in (data, cards.strip(data)):
        interpreter = Interpreter(model_content=content, num_threads=1)
        detail = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(detail["index"], (1, 64, 64, 3))
        interpreter.allocate_tensors()
        rng = np.random.default_rng(0)
        interpreter.set_tensor(detail["index"], rng.integers(-128, 128, (1, 64, 64, 3)).astype(detail["dtype"]))
        interpreter.invoke()
        answers.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
    assert all(np.array_equal(a, b) for a, b in zip(*answers, strict=True))


FOREGROUND = {"quantity": "foreground", "index": 0, "scale": "logit"}
JOIN = [field.name for field in dataclasses.fields(Join)]
MAY_BE_MISSING = {"cell_diameter_um", "known_answer", "provenance", "metrics"}
REQUIRED = [field.name for field in dataclasses.fields(Card) if field.name not in MAY_BE_MISSING]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_card_without_a_field_is_refused_and_names_it(name):
    with pytest.raises(ModelError, match=f"incomplete or wrong.*{name}.*quantize the model again"):
        cards.parse(changed(**{name: ...}))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"outputs": []}, "no foreground output"),
        ({"outputs": [{"quantity": "distance", "index": 0, "scale": "logit"}]}, "no foreground output"),
        ({"outputs": [{"quantity": "foreground", "index": 0}]}, "scale"),
        ({"outputs": [{"quantity": "foreground", "index": 0, "scale": "per cent"}]}, "unknown scale 'per cent'"),
        ({"outputs": [FOREGROUND, FOREGROUND | {"quantity": "mood"}]}, "unknown quantity 'mood'"),
        ({"outputs": "foreground"}, "incomplete or wrong"),
        ({"outputs": [FOREGROUND | {"index": "0"}]}, "index is not a whole number"),
        ({"outputs": [FOREGROUND, FOREGROUND | {"index": 1}]}, "two outputs of one quantity"),
        ({"stride": 16.5}, "not a whole number"),
        ({"margin": 80.0}, "not a whole number"),
        ({"separation": {"min_area_px": None}}, "not a whole number"),
        ({"known_answer": {"cells": 3}}, "sha256"),
        ({"known_answer": 3}, "incomplete or wrong"),
        ({"stride": 0}, "stride below 1"),
        ({"stride": "16"}, "incomplete or wrong"),
        ({"margin": 70}, "margin is not a multiple of the stride"),
        ({"margin": -16}, "margin"),
        ({"low_percentile": 99.9, "high_percentile": 1.0}, "percentiles out of order"),
        ({"low_percentile": -1}, "percentiles"),
        ({"high_percentile": 101}, "percentiles"),
        ({"high_percentile": float("nan")}, "percentiles"),
        ({"separation": {"foreground": 1.0}}, "threshold not between 0 and 1"),
        ({"separation": {"foreground": 0}}, "threshold not between 0 and 1"),
        ({"separation": {"rise": 0}}, "rise not positive"),
        ({"separation": {"seeds": 0.5}}, "seeds"),
        ({"separation": {"confidence": 1}}, "confidence not between 0 and 1"),
        ({"separation": {"join": {"bias": 1.0}}}, "depth"),
        ({"separation": {"join": dict.fromkeys(JOIN, float("inf"))}}, "weight of the join is no number"),
        ({"separation": {"join": dict.fromkeys(JOIN, "1")}}, "weight of the join is no number"),
        ({"cell_diameter_px": 0}, "cell diameter"),
        ({"cell_diameter_px": float("inf")}, "cell diameter"),
        ({"colour": "blue"}, "colour"),
        ({"format": 2}, "not of format 3.*update cellseg-device"),
        ({"format": ...}, "not of format 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_card_that_says_nonsense_is_refused(fields, reason):
    with pytest.raises(ModelError, match=reason) as caught:
        cards.parse(changed(**fields))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", b"\xff\xfe\0", "{} {}"])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ModelError, match=r"the model's card is not (JSON|of format 3)"):
        cards.parse(text)


def other_zip(name):
    data = io.BytesIO(FLATBUFFER)
    data.seek(0, io.SEEK_END)
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr(name, "labels")
    return data.getvalue()


@pytest.mark.parametrize("data", [FLATBUFFER, b"", other_zip("labels.txt")], ids=["no zip", "nothing", "other zip"])
def test_a_model_without_a_card_is_refused_with_what_to_do(data):
    with pytest.raises(ModelError, match=r"has no card, or is cut off: .*make it with 'cellseg-host quantize'"):
        cards.read_from(data)


def test_metadata_of_others_makes_way_for_the_card():
    packed = cards.attach(other_zip("labels.txt"), CARD)
    assert cards.strip(packed) == FLATBUFFER
    assert cards.read_from(packed) == CARD


def outcome(data):
    try:
        return cards.read_from(data)
    except ModelError as error:
        return error.message


def test_damage_gives_the_card_or_a_model_error():
    packed = cards.attach(FLATBUFFER, CARD)
    rng = np.random.default_rng(5)
    for _ in range(2000):
        damaged = bytearray(packed)
        for _ in range(rng.integers(1, 4)):
            directory = rng.random() < 0.5  # at the end, and small
            damaged[rng.integers(len(packed) - 100 if directory else len(FLATBUFFER), len(packed))] = rng.integers(256)
        if rng.random() < 0.2:
            del damaged[rng.integers(len(damaged)) :]
        found = outcome(bytes(damaged))
        assert found == CARD or isinstance(found, str)
        assert damaged.startswith(cards.strip(bytes(damaged)))


def test_a_card_with_one_wrong_byte_is_damaged():
    packed = bytearray(cards.attach(FLATBUFFER, CARD))
    packed[len(FLATBUFFER) + 200] ^= 1
    assert "card is damaged" in outcome(bytes(packed))


def test_files_that_are_no_model_are_named(tmp_path):
    other = tmp_path / "other.tflite"
    for content in (b"", b"TFL3", b"\x89PNG\r\n\x1a\n" + bytes(50)):
        other.write_bytes(content)
        with pytest.raises(ModelError, match=r"other\.tflite: is not a \.tflite model"):
            cards.read_model_file(other)
    for path in (tmp_path, tmp_path / "none.tflite", other / "a.tflite"):
        with pytest.raises(ModelError, match=r"the model cannot be read \(.+\): check its path"):
            cards.read_model_file(path)
