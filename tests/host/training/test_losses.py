import numpy as np
import pytest
import tensorflow as tf

from cellseg_device.errors import InputError
from cellseg_device.model.card import Output
from cellseg_host.training import losses
from cellseg_host.training.losses import LOSSES, total_loss

FOREGROUND, DISTANCE = Output("foreground", 0, "logit"), Output("distance", 1, "logit")
OUTLINE, PRESENCE = Output("outline", 0, "logit"), Output("presence", 0, "logit")


def squares() -> np.ndarray:
    target = np.zeros((2, 16, 16, 1), np.float32)
    target[:, 4:12, 4:12] = 1
    return target


def logits_of(target: np.ndarray, certainty: float) -> np.ndarray:
    return ((2 * target - 1) * certainty).astype(np.float32)


def noise(seed: int, shape: tuple[int, ...] = (2, 16, 16, 1)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def entropy(target: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Cross-entropy of each pixel, from the definition."""
    p = 1 / (1 + np.exp(-logits.astype(float)))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def test_dice_loss_is_one_minus_the_coefficient():
    target, ones = squares(), np.ones_like(squares())
    assert float(losses.dice(target, logits_of(target, 30), ones)) == pytest.approx(0, abs=1e-5)
    half = target.copy()
    half[:, :, 8:] = 0  # 32 of 64 pixels: Dice 2·32 / (64 + 32)
    assert float(losses.dice(target, logits_of(half, 30), ones)) == pytest.approx(1 - 129 / 193, abs=1e-5)


def test_cross_entropy_of_a_perfect_soft_answer_is_zero():
    target = np.linspace(0.05, 0.95, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    logits = np.log(target / (1 - target))
    assert float(losses.cross_entropy(target, logits, np.ones_like(target))) == pytest.approx(0, abs=1e-5)
    assert float(losses.cross_entropy(target, -logits, np.ones_like(target))) > 0.3


def test_a_weighted_pixel_counts_more():
    target, wrong = squares(), logits_of(squares(), 3)
    wrong[:, 8, 8] *= -1
    weight = np.ones_like(target)
    plain = {name: float(loss(target, wrong, weight)) for name, loss in LOSSES.items()}
    weight[:, 8, 8] = 5
    for name, loss in LOSSES.items():
        assert float(loss(target, wrong, weight)) > 1.2 * plain[name], name


def test_focal_without_focus_is_cross_entropy_and_with_it_leaves_out_what_is_nearly_right():
    target, logits, weight = squares(), noise(0), np.abs(noise(1))
    expected = (entropy(target, logits) * weight).sum() / weight.sum()
    assert float(losses.focal(target, logits, weight, gamma=0)) == pytest.approx(expected, rel=1e-4)
    p = 1 / (1 + np.exp(-logits.astype(float)))
    missing = np.where(target > 0, 1 - p, p)
    expected = (missing**2 * entropy(target, logits) * weight).sum() / weight.sum()
    assert float(losses.focal(target, logits, weight)) == pytest.approx(expected, rel=1e-4)


def test_tversky_counts_a_missed_pixel_more_than_a_false_one():
    target, ones = squares(), np.ones_like(squares())
    missing, added = target.copy(), target.copy()
    missing[:, 4:6, 4:12] = 0  # 16 of 64 in each image
    added[:, 12:14, 4:12] = 1
    missed = float(losses.tversky(target, logits_of(missing, 30), ones))
    assert missed == pytest.approx(1 - (96 + 1) / (96 + 0.7 * 32 + 1), abs=1e-5)
    assert float(losses.tversky(target, logits_of(added, 30), ones)) == pytest.approx(1 - 129 / (129 + 0.3 * 32))


@pytest.mark.parametrize("ones", [1.0, 3.0])
def test_weighted_accuracy_is_the_published_formula_where_predictions_are_certain(ones):
    rng = np.random.default_rng(0)
    target = (rng.random((4, 64, 64, 1)) < 0.2).astype(np.float32)
    predicted = np.where(rng.random(target.shape) < 0.3, 1 - target, target)
    right = predicted == target
    of_ones, of_zeros = right[target == 1].mean(), right[target == 0].mean()
    expected = 1 - (ones * of_ones + of_zeros) / (ones + 1)
    loss = float(losses.weighted_accuracy(target, logits_of(predicted, 30), np.ones_like(target), ones))
    assert loss == pytest.approx(expected, abs=1e-3)  # smoothed by one pixel


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("fill", [0.0, 1.0, None], ids=["empty", "full", "both"])
def test_every_loss_is_near_zero_for_the_truth_and_descends_to_it_from_anywhere(name, fill):
    target = squares() if fill is None else np.full((2, 16, 16, 1), fill, np.float32)
    weight = np.ones_like(target)
    assert float(LOSSES[name](target, logits_of(target, 30), weight)) == pytest.approx(0, abs=1e-4)
    for start in (noise(0), logits_of(1 - target, 8), logits_of(target, 8)):
        logits = tf.constant(start)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = LOSSES[name](target, logits, weight)
        gradient = tape.gradient(loss, logits).numpy()
        assert loss.shape == ()
        assert float(loss) >= 0
        assert np.isfinite(gradient).all()
        assert (gradient * (2 * target - 1) <= 1e-9).all()  # down for ones, up for zeros
        assert gradient.any()


def test_blocks_are_spread_as_the_device_spreads_them():
    from cellseg_device.model.interpreter import map_spec
    from cellseg_device.pipeline.predict import _stitch
    from cellseg_device.pipeline.tiling import Tile

    tensor = np.arange(2 * 3 * 4, dtype=np.int8).reshape(2, 3, 4)
    stitched = np.empty((4, 6), np.int8)
    spec = map_spec(FOREGROUND, (1, 2, 3, 4), (4, 6), None)
    _stitch(stitched, tensor, spec, Tile(0, 0, (0, 4), (0, 6)))
    spread = losses.spread(tf.constant(tensor[None].astype(np.float32)))
    assert (spread.numpy()[0, ..., 0] == stitched).all()


def test_the_total_is_small_for_the_truth_and_large_for_its_opposite():
    target = squares()
    halved = target[:, ::2, ::2]
    border = np.zeros_like(target)
    both = {"foreground": target, "distance": target}
    blocks = tf.nn.space_to_depth(logits_of(target, 8), 2)
    good = total_loss((FOREGROUND, DISTANCE), (blocks, logits_of(halved, 8)), both, border)
    bad = total_loss((FOREGROUND, DISTANCE), (-blocks, -logits_of(halved, 8)), both, border)
    assert float(good) < 0.01
    assert float(bad) > 10


@pytest.mark.parametrize(("given", "factor"), [({}, 4), ({"border_weight": 12.0}, 12), ({"border_weight": 0.0}, 0)])
def test_boundary_weighs_foreground_and_distance_between_nuclei_and_leaves_dice_alone(given, factor):
    target, border = squares(), np.abs(noise(1)) / 8
    logits = noise(0)
    weight = 1 + factor * border
    weighted = (entropy(target, logits) * weight).sum() / weight.sum()
    dice = float(losses.dice(target, logits, np.ones_like(border)))
    foreground = total_loss((FOREGROUND,), (logits,), {"foreground": target}, border, **given)
    assert float(foreground) == pytest.approx(weighted + dice, rel=1e-4)
    distance = total_loss((DISTANCE,), (logits,), {"distance": target}, border, "dice", **given)
    assert float(distance) == pytest.approx(weighted, rel=1e-4)


def test_other_losses_look_at_all_pixels_alike_in_foreground_and_outline():
    target, border, logits = squares(), np.abs(noise(1)), noise(0)
    for output in (FOREGROUND, OUTLINE):
        loss = total_loss((output,), (logits,), {output.quantity: target}, border, "bce")
        assert float(loss) == pytest.approx(entropy(target, logits).mean(), rel=1e-4)
    weighted = total_loss((OUTLINE,), (logits,), {"outline": target}, border, "boundary")
    assert float(weighted) == pytest.approx(float(losses.boundary(target, logits, 1 + 4 * border)), rel=1e-5)


def test_class_weights_multiply_the_weight_of_the_foreground_only():
    target, border, logits = squares(), np.zeros_like(squares()), noise(0)
    weight = np.where(target > 0, 3.0, 0.5)
    expected = (entropy(target, logits) * weight).sum() / weight.sum()
    loss = total_loss((FOREGROUND,), (logits,), {"foreground": target}, border, "bce", class_weights=(0.5, 3.0))
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    for output in (OUTLINE, PRESENCE):
        plain = total_loss((output,), (logits,), {output.quantity: target}, border, "bce", class_weights=(0.5, 3.0))
        assert float(plain) == pytest.approx(entropy(target, logits).mean(), rel=1e-4)


def test_presence_is_scored_on_one_value_an_image():
    present = np.array([1, 0], np.float32).reshape(2, 1, 1, 1)
    border = np.zeros((2, 16, 16, 1), np.float32)
    logits = np.array([2, 1], np.float32).reshape(2, 1, 1, 1)
    loss = total_loss((PRESENCE,), (logits,), {"presence": present}, border, "dice")
    assert float(loss) == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2, rel=1e-4)


def test_a_deeply_supervised_network_has_the_mean_of_its_groups():
    both, border = {"foreground": squares(), "distance": squares()}, np.zeros_like(squares())
    outputs = (FOREGROUND, DISTANCE)
    coarse = noise(0, (2, 4, 4, 1)), noise(1, (2, 8, 8, 1))
    fine = noise(2), noise(3)
    alone = [float(total_loss(outputs, group, both, border)) for group in (coarse, fine)]
    assert float(total_loss(outputs, (*coarse, *fine), both, border)) == pytest.approx(sum(alone) / 2, rel=1e-5)
    with pytest.raises(ValueError, match="3 predictions"):
        total_loss(outputs, (*coarse, fine[0]), both, border)


def test_a_probability_output_gives_the_loss_of_its_logit():
    targets, border = {"foreground": squares()}, np.zeros_like(squares())
    logits = logits_of(squares(), 2)
    as_logit = total_loss((FOREGROUND,), (logits,), targets, border)
    probability = Output("foreground", 0, "probability")
    as_probability = total_loss((probability,), (tf.sigmoid(logits),), targets, border)
    assert float(as_probability) == pytest.approx(float(as_logit), rel=1e-4)


def test_a_mistyped_loss_is_named_with_the_nearest():
    assert losses.get("tversky") is losses.tversky
    with pytest.raises(InputError, match="no loss 'bce-dise': did you mean 'bce-dice'"):
        losses.get("bce-dise")


def test_a_loss_of_the_users_own_is_as_good_as_ours(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import tensorflow as tf\n"
        "import tf_keras as keras\n"
        "def scalar(y_true, y_pred):\n"
        "    return -tf.reduce_mean(y_true * tf.math.log(y_pred) + (1 - y_true) * tf.math.log(1 - y_pred))\n"
        "def each(y_true, y_pred):\n"
        "    return keras.losses.binary_crossentropy(y_true, y_pred)\n"
    )
    targets, border, logits = {"foreground": squares()}, np.zeros_like(squares()), noise(0)
    for name in ("scalar", "each"):
        mine = losses.get(f"{file}:{name}")
        loss = total_loss((FOREGROUND,), (logits,), targets, border, mine)
        assert float(loss) == pytest.approx(entropy(squares(), logits).mean(), rel=1e-3)
    ours, mine = (
        float(total_loss((FOREGROUND,), (logits,), targets, border, loss, class_weights=(0.5, 3.0)))
        for loss in ("bce", losses.get(f"{file}:each"))
    )
    assert mine == pytest.approx(ours, rel=1e-3)  # a value for each pixel is weighted like our own
