"""Teachers: what models see in the training images from eight sides, as half of what is learnt."""

import dataclasses

import numpy as np
import pytest

from cellseg_device import segment
from cellseg_device.errors import InputError, ModelError
from cellseg_device.image import Image
from cellseg_device.segment import Stopwatch
from cellseg_host import augment, feed, runs, teachers, train
from cellseg_host.metrics import foreground_iou

HEADS = ("foreground", "distance")


@pytest.mark.parametrize("side", range(8))
@pytest.mark.parametrize("shape", [(3, 5), (1, 4), (6, 6)])
def test_a_map_of_a_turned_image_is_turned_back(shape, side):
    values = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(teachers._back(teachers._turned(values, side), side), values)


def test_all_sides_differ():
    values = np.arange(6).reshape(2, 3)
    assert len({teachers._turned(values, side).tobytes() + bytes([side % 2]) for side in range(8)}) == 8


@pytest.fixture
def field(samples):
    image = segment.decode((samples / "hoechst8.png").read_bytes(), Stopwatch())
    return Image(image.pixels[:171, :203])


def test_an_opinion_does_not_depend_on_how_the_image_lies(model, field):
    pixels = np.ascontiguousarray(field.pixels[:160, :160])
    straight = teachers.opinion(Image(pixels), [model], HEADS)
    turned = teachers.opinion(Image(np.ascontiguousarray(np.rot90(pixels))), [model], HEADS)
    for head in HEADS:
        np.testing.assert_allclose(np.rot90(straight[head]), turned[head], atol=1e-5)


def test_an_opinion_is_about_what_the_model_sees(model, field):
    opinion = teachers.opinion(field, [model], HEADS)
    labels = segment.separated(segment.look(field, model, Stopwatch()))
    assert labels.max() > 5
    for head in HEADS:
        assert opinion[head].shape == field.shape
        assert opinion[head].dtype == np.float32
        assert 0 <= opinion[head].min() < 0.1 < 0.7 < opinion[head].max() <= 1
    assert foreground_iou(opinion["foreground"] > 0.6, labels > 0) > 0.9
    twice = teachers.opinion(field, [model, model], HEADS)
    np.testing.assert_allclose(twice["foreground"], opinion["foreground"], atol=1e-6)


def test_half_of_a_target_is_the_teachers(model, tiny_dataset, tiny_run):
    entries, card = tiny_dataset.split("train")[:2], runs.open_run(tiny_run).card()
    plain, taught = (feed.load_samples(tiny_dataset, entries, card, HEADS, by) for by in ((), [model]))
    shown = []
    for samples in (plain, taught):
        even = np.full(2, 0.5)
        shown.append(next(iter(feed.views(samples, even, HEADS, augment.NONE, 32, 4, 1, (0, 0)))))
    (image, truth, gap), (same, targets, same_gap) = shown
    assert np.array_equal(image, same)
    assert np.array_equal(gap, same_gap)
    for head in HEADS:
        opinion = 2 * targets[head] - truth[head]  # were it (truth + opinion) / 2
        assert np.min(opinion) > -1e-5
        assert np.max(opinion) < 1 + 1e-5
        assert np.abs(opinion - truth[head]).max() > 0.01


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
