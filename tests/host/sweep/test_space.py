import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cellseg_device.errors import InputError
from cellseg_host.sweep import explore, plan
from cellseg_host.training.settings import TrainSettings

WHOLE = """
method = "grid"
seed = 4
settings = { epochs = 3, augmentation.noise = 0 }

[search]
arch = [
    "edge-unet",
    { arch = "unet", options.activation = "elu", search.options.batch_norm = [true, false] },
]
loss = ["boundary", { loss = "dice", class-weight = "frequency" }]
augmentation.blur_px = { low = 0, high = 1, step = 0.5 }
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        return plan.read(path)

    return read


def settings_of(plan, point):
    return plan.settings_of(explore.trial_of(lambda name, _: point[name]))


def distributions(plan):
    """What each parameter may be, in the trials that take the first of all choices."""
    trial = explore.first_trial({})
    plan.search(trial)
    return trial.distributions


def test_a_grid_is_every_combination_once(read):
    plan = read(WHOLE)
    assert len(plan.points) == 3 * 2 * 3 == plan.count() == plan.count(99)
    assert plan.count(5) == 5
    settings = [settings_of(plan, p) for p in plan.points]
    assert len({str(s) for s in settings}) == 18
    assert {(s.arch, s.options.get("batch_norm")) for s in settings} == {
        ("edge-unet", None),
        ("unet", True),
        ("unet", False),
    }
    assert {(s.loss, s.class_weight) for s in settings} == {("boundary", "none"), ("dice", "frequency")}
    assert {s.augmentation.blur_px for s in settings} == {0, 0.5, 1}
    assert [s.augmentation.blur_px for s in settings[:4]] == [0, 0.5, 1, 0]


def test_settings_hold_those_of_all_trials_the_choice_and_the_metric(read):
    plan = read(WHOLE)
    point = {
        "arch": "unet",
        "unet/options.batch_norm": "true",
        "loss": "dice",
        "augmentation.blur_px": 0.5,
    }
    assert point in plan.points
    found = settings_of(plan, point)
    assert found.options == {"activation": "elu", "batch_norm": True}
    assert (found.epochs, found.monitor, found.augmentation.noise) == (3, "mean_ap", 0)
    assert found.steps == TrainSettings.steps


def test_choices_with_one_value_are_told_apart_by_all_that_they_set(read):
    several = '{ arch = "unet", options.activation = "elu", options.filters = [8, 16] }'
    plan = read(f'trials = 1\nsearch.arch = ["edge-unet", "unet", {several}]')
    assert distributions(plan)["arch"].choices == (
        "edge-unet",
        "unet",
        '{"arch": "unet", "options": {"activation": "elu", "filters": [8, 16]}}',
    )


def test_each_choice_is_found_with_those_that_lead_to_it(read):
    assert explore.choices(read(WHOLE).search) == [
        {"arch": "edge-unet"},
        {"arch": "unet"},
        {"loss": "boundary"},
        {"loss": "dice"},
        {"arch": "unet", "unet/options.batch_norm": "true"},
        {"arch": "unet", "unet/options.batch_norm": "false"},
    ]


def test_ranges(read):
    plan = read(
        """
        trials = 7
        [search]
        learning-rate = { low = 1e-4, high = 1e-2, log = true }
        side = { low = 32, high = 100, step = 32 }
        batch = { low = 1, high = 8 }
        augmentation.blur_px = { low = 0, high = 2 }
        options.width = { low = 0.5, high = 1 }
        options.depth = { low = 1, high = 64, log = true }
        """
    )
    kinds = distributions(plan)
    assert kinds["learning_rate"] == FloatDistribution(1e-4, 1e-2, log=True)
    assert kinds["side"] == IntDistribution(32, 96, step=32)
    assert explore.values("side", kinds["side"]) == [32, 64, 96]
    assert kinds["batch"] == IntDistribution(1, 8)
    assert kinds["augmentation.blur_px"] == FloatDistribution(0, 2)
    assert kinds["options.width"] == FloatDistribution(0.5, 1)
    assert kinds["options.depth"] == IntDistribution(1, 64, log=True)
    assert (plan.method, plan.trials, plan.count(), plan.count(3)) == ("tpe", 7, 7, 3)
    assert plan.settings_of(explore.first_trial({"options.depth": 5})).options == {"width": 0.5, "depth": 5}


def test_steps_do_not_drift():
    steps = FloatDistribution(0, 1, step=0.1)
    assert explore.values("x", steps) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]


def test_whole_tables_are_choices_of_settings_that_are_tables(read):
    plan = read("method = 'grid'\nsearch.options = [{ activation = 'elu' }, { batch_norm = true }]")
    assert [settings_of(plan, p).options for p in plan.points] == [{"activation": "elu"}, {"batch_norm": True}]
    assert [p["options"] for p in plan.points] == ['{"activation": "elu"}', '{"batch_norm": true}']
    assert distributions(plan)["options"] == CategoricalDistribution([p["options"] for p in plan.points])


def test_the_number_of_trials_is_no_part_of_what_is_searched(read):
    assert read("trials = 3\nsearch.seed = [1, 2]").identity == read("trials = 9\nsearch.seed = [1, 2]").identity
    assert read("trials = 3\nsearch.seed = [1, 2]").identity != read("trials = 3\nsearch.seed = [1, 3]").identity


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("serach = {}", "there is no key 'serach': did you mean 'search'?"),
        ("settings.epoch = 1", "'settings': there is no setting 'epoch': did you mean 'epochs'?"),
        ("search.los = ['a']", "'search.los': there is no setting 'los': did you mean 'loss'?"),
        ("search.augmentation.blur = [1]", "no augmentation 'blur': did you mean 'blur_px'?"),
        ("search.arch = [{ arch = 'unet', optoins = {} }]", "'search.arch': there is no setting 'optoins': did you"),
        ("search.arch = [{ arch = 'unet', search.sied = [1] }]", "'search.arch.unet.sied': there is no setting 'sied'"),
        ("search.side = { low = 1, hihg = 2 }", "'search.side' has no key 'hihg': did you mean 'high'?"),
        ("method = 'rnadom'", "'method': there is no method 'rnadom': did you mean 'random'?"),
        ("search.loss.x = [1]", "'search.loss' has no key 'x'"),
        ("settings.epochs = 'many'", "'settings': setting 'epochs': 'many' does not fit"),
        ("settings.options = 3", "setting 'options': 3 does not fit"),
        ("settings.augmentation = 3", "setting 'augmentation': 3 is not a table"),
        ("settings = [1]", "'settings' must be a table of names and values, not [1]"),
        ("search.loss = 'bce'", "'search.loss' must be a list of choices, or a range"),
        ("search.loss = []", "'search.loss' must be a list of choices"),
        ("search.arch = [{ arch = 'unet', search = 3 }]", "'search.arch.unet' must be a table"),
        ("search.epochs = [1, 'x']", "'search.epochs': setting 'epochs': 'x' does not fit"),
        ("search.loss = ['bce', 'bce']", "'search.loss': bce is listed twice"),
        (
            "search.loss = [{ loss = 'a', seed = 1 }, { loss = 'a', seed = 1 }]",
            '{"loss": "a", "seed": 1} is listed',
        ),
        ("search.loss = ['bce']\nsearch.LOSS = [1]", "no setting 'LOSS'"),
        (
            "search.learning-rate = [1]\nsearch.learning_rate = [2]",
            "a setting is given twice among learning-",
        ),
        ("search.side = { low = 3, high = 2 }", "'search.side' is not a range: `low <= high` must hold"),
        ("search.side = { low = 40 }", "'search.side' is not a range: it needs a 'low' and a 'high'"),
        ("search.side = { low = 'a', high = 3 }", "'search.side' is not a range: must be real number, not str"),
        ("search.side = { low = 32, high = inf }", "'search.side' is not a range: it must be finite"),
        ("search.side = { low = 32, high = 64, step = -3 }", "`step > 0` must hold"),
        ("search.side = { low = 0, high = 4, log = true }", "must hold for `log=True`"),
        ("search.side = { low = 32, high = 64, log = true, step = 2 }", "'log' and 'step' do not go together"),
        (
            "search.augmentation.blur_px = { low = 0, high = 99 }",
            "augmentation 'blur_px' must be a number from",
        ),
        ("search = {}", "'search' is empty"),
        ("search = 3", "'search' is empty"),
        ("settings.epochs = 1", "'search' is empty"),
        ("search = 'none.py:search'", "search = none.py:search: none.py cannot be read"),
        (
            "method = 'grid'\nsearch.options.x = { low = 1, high = 2.5 }",
            "a grid needs all values of 'options.x', which are",
        ),
        ("method = 'grid'\nsearch.seed = { low = 1, high = 9, log = true }", "all values of 'seed', which are endless"),
        ("method = 'grid'\nsearch.seed = { low = 1, high = 20000 }", "the grid has more than 10000 points"),
        ("trials = 0\nsearch.loss = ['a']", "'trials' must be a whole number from 1, not 0"),
        ("seed = 'x'\nsearch.loss = ['a']", "'seed' must be a whole number from 0"),
        ("metric = 3\nsearch.loss = ['a']", "'metric' must be the name of a validation score"),
        ("search.augmentation.scale = ['wide']", "'search.augmentation.scale':"),
        ("search.seed = [2026-11-01]", "setting 'seed': datetime.date(2026, 11, 1) does not fit"),
        ("search.seed = [1", "sweep.toml: is not valid TOML: Unclosed array (at end of document)"),
    ],
)
def test_a_mistake_is_one_clear_line(read, text, words):
    with pytest.raises(InputError) as raised:
        read(text)
    assert words in raised.value.message
    assert raised.value.message.count("sweep.toml") == 1
    assert "\n" not in raised.value.message


def test_a_search_needs_a_number_of_trials(read):
    plan = read("method = 'random'\nsearch.loss = ['a', 'b']")
    with pytest.raises(InputError, match="'trials' is missing"):
        plan.count()
    assert plan.count(3) == 3
