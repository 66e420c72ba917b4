"""A model on an Edge TPU that comes and goes: no image is lost, counted twice, or counted without a word.

The Edge TPU is a fake at its edge, the runtime's delegate; behind it is the real interpreter. Libraries that fail as
libedgetpu does are real ones.
"""

import dataclasses
import shutil
import subprocess
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile

from cellseg_device.errors import AcceleratorError, ImageError, ModelError
from cellseg_device.image.decode import decode
from cellseg_device.model import card as cards
from cellseg_device.model import edgetpu, graph
from cellseg_device.model import interpreter as models
from cellseg_device.model.card import KnownAnswer
from cellseg_device.model.edgetpu import Device, Library, State
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import accelerator, predict, segment, selftest
from cellseg_device.pipeline.accelerator import FallbackModel
from cellseg_device.pipeline.models import Models
from cellseg_device.pipeline.renewal import Renewal
from cellseg_device.results import image_files
from cellseg_device.results.folder import Output
from cellseg_device.watching import watch
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.worker import Worker

DEVICE = Device("usb", None, 5000)


def compiled(data, **fields):
    """What the compiler makes of a model, as far as is known: the same answers, and the mark."""
    card = dataclasses.replace(cards.read_from(data), **fields)
    return cards.attach(cards.strip(data) + graph._EDGETPU_MARK, card)


@pytest.fixture
def pair(tmp_path, model_path):
    """nuclei.tflite and nuclei_edgetpu.tflite."""
    plain, tpu = tmp_path / "nuclei.tflite", tmp_path / "nuclei_edgetpu.tflite"
    shutil.copyfile(model_path, plain)
    tpu.write_bytes(compiled(model_path.read_bytes()))
    return plain, tpu


@pytest.fixture
def tpu(monkeypatch):
    """An Edge TPU: it may be unplugged, be of no use, or fail at one of its next invokes."""
    state = SimpleNamespace(plugged=True, refuses=None, fails_at=None, invokes=0, opened=0, now=1000.0)
    real = models.Interpreter

    class OnTpu:
        def __init__(self, interpreter):
            self._interpreter = interpreter

        def __getattr__(self, name):
            return getattr(self._interpreter, name)

        def invoke(self):
            state.invokes += 1
            if not state.plugged or state.invokes == state.fails_at:
                raise RuntimeError("Node number 0 (EdgeTpuDelegateForCustomOp) failed to invoke.")
            self._interpreter.invoke()

    def interpreter(model_content, num_threads, experimental_delegates):
        made = real(model_content=model_content, num_threads=num_threads)
        return OnTpu(made) if experimental_delegates else made

    def delegate():
        state.opened += 1
        if not state.plugged or state.refuses:
            raise ValueError(f"Failed to load delegate from libedgetpu.so.1\n{state.refuses or ''}")
        return object()

    def look():
        if state.plugged:
            return State((DEVICE,), Library("14"))
        return State((), Library("14"), "none (libedgetpu 14)", "plug it in")

    monkeypatch.setattr(models, "Interpreter", interpreter)
    monkeypatch.setattr(edgetpu, "delegate", delegate)
    monkeypatch.setattr(edgetpu, "state", look)
    monkeypatch.setattr(edgetpu, "devices", lambda: (DEVICE,) if state.plugged else ())
    monkeypatch.setattr(accelerator, "time", SimpleNamespace(monotonic=lambda: state.now))
    accelerator._try_edgetpu.cache_clear()
    yield state
    accelerator._try_edgetpu.cache_clear()


@pytest.fixture
def images(tmp_path, write_image):
    return [write_image(tmp_path / f"{number}.png", seed=number) for number in range(4)]


@pytest.fixture
def counted(tmp_path, images, warnings):
    """Do the images with a model; returns what each was looked at by, and checks that the labels are the CPU's."""

    def run(model, before=lambda number: None):
        plain = Model(models.bundled_path())
        plain_labels = [segment.segment(image.read_bytes(), plain).labels for image in images]
        output = Output(tmp_path / "out", warnings.append)
        worker = Worker(Models(model), output)
        ran_on = []
        try:
            for number, image in enumerate(images):
                before(number)
                (outcome,) = watch.run([image], worker, StopSignal())
                assert outcome.status == "done", outcome
                path = output.folder / outcome.labels
                assert np.array_equal(tifffile.imread(path), plain_labels[number])
                made_from = image_files.read_provenance(path)
                assert made_from.model_sha256 == model.sha256
                ran_on.append(made_from.accelerator)
        finally:
            worker.close()
            output.close()
        return ran_on

    return run


