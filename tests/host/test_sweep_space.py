import pytest

from cellseg_device.errors import InputError
from cellseg_host.settings import TrainSettings
from cellseg_host.sweep import space

WHOLE = """
base: {epochs: 3, augmentation: {noise: 0}}
search:
  arch:
    - edge-unet
    - arch: unet
      options: {activation: elu}
      search: {options.batch_norm: [true, false]}
  loss: [boundary, {loss: dice, class-weight: frequency}]
  augmentation.blur_px: {low: 0, high: 1, step: 0.5}
method: grid
seed: 4
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        return space.read(path)

    return read


def settings_of(plan, point):
    return plan.settings(lambda name, item: point[name])


def test_a_grid_is_every_combination_once(read):
    plan = read(WHOLE)
    points = plan.points()
    assert len(points) == 3 * 2 * 3 == plan.count() == plan.count(99)
    assert plan.count(5) == 5
    settings = [settings_of(plan, p) for p in points]
    assert len({str(s) for s in settings}) == 18
    assert {(s.arch, s.options.get("batch_norm")) for s in settings} == {
        ("edge-unet", None),
        ("unet", True),
        ("unet", False),
    }
    assert {(s.loss, s.class_weight) for s in settings} == {("boundary", "none"), ("dice", "frequency")}
    assert {s.augmentation.blur_px for s in settings} == {0, 0.5, 1}


def test_settings_hold_base_choice_and_metric(read):
    plan = read(WHOLE)
    point = {
        "arch": "unet",
        "unet/options.batch_norm": "true",
        "loss": "dice",
        "augmentation.blur_px": 0.5,
    }
    assert point in plan.points()
    found = settings_of(plan, point)
    assert found.options == {"activation": "elu", "batch_norm": True}
    assert (found.epochs, found.monitor, found.augmentation.noise) == (3, "mean_ap", 0)
    assert found.steps == TrainSettings.steps


def test_choices_with_one_value_are_told_apart_by_what_else_they_set(read):
    plan = read(
        "search: {arch: [edge-unet, unet, {arch: unet, options: {activation: elu, filters: [8, 16]}}]}\ntrials: 1"
    )
    ((_, choices),) = plan.parameters()
    assert list(choices) == ["edge-unet", "unet", "unet options.activation=elu options.filters=[8, 16]"]


def test_ranges(read):
    plan = read(
        """
        search:
          learning-rate: {low: 1e-4, high: 1e-2, log: true}
          side: {low: 32, high: 100, step: 32}
          batch: {low: 1, high: 8}
          augmentation.blur_px: {low: 0, high: 2}
          options.width: {low: 0.5, high: 1}
        trials: 7
        """
    )
    kinds = dict(plan.parameters())
    assert kinds["learning_rate"] == space.Range(1e-4, 1e-2, log=True)
    assert kinds["side"] == space.Range(32, 96, step=32, whole=True)
    assert kinds["side"].values == [32, 64, 96]
    assert kinds["batch"].whole
    assert not kinds["augmentation.blur_px"].whole
    assert not kinds["options.width"].whole
    assert (plan.method, plan.trials, plan.count(), plan.count(3)) == ("tpe", 7, 7, 3)


def test_steps_do_not_drift():
    assert space.Range(0, 1, step=0.1).values == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]


def test_mappings_are_values_of_settings_that_are_mappings(read):
    plan = read("search: {options: [{activation: elu}, {batch_norm: true}]}\nmethod: grid")
    assert [settings_of(plan, p).options for p in plan.points()] == [{"activation": "elu"}, {"batch_norm": True}]
    assert [p["options"] for p in plan.points()] == ['{"activation": "elu"}', '{"batch_norm": true}']


def test_the_number_of_trials_is_no_part_of_what_is_searched(read):
    assert read("search: {seed: [1, 2]}\ntrials: 3").told == read("search: {seed: [1, 2]}\ntrials: 9").told
    assert read("search: {seed: [1, 2]}\ntrials: 3").told != read("search: {seed: [1, 3]}\ntrials: 3").told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("serach: {}", "there is no key 'serach': did you mean 'search'?"),
        ("base: {epoch: 1}", "'base': there is no setting 'epoch': did you mean 'epochs'?"),
        ("search: {los: [a]}", "'search': there is no setting 'los': did you mean 'loss'?"),
        ("search: {augmentation.blur: [1]}", "no augmentation 'blur': did you mean 'blur_px'?"),
        ("search: {arch: [{arch: unet, optoins: {}}]}", "'search: arch': there is no setting 'optoins': did you mean"),
        (
            "search: {arch: [{arch: unet, search: {sied: [1]}}]}",
            "arch: unet: search': there is no setting 'sied'",
        ),
        ("search: {side: {low: 1, hihg: 2}}", "no key in 'search: side' 'hihg': did you mean 'high'?"),
        ("method: rnadom", "'method': there is no method 'rnadom': did you mean 'random'?"),
        ("base: {monitor: loss}", "'metric' says: leave it out"),
        ("search: {loss.x: [1]}", "'loss' holds no further settings"),
        ("base: {epochs: many}", "'base': setting 'epochs': 'many' does not fit"),
        ("base: {options: 3}", "'base: options' must be a mapping"),
        ("base: [1]", "'base' must be a mapping of names to values, not [1]"),
        ("search: {loss: bce}", "'search: loss' must be a list of choices, or a range"),
        ("search: {loss: []}", "'search: loss' must be a list of choices"),
        ("search: {epochs: [1, x]}", "'search: epochs': setting 'epochs': 'x' does not fit"),
        ("search: {loss: [bce, bce]}", "the choice bce stands twice"),
        ("search: {loss: [{loss: bce, seed: 1}, {loss: bce, seed: 1}]}", "the choice bce seed=1 stands twice"),
        ("search: {loss: [{}]}", "the choice of nothing stands twice"),
        ("search: {loss: [bce], LOSS: [1]}", "no setting 'LOSS'"),
        ("search: {side: [1], learning-rate: [1], learning_rate: [2]}", "'search: learning_rate' stands twice"),
        ("search: {side: {low: 2, high: 2}}", "'low' must be below 'high'"),
        ("search: {side: {low: 2}}", "'high' must be a number, not None"),
        ("search: {side: {low: true, high: 3}}", "'low' must be a number, not True"),
        ("search: {side: {low: 2, high: 4, step: 3}}", "'step' must lie between"),
        ("search: {side: {low: 0, high: 4, log: true}}", "'log' goes with a 'low' above 0"),
        ("search: {side: {low: 1, high: 4, log: 7}}", "'log' must be true or false"),
        ("search: {}", "'search' is empty"),
        ("base: {epochs: 1}", "'search' is empty"),
        ("search: {side: {low: 32, high: 64}}\nmethod: grid", "a grid takes all values, and 'side' has no end of them"),
        ("search: {seed: {low: 1, high: 20000, step: 1}}\nmethod: grid", "the grid has 20000 points"),
        ("search: {loss: [a]}\ntrials: 0", "'trials' must be a whole number from 1, not 0"),
        ("search: {loss: [a]}\ntrials: 1\nseed: x", "'seed' must be a whole number from 0"),
        ("search: {loss: [a]}\nmetric: 3", "'metric' must be the name of a validation score"),
        ("search: {augmentation.scale: [wide]}", "'search: augmentation.scale':"),
    ],
)
def test_a_mistake_is_one_clear_line(read, text, words):
    with pytest.raises(InputError) as raised:
        read(text)
    assert words in raised.value.message
    assert raised.value.message.count("sweep.yaml") == 1
    assert "\n" not in raised.value.message


def test_a_search_needs_a_number_of_trials(read):
    plan = read("search: {loss: [a, b]}\nmethod: random")
    with pytest.raises(InputError, match="'trials' is missing"):
        plan.count()
    assert plan.count(3) == 3
