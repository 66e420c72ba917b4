"""The card travels inside the model file, and one that says nonsense is refused."""

import dataclasses
import io
import json
import os
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card, Join, KnownAnswer, Output, Separation
from cellseg_device.model.gate_card import Gate, GateClass

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
GATE = Gate(
    (GateClass("nuclei", "segment", "nuclei", "stained nuclei"), GateClass("smear", "flag", None, "a blood smear")),
    256,
    "field",
)
KIND = Card("kind", "int8", (Output("kind", 0, "logit"),), 32, 0, 1.0, 99.9, 18.1, gate=GATE)
BARE = Card("bare", "float32", (Output("foreground", 0, "logit"),), 1, 0, 0, 100, 10.0)


def changed(**fields):
    """The card's JSON with other fields; those that are ``...`` are left out."""
    raw = json.loads(CARD.to_json()) | fields
    return json.dumps({name: value for name, value in raw.items() if value is not ...})


@pytest.mark.parametrize("card", [CARD, BARE, KIND], ids=lambda card: card.name)
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
    from cellseg_device.model.interpreter import Interpreter

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
MAY_BE_MISSING = {"cell_diameter_um", "known_answer", "gate", "provenance", "metrics"}
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
        (
            {"outputs": [{"quantity": "foreground", "index": 0, "scale": "per cent"}]},
            "'scale' is \"per cent\", not one of",
        ),
        ({"outputs": [FOREGROUND, FOREGROUND | {"quantity": "mood"}]}, "'quantity' is \"mood\", not one of"),
        ({"outputs": "foreground"}, "incomplete or wrong"),
        ({"outputs": {"foreground": 0}}, "'outputs' is not a list"),
        ({"outputs": [["foreground", 0, "logit"]]}, "an output is .+, not an object"),
        ({"outputs": [FOREGROUND | {"index": "0"}]}, "'index' is \"0\", not a whole number"),
        ({"outputs": [FOREGROUND | {"index": True}]}, "'index' is true, not a whole number"),
        ({"outputs": [FOREGROUND | {"index": -1}]}, "'index' is -1, not a whole number from 0"),
        ({"outputs": [FOREGROUND | {"unit": "px"}]}, 'unknown field "unit"'),
        ({"outputs": [FOREGROUND, FOREGROUND | {"index": 1}]}, "two outputs of one quantity"),
        ({"stride": 16.5}, "'stride' is 16.5, not a whole number"),
        ({"margin": 80.0}, "'margin' is 80.0, not a whole number"),
        ({"separation": {"min_area_px": None}}, "not a whole number"),
        ({"known_answer": {"cells": 3}}, "sha256"),
        ({"known_answer": 3}, "incomplete or wrong"),
        ({"name": ""}, "'name' is \"\", not one line"),
        ({"name": ["nuclei"]}, "'name' is .+, not one line"),
        ({"name": "a\nb"}, r"'name' is \"a\\nb\", not one line"),
        ({"name": "a\x1b[31mb"}, r"'name' is \"a\\u001b\[31mb\", not one line"),
        ({"name": "\ud800"}, r"\"\\ud800\" is not text"),
        ({"name": "a" * 256}, "not one line of 1 to 255 characters"),
        ({"quantization": "int4"}, "'quantization' is \"int4\", not one of int8"),
        ({"quantization": ["int8"]}, "'quantization' is .+, not one of"),
        ({"stride": 0}, "'stride' is 0, not a whole number from 1 to 256"),
        ({"stride": 2**30}, "'stride' is 1073741824, not a whole number from 1 to 256"),
        ({"stride": True}, "'stride' is true, not a whole number"),
        ({"stride": 10**30}, "a number has 31 digits"),
        ({"stride": "16"}, "incomplete or wrong"),
        ({"margin": 70}, "the margin 70 is not a multiple of the stride 16"),
        ({"margin": -16}, "margin"),
        ({"margin": 4096}, "'margin' is 4096, not a whole number from 0 to 2048"),
        ({"low_percentile": 99.9, "high_percentile": 1.0}, "the percentiles 99.9 and 1 are out of order"),
        ({"low_percentile": -1}, "'low_percentile' is -1, not a number from 0 to 100"),
        ({"high_percentile": 101}, "'high_percentile' is 101, not a number"),
        ({"high_percentile": float("nan")}, "'high_percentile' is null, not a number"),
        ({"separation": []}, r"'separation' is \[\], not an object"),
        ({"separation": {"foreground": 1.0}}, "'foreground' is 1.0, not a number from 1e-06 to 0.999999"),
        ({"separation": {"foreground": 0}}, "'foreground' is 0, not a number"),
        ({"separation": {"rise": 0}}, "'rise' is 0, not a number"),
        ({"separation": {"rise": 1e308}}, r"'rise' is 1e\+308, not a number from 1e-06 to 1000"),
        ({"separation": {"min_area_px": -1}}, "'min_area_px' is -1, not a whole number"),
        ({"separation": {"seeds": 0.5}}, "seeds"),
        ({"separation": {"confidence": 1}}, "'confidence' is 1, not a number"),
        ({"separation": {"join": {"bias": 1.0}}}, "'depth' is missing"),
        ({"separation": {"join": dict.fromkeys(JOIN, float("inf"))}}, "'bias' is null, not a number"),
        ({"separation": {"join": dict.fromkeys(JOIN, 1e308)}}, r"'bias' is 1e\+308, not a number"),
        ({"separation": {"join": dict.fromkeys(JOIN, "1")}}, "'bias' is \"1\", not a number"),
        ({"cell_diameter_px": 0}, "'cell_diameter_px' is 0, not a number"),
        ({"cell_diameter_px": float("inf")}, "'cell_diameter_px' is null, not a number"),
        ({"cell_diameter_px": 5e-324}, "'cell_diameter_px' is 5e-324, not a number"),
        ({"cell_diameter_um": "8"}, "'cell_diameter_um' is \"8\", not a number"),
        ({"known_answer": {"sha256": "AB" * 32, "cells": 3}}, "not a SHA-256 of 64 digits"),
        ({"known_answer": {"sha256": "ab" * 32, "cells": 65_536}}, "'cells' is 65536, not a whole number"),
        ({"provenance": ["dsb2018"]}, r"'provenance' is \[\"dsb2018\"\], not an object"),
        ({"metrics": 0.9}, "'metrics' is 0.9, not an object"),
        ({"metrics": {"of": "\udfff"}}, "is not text"),
        ({"colour": "blue"}, "colour"),
        ({"format": 2}, "does not have format 3.*update cellseg-device"),
        ({"format": ...}, "does not have format 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_card_that_says_nonsense_is_refused(fields, reason):
    with pytest.raises(ModelError, match=reason) as caught:
        cards.parse(changed(**fields))
    assert is_one_line(caught.value.message)


def is_one_line(message):
    """Whether a message can be printed as one line."""
    return message.isprintable() and len(message) < 400


def gate_with(first=None, **fields):
    """The gate's JSON with other fields, and others of its first class."""
    gate = json.loads(KIND.to_json())["gate"]
    gate["classes"][0] |= first or {}
    return gate | fields


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"gate": 3}, "'gate' is 3, not an object"),
        ({"gate": {}}, "'classes' is missing"),
        ({"gate": gate_with(classes=[])}, "'classes' is not a list of 2 to 64"),
        ({"gate": gate_with(classes=gate_with()["classes"] * 40)}, "'classes' is not a list of 2 to 64"),
        ({"gate": gate_with(classes=gate_with()["classes"] * 2)}, "two classes of one name"),
        ({"gate": gate_with(classes=[1, 2])}, "a class is 1, not an object"),
        ({"gate": gate_with(first={"name": "a\nb"})}, "'name' is .+, not one line"),
        ({"gate": gate_with(first={"follows": "shout"})}, "'follows' is \"shout\", not one of segment, empty, flag"),
        ({"gate": gate_with(first={"model": "../../etc/passwd"})}, "'model' is not a name of letters"),
        ({"gate": gate_with(first={"model": ".."})}, "'model' is not a name of letters"),
        ({"gate": gate_with(first={"model": ""})}, "'model' is \"\", not one line"),
        ({"gate": gate_with(first={"looks_like": None})}, "'looks_like' is null, not one line"),
        ({"gate": gate_with(first={"colour": 1})}, 'unknown field "colour"'),
        ({"gate": gate_with(side_px=8)}, "'side_px' is 8, not a whole number from 16 to 4096"),
        ({"gate": gate_with(side_px=2**20)}, "'side_px' is 1048576, not a whole number"),
        ({"gate": gate_with(sees="circles")}, "'sees' is \"circles\", not one of field, squares"),
        ({"gate": gate_with(sees="squares")}, "a gate that sees squares only says whether there is a cell"),
        ({"gate": gate_with(depth=1)}, 'unknown field "depth"'),
        ({"outputs": [FOREGROUND]}, "a model with maps is no gate"),
        (
            {
                "outputs": [FOREGROUND | {"quantity": "presence"}],
                "gate": gate_with(classes=[gate_with()["classes"][0] | {"name": n} for n in "abc"]),
            },
            "a gate that says whether there is a cell has two classes",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_gate_that_says_nonsense_is_refused(fields, reason):
    with pytest.raises(ModelError, match=reason) as caught:
        cards.parse(json.dumps(json.loads(KIND.to_json()) | fields))
    assert is_one_line(caught.value.message)


def test_only_the_card_of_a_gate_names_it():
    """Earlier versions refuse fields that they do not know."""
    assert "gate" not in json.loads(CARD.to_json())
    assert json.loads(KIND.to_json())["gate"]["classes"][1]["looks_like"] == "a blood smear"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("null", "it is not an object"),
        ("[]", "it is not an object"),
        ("3", "it is not an object"),
        (b"\xff\xfe\0", "can't decode byte"),
        ("{} {}", "Extra data"),
        ('{"stride": 16, "stride": 8}', 'the field "stride" is listed twice'),
        ('{"metrics": ' + "1" * 5000 + "}", "a number has 5000 digits"),
        ('{"a":' * 40 + "1" + "}" * 40, "nested more than 32 deep"),
        ('{"a":' + "[" * 100_000, "nested too deeply"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_is_no_json_object_is_refused(text, reason):
    with pytest.raises(ModelError, match=rf"the model's card is not JSON \(.*{reason}") as caught:
        cards.parse(text)
    assert is_one_line(caught.value.message)


def test_a_card_that_is_too_long_is_refused():
    for text in (changed(metrics={"a": "b" * 300_000}), b" " * 300_000):
        with pytest.raises(ModelError, match="longer than 256 KiB: quantize the model again"):
            cards.parse(text)


def test_numbers_that_json_does_not_have_are_read_as_none():
    text = changed(metrics={"auc": float("nan"), "loss": float("inf")}).replace("Infinity", "1e999")
    assert cards.parse(text).metrics == {"auc": None, "loss": None}


def test_a_card_that_could_not_be_read_again_is_not_written():
    for fields in ({"name": "a\nb"}, {"name": "\udcff"}, {"stride": 2**30}, {"metrics": {"a": "é" * 150_000}}):
        with pytest.raises(ModelError, match="the model's card"):
            cards.attach(FLATBUFFER, dataclasses.replace(CARD, **fields))


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
        with pytest.raises(ModelError, match=r"other\.tflite is not a \.tflite model"):
            cards.read_model_file(other)
    with pytest.raises(ModelError, match=r": name a \.tflite file in it"):
        cards.read_model_file(tmp_path)
    for path in (tmp_path / "none.tflite", other / "a.tflite", tmp_path / "a\0.tflite"):
        with pytest.raises(ModelError, match=r"the model cannot be read \(.+\): check its path"):
            cards.read_model_file(path)


@pytest.mark.parametrize(
    ("name", "what"), [("", "a training run"), ("/model.keras", "a file of a training run")], ids=["run", "network"]
)
def test_a_training_run_is_to_be_quantized_first(tmp_path, name, what):
    run = tmp_path / "my run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "model.keras").write_bytes(b"PK\3\4" + bytes(50))
    with pytest.raises(ModelError) as caught:
        cards.read_model_file(Path(f"{run}{name}"))
    assert caught.value.message == (
        f"{run}{name} is {what}, not a .tflite model: quantize it first: cellseg-host quantize '{run}' --int8 --data "
        "DATASET --out NAME.tflite"
    )


@pytest.mark.timeout(20)
def test_only_a_regular_file_of_the_size_of_a_model_is_read(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("fifo", "device", "socket", "dangling", "loop", "sparse")]
    fifo, device, server, dangling, loop, sparse = paths
    os.mkfifo(fifo)
    device.symlink_to("/dev/zero")
    dangling.symlink_to("nowhere")
    loop.symlink_to("loop")
    with open(sparse, "wb") as file:
        file.write(FLATBUFFER)
        file.truncate(6 << 30)
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(server.name)
        for path in paths:
            with pytest.raises(ModelError, match=rf"{path}: the model cannot be read \(.+\): check its path") as caught:
                cards.read_model_file(path)
            assert is_one_line(caught.value.message)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.tflite"
    read = os.pread

    def changed_by(number):
        def reading(*arguments):
            os.truncate(path, len(FLATBUFFER) + number)
            return read(*arguments)

        return reading

    for number in (1, -1):
        path.write_bytes(FLATBUFFER)
        monkeypatch.setattr(os, "pread", changed_by(number))
        with pytest.raises(ModelError, match="the model changed while it was read: try again"):
            cards.read_model_file(path)