def test_a_compiled_graph_is_known_by_its_operator(pair):
    plain, tpu_path = pair
    assert not graph.is_for_edgetpu(plain.read_bytes())
    assert graph.is_for_edgetpu(tpu_path.read_bytes())
    named = dataclasses.replace(cards.read_from(plain.read_bytes()), name="edgetpu-custom-op")
    assert not graph.is_for_edgetpu(cards.attach(plain.read_bytes(), named))


def test_without_a_compiled_model_there_is_nothing_to_say(tpu, tmp_path, model_path, warnings):
    for choice in ("auto", "cpu"):
        assert isinstance(accelerator.load(model_path, 1, choice, warnings.append), Model)
    assert (warnings, tpu.opened) == ([], 0)
    with pytest.raises(ModelError, match=r"no nuclei_edgetpu\.tflite beside it: make one with 'cellseg-host edgetpu'"):
        accelerator.load(model_path, 1, "edgetpu", warnings.append)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImageError("has 70000 cells"), "has 70000 cells"),
        (MemoryError(), "needs more memory than there is"),
        (
            ValueError("Tensor data is null.\nRun it"),
            r"cannot be run \(ValueError: Tensor data is null\.\): make it again",
        ),
        (OverflowError("cannot convert\x1b[31m"), r"cannot be run \(OverflowError: cannot convert\?\[31m\)"),
        (cv2.error("no"), r"cannot be run \(error: "),
        (ModelError("the runtime fails"), "the runtime fails"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_whatever_goes_wrong_with_the_known_field_is_a_model_error(pair, tpu, warnings, monkeypatch, error, said):
    def answer(model):
        raise error

    monkeypatch.setattr(selftest, "answer", answer)
    with pytest.raises(ModelError, match=rf"{pair[0]}: .*{said}") as caught:
        accelerator.load(pair[0], 1, "cpu", warnings.append)
    assert caught.value.message.isprintable()
    with pytest.raises(ModelError, match=rf"{pair[1]}: .*{said}"):
        accelerator.load(pair[1], 1, "edgetpu", warnings.append)


def test_a_hostile_compiled_model_beside_a_good_one_costs_only_itself(tpu, pair, counted, warnings):
    plain, compiled_path = pair
    with open(compiled_path, "r+b") as file:
        file.truncate(6 << 30)
    model = accelerator.load(plain, 1, "auto", warnings.append)
    assert counted(model) == ["cpu"] * 4
    (line,) = warnings
    assert line.startswith(f"{compiled_path}: the model cannot be read (6,442 MB are over the limit of 268 MB)")
    assert line.endswith("; counting on the CPU")


def test_the_cpu_does_not_run_what_is_compiled(tpu, pair, warnings):
    plain, compiled_path = pair
    assert isinstance(accelerator.load(plain, 1, "cpu", warnings.append), Model)
    with pytest.raises(ModelError, match=rf"compiled for an Edge TPU and does not run on the CPU: name {plain}"):
        accelerator.load(compiled_path, 1, "cpu", warnings.append)
    plain.unlink()
    with pytest.raises(ModelError, match="name the model it was compiled from"):
        accelerator.load(compiled_path, 1, "cpu", warnings.append)
    with pytest.raises(ModelError, match="runs nowhere else"):
        Model(compiled_path)
    assert tpu.opened == 0


@pytest.mark.parametrize("choice", ["auto", "edgetpu"])
@pytest.mark.parametrize("named", [0, 1])
def test_the_edge_tpu_is_used_where_it_works(tpu, pair, counted, warnings, choice, named):
    model = accelerator.load(pair[named], 1, choice, warnings.append)
    assert isinstance(model, FallbackModel)
    assert model.sha256 == Model(pair[0]).sha256
    assert counted(model) == ["edgetpu"] * 4
    assert warnings == []


def test_without_an_edge_tpu_the_cpu_does_it_with_one_warning_and_it_goes_back(tpu, pair, counted, warnings):
    tpu.plugged = False
    model = accelerator.load(pair[1], 1, "auto", warnings.append)
    assert warnings == [
        (
            "no Edge TPU can be used (none (libedgetpu 14)): plug it in: "
            "counting goes on with the CPU until the Edge TPU works"
        )
    ]

    def before(number):
        tpu.now += 20
        tpu.plugged = number > 1

    assert counted(model, before=before) == ["cpu", "cpu", "edgetpu", "edgetpu"]
    assert warnings[1:] == ["the Edge TPU works: counting goes on with it (nuclei_edgetpu.tflite)"]


def test_an_edge_tpu_that_was_not_asked_for_is_not_missed(tpu, pair, counted, warnings):
    tpu.plugged = False
    model = accelerator.load(pair[0], 1, "auto", warnings.append)
    assert counted(model) == ["cpu"] * 4
    assert warnings == []


def test_an_image_in_whose_middle_it_fails_is_done_by_the_cpu(
    tpu, pair, images, counted, warnings, monkeypatch, write_image
):
    monkeypatch.setattr(predict, "MAX_WHOLE_PX", 400_000)
    monkeypatch.setattr(predict, "MAX_TILE_PX", 400_000)
    write_image(images[0], height=1000, width=1000, count=300)
    model = accelerator.load(pair[0], 1, "auto", warnings.append)
    field = decode(images[0].read_bytes())
    loaded = tpu.invokes
    predict.predict(field, model)
    assert tpu.invokes - loaded >= 3, "tiles"
    tpu.fails_at = tpu.invokes + 3

    def before(number):
        tpu.now += 20 * (number == 3)

    assert counted(model, before=before) == ["cpu", "cpu", "cpu", "edgetpu"]
    assert warnings == [
        (
            "the Edge TPU fails (Node number 0 (EdgeTpuDelegateForCustomOp) failed to invoke.): "
            "counting goes on with the CPU until the Edge TPU works"
        ),
        "the Edge TPU works: counting goes on with it (nuclei_edgetpu.tflite)",
    ]


def test_images_that_follow_each_other_are_all_done_when_it_is_unplugged(tpu, pair, images, tmp_path, warnings):
    model = accelerator.load(pair[0], 1, "auto", warnings.append)
    output = Output(tmp_path / "out", warnings.append)
    worker = Worker(Models(model), output)
    for number, outcome in enumerate(watch.run(images, worker, StopSignal())):
        assert outcome.status == "done"
        tpu.plugged = number < 1
    assert len(warnings) == 1
    worker.close()
    output.close()


def test_what_was_counted_on_one_is_not_counted_again_on_the_other(tpu, pair, images, tmp_path, warnings):
    statuses = []
    for named, choice in ((0, "auto"), (1, "auto"), (1, "edgetpu"), (0, "cpu")):
        output = Output(tmp_path / "out", warnings.append)
        worker = Worker(Models(accelerator.load(pair[named], 1, choice, warnings.append)), output)
        statuses.append({outcome.status for outcome in watch.run(images, worker, StopSignal())})
        watch.note_counts_made_otherwise(worker)
        worker.close()
        output.close()
    assert statuses == [{"done"}, {"unchanged"}, {"unchanged"}, {"unchanged"}]
    assert warnings == []


def test_it_is_tried_less_and_less_often(tpu, pair, images, warnings):
    tpu.refuses = "busy"
    model = accelerator.load(pair[1], 1, "auto", warnings.append)
    field = selftest.known_image()
    start = tpu.now
    tried = [start]
    for _ in range(400):
        tpu.now += 10
        before = tpu.opened
        predict.predict(field, model)
        if tpu.opened > before:
            tried.append(tpu.now)
    waits = np.diff(tried).tolist()
    assert waits[:6] == [10, 20, 40, 80, 160, 320]
    assert set(waits[7:]) == {600}
    assert len(warnings) == 1
    assert "is not available (busy)" in warnings[0]


def test_where_nothing_goes_without_it_nothing_is_recorded_when_it_fails(tpu, pair, images, tmp_path, warnings):
    model = accelerator.load(pair[1], 1, "edgetpu", warnings.append)
    output = Output(tmp_path / "out", warnings.append)
    worker = Worker(Models(model), output)
    tpu.plugged = False
    for _ in range(2):
        with pytest.raises(AcceleratorError, match=r"'cellseg-device doctor'; .* nuclei\.tflite beside it") as caught:
            list(watch.run(images[:2], worker, StopSignal()))
        assert caught.value.exit_code == 2
    assert output.known == {}
    worker.close()
    output.close()
    accelerator._try_edgetpu.cache_clear()
    with pytest.raises(AcceleratorError, match="plug it in"):
        accelerator.load(pair[1], 1, "edgetpu", warnings.append)
    assert warnings == []


def test_two_models_are_no_pair(tpu, pair, model_path, warnings):
    plain, compiled_path = pair
    compiled_path.write_bytes(compiled(model_path.read_bytes(), name="other"))
    for named, choice in ((1, "auto"), (1, "edgetpu"), (0, "edgetpu")):
        with pytest.raises(ModelError, match="not the same model"):
            accelerator.load(pair[named], 1, choice, warnings.append)
    assert isinstance(accelerator.load(plain, 1, "auto", warnings.append), Model)
    (line,) = warnings
    assert "not the same model" in line
    assert line.endswith("; counting on the CPU")


def test_a_name_alone_makes_no_compiled_model(tpu, pair, warnings):
    shutil.copyfile(pair[0], pair[1])
    assert isinstance(accelerator.load(pair[0], 1, "auto", warnings.append), Model)
    (line,) = warnings
    assert "nuclei_edgetpu.tflite is not compiled for an Edge TPU" in line
    with pytest.raises(ModelError, match="is not compiled for an Edge TPU: make it again"):
        accelerator.load(pair[0], 1, "edgetpu", warnings.append)
    assert tpu.opened == 0


@pytest.mark.parametrize(("expected", "is_fine"), [(1.0, True), (1.04, True), (1.2, False), (0.5, False)])
def test_an_edge_tpu_that_counts_otherwise_is_not_used(tpu, pair, model_path, warnings, expected, is_fine):
    data = model_path.read_bytes()
    cells = round(selftest.answer(Model(model_path)).cells * expected)
    answer = KnownAnswer("0" * 64, cells)
    pair[0].write_bytes(cards.attach(data, dataclasses.replace(cards.read_from(data), known_answer=answer)))
    pair[1].write_bytes(compiled(data, known_answer=answer))
    model = accelerator.load(pair[1], 1, "auto", lambda line: None)
    assert model.accelerator == ("edgetpu" if is_fine else "cpu")
    assert accelerator.load(pair[1], 1, "edgetpu", warnings.append).accelerator == "edgetpu"
    assert [f"not about {cells}" in line for line in warnings] == [True] * (not is_fine)


def test_either_file_of_a_pair_may_be_replaced(tpu, pair, model_path, warnings):
    data = model_path.read_bytes()

    def load():
        return Models(accelerator.load(pair[1], 1, "auto", lambda line: None))

    renewal = Renewal(load(), load, warnings.append, settle_s=0)
    assert renewal.due() is None
    pair[0].write_bytes(cards.attach(data, dataclasses.replace(cards.read_from(data), name="new")))
    assert renewal.due() is None
    assert "not the same model" in warnings[0]
    assert "goes on with the model as it was" in warnings[0]
    pair[1].write_bytes(compiled(data, name="new"))
    assert renewal.due().default.card.name == "new"
    assert renewal.due() is None
    assert len(warnings) == 2


DELEGATE = """
struct delegate { void* data; int (*prepare)(void*, struct delegate*); void* buffers[3]; long flags; void* builder; };
static int prepare(void* context, struct delegate* self) { return PREPARED; }
static struct delegate delegate = { 0, prepare, { 0 }, 1 /* any size */, 0 };
void* tflite_plugin_create_delegate(char** keys, char** values, unsigned long n, void (*report)(const char*)) {
    if (FOUND) return &delegate;
    report("no device is free");
    return 0;
}
void tflite_plugin_destroy_delegate(void* delegate) {}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
@pytest.mark.parametrize(
    ("found", "prepared", "reason"),
    [(1, 0, None), (0, 0, r"is not available \(no device is free\)"), (1, 1, "refuses the graph")],
)
def test_libraries_that_the_real_runtime_loads(pair, tmp_path, monkeypatch, warnings, capfd, found, prepared, reason):
    source = DELEGATE.replace("FOUND", str(found)).replace("PREPARED", str(prepared))
    (tmp_path / "lib.c").write_text(source)
    library = tmp_path / "libedgetpu.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", library, tmp_path / "lib.c"], check=True)
    monkeypatch.setattr(edgetpu, "LIBRARY", str(library))
    monkeypatch.setattr(accelerator, "_try_edgetpu", lambda: None)
    if reason is None:
        model = accelerator.load(pair[1], 1, "edgetpu", warnings.append)
        assert predict.predict(selftest.known_image(), model).model.accelerator == "edgetpu"
    else:
        with pytest.raises(AcceleratorError, match=reason):
            accelerator.load(pair[1], 1, "edgetpu", warnings.append)
        model = accelerator.load(pair[1], 1, "auto", warnings.append)
        assert model.accelerator == "cpu"
        assert len(warnings) == 1
    assert capfd.readouterr() == ("", "")
