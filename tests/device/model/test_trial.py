"""A graph that crashes the runtime, hangs it or takes all memory does so in another process, and is refused.

A flatbuffer stays whole here: only numbers in it are changed, so that the runtime's own check finds nothing.
"""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards
from cellseg_device.model import trial
from cellseg_device.model.classifier import open_network
from cellseg_device.model.interpreter import Model

ROOT = Path(__file__).resolve().parents[3]


def graph_of(data):
    """The main graph in a bytearray, whose arrays can be written to."""
    return schema.Model.GetRootAs(data, 0).Subgraphs(0)


@pytest.fixture
def changed(tmp_path, model_path):
    """Write the bundled model with its graph changed by a function, which gets it as from `graph_of`."""

    def write(change, name="changed.tflite"):
        data = bytearray(model_path.read_bytes())
        change(graph_of(data))
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def without_shape(graph):
    """The shape that a RESHAPE gives is left out, as may be what is optional."""
    codes = schema.Model.GetRootAs(graph._tab.Bytes, 0)
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        if codes.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() == schema.BuiltinOperator.RESHAPE:
            operator.InputsAsNumpy()[1] = -1


def of_side(side):
    def change(graph):
        entry = graph.Tensors(graph.Inputs(0))
        entry.ShapeAsNumpy()[1:3] = side
        entry.ShapeSignatureAsNumpy()[1:3] = side

    return change


def of_channels(number):
    def change(graph):
        graph.Tensors(graph.Outputs(0)).ShapeAsNumpy()[3] = number

    return change


def harmless(graph):
    """Another graph, which computes almost the same."""
    graph.Tensors(graph.Outputs(0)).Quantization().ScaleAsNumpy()[0] *= 1.0625


@pytest.fixture(autouse=True)
def _nothing_has_passed(monkeypatch):
    monkeypatch.setattr(trial, "_passed", set(trial._passed))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_shape, r"the model crashes the runtime \(SIGSEGV\): copy it again"),
        (of_channels(2**31 - 1), "the graph has a tensor of .+ values, .+ GB: make it for smaller tiles"),
        (of_side(16_384), "tiles of 16384×16384 are larger than most images: make it for smaller ones"),
        (of_side(-5), r"the (graph|runtime|model) .*:"),
    ],
    ids=["crash", "memory", "tile", "negative"],
)
def test_what_cannot_be_run_is_refused_and_this_process_goes_on(changed, capfd, change, reason):
    path = changed(change)
    with pytest.raises(ModelError, match=reason) as caught:
        Model(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.message.isprintable()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(100)", "takes more than 1 s for one tile: use a smaller one"),
        ("import os; os.kill(os.getpid(), 9)", "needs more memory than there is: use a smaller one"),
        ("import os; os.kill(os.getpid(), 24)", "takes more than 1 s for one tile"),
        ("import os; os.abort()", r"crashes the runtime \(SIGABRT\)"),
        ("import no_such_module", r"cannot be tried \(ModuleNotFoundError: .+\): see 'cellseg-device doctor'"),
        ("pass", r"cannot be tried \(no reason given\)"),
        ("import json; print('printed by a library'); print(json.dumps('what is wrong'))", "what is wrong"),
    ],
)
def test_every_end_of_the_trial_has_its_reason(changed, monkeypatch, code, reason):
    monkeypatch.setattr(trial, "_CHILD", code)
    monkeypatch.setattr(trial, "_LIMIT_S", 1)
    monkeypatch.setattr(trial, "_PATIENCE_S", 1.0)
    with pytest.raises(ModelError, match=reason):
        Model(changed(harmless))


def test_a_process_that_cannot_be_started(changed, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ModelError, match=r"the model cannot be tried \(No such file or directory\): start it again"):
        Model(changed(harmless))


def test_signals_for_the_whole_group_do_not_end_the_trial(changed, monkeypatch):
    deed = "import os; os.kill(os.getpid(), 2); os.kill(os.getpid(), 15); print('null')"
    monkeypatch.setattr(trial, "_CHILD", trial._CHILD.replace("trial.run_from_stdin()", deed))
    Model(changed(harmless))


def test_the_trial_has_limits(environment):
    code = "from cellseg_device.model import trial; trial._limit(); bytearray(5 << 30)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "MemoryError"


