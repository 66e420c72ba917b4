"""`watch` goes on with the model that it has, whatever its file becomes; at the start such a file is a plain error."""

import dataclasses
import io
import json
import os
import re
import zipfile
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from cellseg_device.model import card as cards


def with_text(data, text, **options):
    """The model with any bytes for its card."""
    packed = io.BytesIO(cards.strip(data))
    packed.seek(0, io.SEEK_END)
    with zipfile.ZipFile(packed, "a", **options) as archive:
        archive.writestr(cards.CARD_NAME, text)
    return packed.getvalue()


def with_fields(separation=None, **fields):
    def kill(data, path):
        raw = json.loads(cards.read_from(data).to_json())
        raw["separation"] |= separation or {}
        path.write_bytes(with_text(data, json.dumps(raw | fields)))

    return kill


def with_card_of(text, **options):
    return lambda data, path: path.write_bytes(with_text(data, text, **options))


def sparse(data, path):
    with open(path, "wb") as file:
        file.write(data)
        file.truncate(6 << 30)


def large_tile(data, path):
    data = bytearray(data)
    graph = schema.Model.GetRootAs(data, 0).Subgraphs(0)
    entry = graph.Tensors(graph.Inputs(0))
    entry.ShapeAsNumpy()[1:3] = entry.ShapeSignatureAsNumpy()[1:3] = 16_384
    path.write_bytes(data)


def crash(data, path):
    """A whole flatbuffer that ends the process: what gives a RESHAPE its shape is left out."""
    data = bytearray(data)
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        if model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() == schema.BuiltinOperator.RESHAPE:
            operator.InputsAsNumpy()[1] = -1
    path.write_bytes(data)


KILLERS = {
    "nested": (with_card_of('{"format": 3, "name": ' + "[" * 200_000), "nested too deeply"),
    "stride": (with_fields(stride=2**30, margin=2**30), "'stride' is 1073741824"),
    "rise": (with_fields(separation={"rise": 1e308}), "'rise' is 1e+308"),
    "list": (with_fields(name=["nuclei"]), "'name' is"),
    "surrogate": (with_fields(name="\ud800"), "is not text"),
    "bomb": (with_card_of(b" " * (200 << 20), compression=zipfile.ZIP_DEFLATED), "longer than 256 KiB"),
    "fifo": (lambda _, path: os.mkfifo(path), "it is a pipe or device"),
    "device": (lambda _, path: path.symlink_to("/dev/zero"), "it is a pipe or device"),
    "folder": (lambda _, path: path.mkdir(), "is a folder: name a .tflite file in it"),
    "sparse": (sparse, "over the limit of 268 MB"),
    "tile": (large_tile, "tiles of 16384×16384 are larger than most images"),
    "crash": (crash, "crashes the runtime (SIG"),
    "empty": (lambda _, path: path.touch(), "is not a .tflite model"),
    "half": (lambda data, path: path.write_bytes(data[: len(data) // 2]), "has no card, or is cut off"),
    "dangling": (lambda _, path: path.symlink_to("nowhere"), "is gone, or cannot be looked at"),
}


def put(path, data, kill, seconds):
    """Replace a file by what `kill` makes, as old as a copy may be: `seconds` after a fixed time."""
    made = path.with_name("made")
    kill(data, made)
    if made.exists() and made.resolve().is_relative_to(path.parent):
        os.utime(made, (1_700_000_000 + seconds,) * 2)
    if path.is_dir():
        path.rmdir()
    if made.is_dir():
        path.unlink(missing_ok=True)
    made.rename(path)


def test_a_watch_goes_on_with_its_model_whatever_its_file_becomes(
    watching, tmp_path, write_image, model_path, table, check_results
):
    data, path, folder = model_path.read_bytes(), tmp_path / "model.tflite", tmp_path / "images"
    path.write_bytes(data)
    folder.mkdir()
    watch = watching(folder, "--model", path, "--settle", "0.1", "--poll", "0.1")
    images = []

    def count_one():
        images.append(write_image(folder / f"{len(images)}.png", seed=len(images), mtime=None).name)
        watch.until_done(images[-1])

    count_one()
    for number, (kill, reason) in enumerate(KILLERS.values()):
        put(path, data, kill, number)
        count_one()
        while len(watch.complaints) == number:  # that a file is gone shows only after a while
            count_one()
        count_one()
        line = watch.complaints[number]
        assert line.startswith(f"warning: {path}")
        assert reason in line
        assert line.endswith(": counting goes on with the model as it was")
        assert len(watch.complaints) == number + 1
    put(path, cards.attach(data, dataclasses.replace(cards.read_from(data), name="other")), bytes_written, 1000)
    count_one()
    watch.until(lambda: "was replaced: counting goes on with it (other, " in watch.stderr)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{watch.process.pid}/status").read_text())
    assert int(peak[1]) < 300_000
    assert watch.stop() == 0
    check_results(folder / "cellseg-results", images)
    rows = table(folder / "cellseg-results" / "counts.csv")
    assert [row["model"] for row in rows] == ["nuclei"] * (len(images) - 1) + ["other"]


def bytes_written(data, path):
    path.write_bytes(data)


@pytest.mark.parametrize("name", KILLERS)
def test_at_the_start_such_a_file_is_an_error_in_one_line(device_here, tmp_path, write_image, model_path, name):
    kill, reason = KILLERS[name]
    path = tmp_path / "model.tflite"
    put(path, model_path.read_bytes(), kill, 0)
    image = write_image(tmp_path / "a.png")
    for arguments in (("run", image, "--out", tmp_path / "out"), ("watch", tmp_path)):
        done = device_here(*arguments, "--model", path)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {path}")
        assert reason in line or name == "dangling"
    for arguments in (("info", path), ("doctor", "--model", path, "--out", tmp_path)):
        done = device_here(*arguments)
        assert done.returncode in (1, 2)
        assert "model" in done.stdout + done.stderr
