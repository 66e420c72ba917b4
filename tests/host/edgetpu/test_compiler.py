"""edgetpu_compiler, by a stand-in that says what the real one says: its log, its failures, its silence."""

import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cellseg_device.model.card import read_from, strip
from cellseg_host.commands.edgetpu import edgetpu
from cellseg_host.edgetpu import check, compiler, text
from cellseg_host.edgetpu.graph import Graph, Node, Tensor

VERSION = "16.0.384591198"
SAID = f"""\
Edge TPU Compiler version {VERSION}
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 577 ms.

Input model: model.tflite
Input size: 250.51KiB
Output model: model_edgetpu.tflite
Output size: 380.62KiB
On-chip memory used for caching model parameters: 322.25KiB
On-chip memory remaining for caching model parameters: 7.02MiB
Off-chip memory used for streaming uncached model parameters: 1.50MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 22
Operation log: model_edgetpu.log
"""
TABLE = """\
Edge TPU Compiler version 16.0.384591198
Input: model.tflite
Output: model_edgetpu.tflite

Operator                       Count      Status

ADD                            1          Mapped to Edge TPU
ADD                            2          More than one subgraph is not supported
CONV_2D                        9          Mapped to Edge TPU
CONV_2D                        7          More than one subgraph is not supported
RESIZE_NEAREST_NEIGHBOR        3          Operation is otherwise supported, but not mapped due to some unspecified limitation
"""  # fmt: skip  # noqa: E501
WHOLLY = """\

Operator                       Count      Status

ADD                            3          Mapped to Edge TPU
CONV_2D                        16         Mapped to Edge TPU
RESIZE_NEAREST_NEIGHBOR        3          Mapped to Edge TPU
"""
NEW = f"""\
Edge TPU Compiler version {VERSION}
ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'. An older version of this builtin might be supported. \
Are you using an old TFLite binary with a newer model?

ERROR: Registration failed.

Invalid model: model.tflite
Model could not be parsed
"""
LARGE = f"""\
Edge TPU Compiler version {VERSION}
Started a compilation timeout timer of 180 seconds.
ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put an edgetpu_compiler on the PATH: a shell script that does what it should after saying its version."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def make(does: str, version: str = VERSION):
        path = folder / compiler.COMMAND
        path.write_text(
            f'#!/bin/sh\nif [ "$1" = --version ]; then echo "Edge TPU Compiler version {version}"; exit; fi\n{does}'
        )
        path.chmod(0o755)
        return path

    return make


def says(said: str, table: str = "", code: int = 0, writes: bool = True) -> str:
    """What a stand-in does: write a model (the input behind eight bytes) and a log, and say something."""
    lines = ['for model; do :; done; while [ "$1" != -o ]; do shift; done; name=$(basename "$model" .tflite)']
    if writes:
        lines.append('{ printf "\\034\\0\\0\\0TFL3"; cat "$model"; } > "$2/${name}_edgetpu.tflite"')
    if table:
        lines.append(f'cat > "$2/${{name}}_edgetpu.log" <<"END"\n{table}END')
    return "\n".join([*lines, f'cat <<"END"\n{said}END', f"exit {code}", ""])


def test_reads_the_log(stand_in, model_path):
    data = model_path.read_bytes()
    made = compiler.compile_model(data, stand_in(says(SAID, TABLE)))
    assert made.version == VERSION
    assert made.subgraphs == 1
    assert made.on_chip_bytes == 322.25 * 1024
    assert made.off_chip_bytes == 1.5 * 2**20
    assert made.mapped == Counter({"CONV_2D": 9, "ADD": 1})
    assert (made.on_tpu, made.on_cpu) == (10, 12)
    assert made.rows[-1].status.startswith("Operation is otherwise supported")
    assert made.data[8:] == strip(data)  # what it was given had no card


def test_the_table_is_in_the_output_where_there_is_no_log(stand_in, model_path):
    made = compiler.compile_model(model_path.read_bytes(), stand_in(says(SAID + WHOLLY)))
    assert (made.on_tpu, made.on_cpu) == (22, 0)


@pytest.mark.parametrize(("version", "limit"), [(VERSION, "-t 90 "), ("15.0.340273435", "")])
def test_only_compiler_16_is_reported_the_time_limit(stand_in, model_path, tmp_path, version, limit):
    script = stand_in(f'echo "$@" > {tmp_path}/given\n' + says(SAID, TABLE), version)
    assert compiler.compile_model(model_path.read_bytes(), script, 90).version == version
    assert (tmp_path / "given").read_text().startswith(f"-s {limit}-o ")


@pytest.mark.parametrize(
    ("does", "message"),
    [
        (says(NEW, code=1, writes=False), "CONV_2D' version '6'.*Invalid model.*newer than the compiler"),
        (says(NEW, writes=False), "wrote no model.*could not be parsed"),
        (says(LARGE, code=1, writes=False), "exit code 1.*large activation tensors.*smaller --tile"),
        (says("Invalid model: x.tflite\nModel not quantized\n", code=1, writes=False), "not quantized.*--int8"),
        (says("Internal compiler error. Aborting! \n", code=134, writes=False), "134: Internal compiler error"),
        ("exit 3\n", "exit code 3: it printed nothing"),
        ("kill -9 $$\n", "exit code -9"),
        (says("Segmentation fault\n", writes=False), "wrote no model: Segmentation fault"),
        (says("All is well.\n"), "log cannot be read: All is well"),
    ],
)  # fmt: skip
def test_failures_say_why_in_one_line(stand_in, model_path, does, message):
    with pytest.raises(compiler.CompilerError, match=message) as caught:
        compiler.compile_model(model_path.read_bytes(), stand_in(does))
    assert "\n" not in caught.value.format_message()
    assert "Registration failed" not in caught.value.format_message()


@pytest.mark.timeout(120)
def test_a_compiler_that_hangs_is_stopped_with_its_children(stand_in, model_path, tmp_path):
    script = stand_in(f"sleep 3600 & echo $! > {tmp_path}/child; wait\n")
    with pytest.raises(compiler.CompilerError, match=r"stopped after 0\.5 s.*--time-limit"):
        compiler.compile_model(model_path.read_bytes(), script, 0.5)
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("its child process is still there")


def test_what_is_not_the_compiler_is_reported(stand_in, model_path):
    script = stand_in("exit 0\n", version="of my own")
    with pytest.raises(compiler.CompilerError, match="does not print its version"):
        compiler.compile_model(model_path.read_bytes(), script)
    script.write_text("no program")
    with pytest.raises(compiler.CompilerError, match="cannot be run"):
        compiler.compile_model(model_path.read_bytes(), script)


def test_find_looks_on_the_path(stand_in, tmp_path, monkeypatch):
    script = stand_in("exit 0\n")
    assert compiler.find() == script
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler.find() is None


def test_prediction_beside_truth():
    def at(index):
        return Tensor(index, f"net/layer{index}/Op", (1, 8, 8, 4), "int8", (0.1,), (0,))

    nodes = tuple(Node(op, 1, (at(i),), (at(i + 1),)) for i, op in enumerate(["ADD", "ADD", "TANH"]))
    verdict = check.check_graph(Graph(nodes, (at(0),), (at(3),)))
    made = compiler.parse_log(SAID, TABLE)
    found = {d.op: (d.predicted, d.mapped) for d in compiler.differences(verdict, made)}
    assert found == {"ADD": (2, 1), "CONV_2D": (0, 9), "TANH": (1, 0)}
    shown = text.comparison_text(verdict, made)
    assert "ADD: 2 predicted on the TPU, 1 mapped (More than one subgraph is not supported)" in shown
    assert "329,984" in shown


@pytest.fixture
def model_file(stand_in, model_path, tmp_path):
    path = tmp_path / "nuclei.tflite"
    path.write_bytes(model_path.read_bytes())
    return path


def run(*arguments):
    return CliRunner().invoke(edgetpu, list(map(str, arguments)))


def test_command_compiles_and_keeps_the_card(stand_in, model_file):
    stand_in(says(SAID, WHOLLY))
    result = run(model_file)
    assert result.exit_code == 0  # the compiler's word, against the check's
    compiled = model_file.with_name("nuclei_edgetpu.tflite")
    assert read_from(compiled.read_bytes()) == read_from(model_file.read_bytes())
    assert strip(compiled.read_bytes())[8:] == strip(model_file.read_bytes())
    assert "CONV_2D: 0 predicted on the TPU, 16 mapped" in result.stdout
    assert str(compiled) in result.stdout


def test_command_says_1_where_the_compiler_leaves_something(stand_in, model_file, tmp_path):
    stand_in(says(SAID, TABLE))
    result = run(model_file, "--json", "--out", tmp_path / "out.tflite")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["compilation"]["operators_on_tpu"] == 10
    assert document["compilation"]["model"] == str(tmp_path / "out.tflite")
    assert document["compilation"]["rows"][0] == {"op": "ADD", "count": 1, "status": "Mapped to Edge TPU"}
    assert not model_file.with_name("nuclei_edgetpu.tflite").exists()


def test_command_shows_the_check_and_then_the_failure(stand_in, model_file):
    stand_in(says(NEW, code=1, writes=False))
    result = run(model_file)
    assert result.exit_code == 1
    assert "would not map" in result.stdout
    assert "could not be parsed" in result.stderr
    result = run(model_file, "--json")
    assert "could not be parsed" in json.loads(result.stdout)["compiler_error"]
    assert run(model_file, "--no-compile").stderr == ""


def test_a_compiled_model_replaces_an_older_one_only_when_whole(stand_in, model_file):
    older = model_file.with_name("nuclei_edgetpu.tflite")
    older.write_bytes(b"older")
    stand_in(says(LARGE, code=1, writes=False))
    run(model_file)
    assert older.read_bytes() == b"older"
    stand_in(says(SAID, WHOLLY))
    run(model_file)
    assert np.frombuffer(older.read_bytes(), np.uint8).size > 1000