def test_a_limit_of_the_users_own_is_named_for_what_it_is(environment, changed, tmp_path):
    """Not as a lack of memory, for which a process that goes over its hard limit would be taken."""
    path = changed(harmless)
    code = f"""
import resource; resource.setrlimit(resource.RLIMIT_CPU, (3, 3))
from cellseg_device.model import trial
trial._CHILD = trial._CHILD.replace("trial.run_from_stdin()", "trial._limit(); exec('while True: pass')")
from cellseg_device.model.interpreter import Model
Model(__import__("pathlib").Path({str(path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "takes more than 2 s for one tile" in done.stderr.splitlines()[-1]


def test_a_graph_is_tried_once_whatever_its_card_says(changed, monkeypatch):
    runs = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *given, **options: runs.append(given) or real(*given, **options))
    path = changed(harmless)
    first = Model(path)
    data = path.read_bytes()
    path.write_bytes(cards.attach(data, dataclasses.replace(first.card, name="other")))
    assert Model(path).card.name == "other"
    assert len(runs) == 1


def test_one_that_was_refused_is_tried_again(changed, monkeypatch):
    path = changed(harmless)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/no/such/python")
        with pytest.raises(ModelError):
            Model(path)
    Model(path)


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.tflite")), ids=lambda path: path.stem)
def test_the_released_models_start_without_a_trial(path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_given, **_options: pytest.fail("it was tried: see trial._passed"))
    open_network(path)


# Loads the files that are named, and says what came of each
LOADING = """
import sys
from pathlib import Path
from cellseg_device.errors import ModelError
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline import accelerator, predict
import numpy as np
field = Image(np.arange(300 * 500, dtype=np.uint16).reshape(300, 500))
for path in sys.argv[1:]:
    try:
        model = accelerator.load(Path(path), 2, "auto", str)
        predict.predict(field, model)
        print("runs")
    except ModelError as error:
        print("refused" if error.message.isprintable() and "\\n" not in error.message else ascii(error.message))
"""
INTEGERS = (-1, 0, 1, 2, 3, 7, 255, 65_536, 2**30, 2**31 - 1, -(2**31))


def change_graph(graph, rng):
    """Change one number: an operator's tensor, a size or a scale."""
    operator = graph.Operators(int(rng.integers(graph.OperatorsLength())))
    tensor = graph.Tensors(int(rng.integers(graph.TensorsLength())))
    scales = tensor.Quantization().ScaleAsNumpy()
    deed = rng.integers(4)
    if deed < 2:
        wires = operator.InputsAsNumpy() if deed else operator.OutputsAsNumpy()
        wires[rng.integers(len(wires))] = rng.integers(-1, graph.TensorsLength())
    elif deed == 2 and tensor.ShapeLength():
        tensor.ShapeAsNumpy()[rng.integers(tensor.ShapeLength())] = rng.choice(INTEGERS)
    elif not isinstance(scales, int):
        scales[rng.integers(len(scales))] = rng.choice([0, np.nan, np.inf, -1, 1e-30, 1e30])


def change_bytes(data, length, rng):
    """Change a few bytes at the head, in the graph behind the weights, or in the card and its zip; or cut the file."""
    if rng.random() < 0.2:
        del data[rng.integers(len(data)) :]
    for _ in range(rng.integers(1, 6)):
        low, high = [(8, 200), (length - 30_000, length), (length, len(data)), (len(data) - 120, len(data))][
            rng.integers(4)
        ]
        place = int(rng.integers(min(low, len(data) - 1), max(min(high, len(data)), 1)))
        data[place] = rng.integers(256)


@pytest.mark.parametrize(
    ("count", "seed"),
    [(12, 1), pytest.param(250, 2, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
)
def test_mutated_models_run_or_are_refused_and_never_end_this_process(model_path, tmp_path, environment, count, seed):
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        data = bytearray(model_path.read_bytes())
        if number % 2:
            change_graph(graph_of(data), rng)
        else:
            change_bytes(data, len(cards.strip(bytes(data))), rng)
        paths.append(tmp_path / f"{number}.tflite")
        paths[-1].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", LOADING, *map(str, paths)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == count
    assert set(lines) == {"runs", "refused"}
