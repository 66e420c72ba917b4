"""Whatever is in a card, or in the zip that holds it: a card, or a ModelError of one line, in little memory."""

import copy
import io
import json
import subprocess
import sys
import zipfile

import gates
import numpy as np
import pytest

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards
from cellseg_device.pipeline import accelerator, selftest
from cellseg_device.pipeline.gate import classify, open_gate

FLATBUFFER = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 8


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


NASTY = [
    *(None, True, False, 0, -1, 1, 3, 16, 2**30, 2**63, -(2**70), 10**300),
    *(0.5, -0.0, 1e308, -1e308, 5e-324, 1e-7, float("nan"), float("inf")),
    *("", "x", "int8", "logit", "\ud800", "a\udfffb", "a\nb", "\x1b[31m", "\u202e", "\0", "a" * 300, "é" * 300),
    *([], {}, [{}], {"": {}}, {"a": [1, {"b": None}]}, [0] * 50, ["foreground", 1, "logit"], nested(20), nested(200)),
]


def places(value, at=()):
    """The paths of all values inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield (*at, key)
        yield from places(inside, (*at, key))


def mutated(raw, rng):
    """A card's JSON with one to three changes: a value replaced, left out, wrapped, or under another key."""
    raw = json.loads(json.dumps(raw))
    for _ in range(rng.integers(1, 4)):
        found = list(places(raw))
        if not found:
            break
        *way, key = found[rng.integers(len(found))]
        parent = raw
        for step in way:
            parent = parent[step]
        deed = rng.random()
        if deed < 0.6:
            parent[key] = copy.deepcopy(NASTY[rng.integers(len(NASTY))])
        elif deed < 0.75:
            del parent[key]
        elif deed < 0.9:
            parent[key] = [parent[key]] if rng.random() < 0.5 else {"a": parent[key]}
        elif isinstance(parent, dict):
            parent[rng.choice(["name", "a\nb", "stride", "\udc80"])] = parent.pop(key)
    return raw


def broken(text, rng):
    """A text with one to three changes of its own: cut, doubled, a character replaced."""
    for _ in range(rng.integers(1, 4)):
        start, end = sorted(int(n) for n in rng.integers(0, len(text) + 1, 2))
        inside = rng.choice(["", text[start:end] * 2, "[" * 2000, "9" * 5000, "\\ud800", "NaN", '"', "\0", "1e999"])
        text = text[:start] + str(inside) + text[end:]
    return text


def packed(text, flatbuffer=FLATBUFFER, **options):
    """A model file with any text, or bytes, for its card."""
    data = io.BytesIO(flatbuffer)
    data.seek(0, io.SEEK_END)
    with zipfile.ZipFile(data, "a", **options) as archive:
        archive.writestr(cards.CARD_NAME, text)
    return data.getvalue()


def check_message(error, path=""):
    assert error.message.startswith(str(path))
    assert error.message.isprintable(), error.message
    assert 20 < len(error.message) < 700


def check_cards(raw, count, seed):
    """Check what comes of mutated cards; return those that are accepted."""
    rng = np.random.default_rng(seed)
    accepted = []
    for number in range(count):
        text = json.dumps(mutated(raw, rng))
        if number % 4 == 0:
            text = broken(text, rng)
        try:
            card = cards.read_from(packed(text.encode()))
        except ModelError as error:
            check_message(error)
        else:
            assert cards.parse(card.to_json()) == card
            accepted.append(card)
    assert count / 20 < len(accepted) < count / 2  # else nothing is tested
    return accepted


@pytest.fixture(scope="session")
def raw(model_path):
    return json.loads(cards.read_from(model_path.read_bytes()).to_json())


def test_a_mutated_card_is_a_card_or_a_model_error(raw):
    check_cards(raw, 2000, seed=1)


@pytest.mark.parametrize(("count", "seed"), [(150, 2), pytest.param(3000, 3, marks=pytest.mark.slow)])
def test_a_mutated_card_that_is_accepted_counts_or_is_refused(raw, model_path, tmp_path, count, seed):
    data, path = model_path.read_bytes(), tmp_path / "mutated.tflite"
    for card in check_cards(raw, count, seed):
        path.write_bytes(cards.attach(data, card))
        try:
            model = accelerator.load(path, 1, "auto", str)
        except ModelError as error:
            check_message(error, path)
        else:
            assert model.card == card


