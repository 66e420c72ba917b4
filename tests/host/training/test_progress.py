import dataclasses

import pytest

from cellseg_device.errors import InputError
from cellseg_host.training import progress
from cellseg_host.training.settings import TrainSettings


def test_the_plan_says_what_the_training_will_do(tiny_dataset, tmp_path):
    settings = TrainSettings(epochs=20, steps=1500, batch=8, side=128)
    cells = sum(entry.cells for entry in tiny_dataset.split("train"))
    assert progress.plan(tiny_dataset, settings, tmp_path / "run") == [
        "network: edge-unet",
        f"images: 6 to train on, with {cells} cells, and 3 to validate with ({tiny_dataset.root})",
        "epochs: at most 20, of 1,500 steps each; a step is 8 views of 128 x 128 px",
        f"run: {tmp_path / 'run'}",
    ]
    more = dataclasses.replace(settings, init="a.tflite", freeze="encoder", rounds=3, swa=5)
    network, _, epochs, _ = progress.plan(tiny_dataset, more, tmp_path)
    assert network == "network: edge-unet, from the weights of a.tflite, its encoder kept"
    assert epochs.startswith("epochs: 3 rounds of at most 20, then 5 to average, of 1,500 steps each")
    assert progress.most_epochs(more) == 65


def test_the_plan_says_how_often_each_of_several_sets_is_drawn(tiny_dataset, tmp_path):
    more = [dataclasses.replace(e, set="other", id=f"other-{e.id}") for e in tiny_dataset.entries if e.cells]
    both = dataclasses.replace(tiny_dataset, entries=(*tiny_dataset.entries, *more[:1]))
    lines = progress.plan(both, TrainSettings(), tmp_path)
    assert lines[2:5] == [
        "views: 22.7% of other, fluorescence (1 image)",
        "views: 45.3% of synthetic, fluorescence (4 images)",
        "views: 32.0% of synthetic, histology (2 images)",
    ]


def test_the_plan_of_a_classifier_of_kinds_says_what_it_sees(tiny_dataset, tmp_path):
    lines = progress.plan(tiny_dataset, TrainSettings(arch="kind-net", batch=8, side=192), tmp_path)
    assert lines[2].startswith("views: 50.0% of the kind fluorescence (")
    assert lines[-2].endswith("a step is 8 views of fields made small to at most 192 px")


def test_without_labels_there_is_nothing_to_learn(tiny_dataset, tmp_path):
    entries = [e if e.split == "train" else dataclasses.replace(e, cells=None) for e in tiny_dataset.entries]
    with pytest.raises(InputError, match="no image in the split 'val' has labels"):
        progress.plan(dataclasses.replace(tiny_dataset, entries=tuple(entries)), TrainSettings(), tmp_path)


def test_a_dataset_without_a_split_is_refused_at_once(tiny_dataset, tmp_path):
    lacking = dataclasses.replace(tiny_dataset, entries=tiny_dataset.split("train"))
    with pytest.raises(InputError, match="no image is in the split 'val'"):
        progress.plan(lacking, TrainSettings(), tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (3.24, "3.2 s"),
        (9.6, "10 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (5_999, "100 min"),
        (6_000, "1 h 40 min"),
        (12_000, "3 h 20 min"),
    ],
)
def test_durations_are_said_as_people_do(seconds, text):
    assert progress.duration(seconds) == text.replace("100 min", "1 h 40 min")


def test_the_pace_is_of_the_last_epoch_and_forgets_what_was_before_the_first_step():
    times = iter([100.0, 112.0, 140.0, 170.0])
    pace = progress.Pace(3, lambda: next(times))
    pace.step()
    assert pace.end(1) == "12 s an epoch, about 24 s left"
    pace.step()
    pace.step()
    assert pace.end(2) == "28 s an epoch, about 28 s left"
    assert pace.end(3) == "30 s an epoch"


def test_the_score_before_training_takes_no_epoch():
    times = iter([5.0, 65.0])
    pace = progress.Pace(2, lambda: next(times))
    assert pace.end(0) == ""
    pace.step()
    assert pace.end(1) == "60 s an epoch, about 60 s left"
