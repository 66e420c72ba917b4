"""Teachers: what models see in the training images from eight sides, as half of what is learnt."""

import dataclasses

import numpy as np
import pytest

from cellseg_device.errors import InputError, ModelError
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline import predict, segment
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_host import augment
from cellseg_host.evaluation.metrics import foreground_iou
from cellseg_host.training import distillation, feed, runs, train

HEADS = ("foreground", "distance")


@pytest.mark.parametrize("side", range(8))
@pytest.mark.parametrize("shape", [(3, 5), (1, 4), (6, 6)])
def test_a_map_of_a_turned_image_is_turned_back(shape, side):
    values = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(distillation._back(distillation._turned(values, side), side), values)


def test_all_sides_differ():
    values = np.arange(6).reshape(2, 3)
    assert len({distillation._turned(values, side).tobytes() + bytes([side % 2]) for side in range(8)}) == 8


@pytest.fixture
def field(samples):
    image = segment.decode((samples / "hoechst8.png").read_bytes(), Stopwatch())
    return Image(image.pixels[:171, :203])


def test_soft_targets_do_not_depend_on_how_the_image_lies(model, field):
    pixels = np.ascontiguousarray(field.pixels[:160, :160])
    straight = distillation.soft_targets(Image(pixels), [model], HEADS)
    turned = distillation.soft_targets(Image(np.ascontiguousarray(np.rot90(pixels))), [model], HEADS)
    for head in HEADS:
        np.testing.assert_allclose(np.rot90(straight[head]), turned[head], atol=1e-5)


def test_soft_targets_are_of_what_the_model_sees(model, field):
    soft = distillation.soft_targets(field, [model], HEADS)
    labels = segment.labels_of(predict.predict(field, model, Stopwatch()))
    assert labels.max() > 5
    for head in HEADS:
        assert soft[head].shape == field.shape
        assert soft[head].dtype == np.float32
        assert 0 <= soft[head].min() < 0.1 < 0.7 < soft[head].max() <= 1
    assert foreground_iou(soft["foreground"] > 0.6, labels > 0) > 0.9
    twice = distillation.soft_targets(field, [model, model], HEADS)
    np.testing.assert_allclose(twice["foreground"], soft["foreground"], atol=1e-6)


def test_half_of_a_target_is_the_teachers(model, tiny_dataset, tiny_run):
    entries, card = tiny_dataset.split("train")[:2], runs.open_run(tiny_run).card()
    plain, distilled = (feed.load_samples(tiny_dataset, entries, card, HEADS, by) for by in ((), [model]))
    shown = []
    for samples in (plain, distilled):
        even = np.full(2, 0.5)
        shown.append(next(iter(feed.views(samples, even, HEADS, augment.NONE, side=32, batch=4, count=1, seed=(0, 0)))))
    (image, truth, border), (same, targets, same_border) = shown
    assert np.array_equal(image, same)
    assert np.array_equal(border, same_border)
    for head in HEADS:
        soft = 2 * targets[head] - truth[head]  # were it (truth + soft) / 2
        assert np.min(soft) > -1e-5
        assert np.max(soft) < 1 + 1e-5
        assert np.abs(soft - truth[head]).max() > 0.01


@pytest.mark.slow
def test_a_run_with_a_teacher_says_so(model_path, tiny_dataset, tiny_settings, tmp_path):
    settings = dataclasses.replace(tiny_settings, teachers=(str(model_path),), epochs=1)
    epochs = list(train.train(tiny_dataset, tmp_path / "run", settings))
    assert np.isfinite(epochs[-1].loss)
    run = runs.open_run(tmp_path / "run")
    assert run.settings.teachers == (str(model_path),)
    # A model that is given away does not tell its maker's folders
    assert run.card().provenance["settings"] == run.info["settings"] | {"teachers": [model_path.name]}


@pytest.mark.parametrize("fault", ["head", "file"])
def test_a_teacher_that_cannot_teach_is_refused(model_path, tiny_dataset, tiny_settings, tmp_path, fault):
    path, heads = (tmp_path / "none.tflite", ()) if fault == "file" else (model_path, ("foreground", "outline"))
    settings = dataclasses.replace(tiny_settings, teachers=(str(path),), heads=heads)
    with pytest.raises(ModelError if fault == "file" else InputError, match=path.name):
        next(train.train(tiny_dataset, tmp_path / "run", settings))
    assert not (tmp_path / "run").exists()