def test_a_mutated_gate_classifies_or_is_refused(tmp_path):
    flatbuffer, path = gates.classifier(), tmp_path / "mutated.tflite"
    provenance = {"data": ["dsb2018", "smear"], "settings": {"side": 64, "seed": 1, "epochs": 20, "optimizer": "adam"}}
    card = gates.card_of(gates.kinds_gate(), provenance=provenance, metrics={"split": "val", "int8": {"accuracy": 0.9}})
    raw = json.loads(card.to_json())
    image = selftest.known_image()
    number = 0
    for card in check_cards(raw, 1500, seed=4):
        path.write_bytes(cards.attach(flatbuffer, card))
        try:
            gate = open_gate(path)
        except ModelError as error:
            check_message(error, path)
        else:
            assert classify(image, gate).found in card.gate.classes
            number += 1
    assert number > 50


# Run with the extra memory in MB that reading may take, and the files
LIMITED = """
import resource, sys
from pathlib import Path
from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (int(sys.argv[1]) << 20),) * 2)
for path in sys.argv[2:]:
    try:
        data = cards.read_model_file(Path(path))
        cards.strip(data)
        print(cards.read_from(data).name)
    except ModelError as error:
        print(error.message)
"""


def deflated(text):
    return packed(text, compression=zipfile.ZIP_DEFLATED)


def with_declared_size(data, size):
    """A file whose only card is said to be of another size, in the directory and before the card."""
    data = bytearray(data)
    data[len(FLATBUFFER) + 22 : len(FLATBUFFER) + 26] = size.to_bytes(4, "little")
    directory = data.rfind(b"PK\1\2")
    data[directory + 24 : directory + 28] = size.to_bytes(4, "little")
    return bytes(data)


def with_long_directory(raw):
    """A whole card behind a million entries of nothing."""
    one = packed(json.dumps(raw))
    directory, end = one.rfind(b"PK\1\2"), one.rfind(b"PK\5\6")
    entry = bytearray(one[directory:end])
    entry[28:30] = bytes(2)
    nothing = bytes(entry[:28]) + bytes(2) + bytes(entry[30:46])
    size = len(nothing) * 1_000_000 + len(entry)
    tail = bytearray(one[end:])
    tail[12:16] = size.to_bytes(4, "little")
    return one[:directory] + nothing * 1_000_000 + bytes(one[directory:end]) + bytes(tail)


@pytest.mark.skipif(sys.platform != "linux", reason="not applicable: reads /proc")
def test_hostile_files_are_read_in_little_memory(raw, tmp_path, environment):
    text = json.dumps(raw)
    bomb = deflated(b" " * (256 << 20))
    assert len(bomb) < 300_000
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        file.write(FLATBUFFER)
        file.truncate(300 << 20)
    files = {
        "bomb": (bomb, "longer than 256 KiB"),
        "bomb that says it is small": (with_declared_size(bomb, len(text)), "is damaged"),
        "card that says it is huge": (with_declared_size(deflated(text), 2**32 - 2), "nuclei"),
        "lists": (deflated("[" * 10_000_000), "longer than 256 KiB"),
        "long": (packed(b" " * 10_000_000), "longer than 256 KiB"),
        "list of lists": (packed('{"metrics": [' + "[]," * 80_000 + "[]]}"), "does not have format 3"),
        "lzma": (packed(text, compression=zipfile.ZIP_LZMA), "compressed in a way that is not read"),
        "directory": (with_long_directory(raw), "the model has no card"),
        "whole": (deflated(text), "nuclei"),
    }
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [tmp_path / name for name in files] + [sparse, "/dev/zero"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "96", *map(str, paths)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    expected = [said for _, said in files.values()] + ["over the limit of 268 MB", "it is a pipe or device"]
    assert len(lines) == len(expected)
    for line, said in zip(lines, expected, strict=True):
        assert said in line
