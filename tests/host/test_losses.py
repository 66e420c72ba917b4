import numpy as np
import pytest
import tensorflow as tf

from cellseg_device.card import Output
from cellseg_host import losses

FOREGROUND, DISTANCE = Output("foreground", 0, "logit"), Output("distance", 1, "logit")


def squares() -> np.ndarray:
    target = np.zeros((2, 16, 16, 1), np.float32)
    target[:, 4:12, 4:12] = 1
    return target


def logits_of(target: np.ndarray, certainty: float) -> np.ndarray:
    return ((2 * target - 1) * certainty).astype(np.float32)


def test_dice_loss_is_one_minus_the_coefficient():
    target = squares()
    assert float(losses.dice_loss(target, logits_of(target, 30))) == pytest.approx(0, abs=1e-5)
    half = target.copy()
    half[:, :, 8:] = 0  # 32 of 64 pixels: Dice 2·32 / (64 + 32)
    assert float(losses.dice_loss(target, logits_of(half, 30))) == pytest.approx(1 - 129 / 193, abs=1e-5)


def test_cross_entropy_of_a_perfect_soft_answer_is_zero():
    target = np.linspace(0.05, 0.95, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    logits = np.log(target / (1 - target))
    assert float(losses.cross_entropy(target, logits, np.ones_like(target))) == pytest.approx(0, abs=1e-5)
    assert float(losses.cross_entropy(target, -logits, np.ones_like(target))) > 0.3


def test_a_weighted_pixel_counts_more():
    target, wrong = squares(), logits_of(squares(), 3)
    wrong[:, 8, 8] *= -1
    weight = np.ones_like(target)
    plain = float(losses.cross_entropy(target, wrong, weight))
    weight[:, 8, 8] = 5
    assert float(losses.cross_entropy(target, wrong, weight)) > 1.5 * plain


def test_blocks_are_spread_as_the_device_spreads_them():
    from cellseg_device.model import map_spec
    from cellseg_device.segment import _stitch
    from cellseg_device.tiling import Tile

    tensor = np.arange(2 * 3 * 4, dtype=np.int8).reshape(2, 3, 4)
    stitched = np.empty((4, 6), np.int8)
    spec = map_spec(FOREGROUND, (1, 2, 3, 4), (4, 6), None)
    _stitch(stitched, tensor, spec, Tile(0, 0, (0, 4), (0, 6)))
    spread = losses.spread(tf.constant(tensor[None].astype(np.float32)))
    assert (spread.numpy()[0, ..., 0] == stitched).all()


def test_the_total_is_small_for_the_truth_and_large_for_its_opposite():
    target = squares()
    halved = target[:, ::2, ::2]
    gap = np.zeros_like(target)
    blocks = tf.nn.space_to_depth(logits_of(target, 8), 2)
    good = losses.total_loss((FOREGROUND, DISTANCE), (blocks, logits_of(halved, 8)), target, target, gap)
    bad = losses.total_loss((FOREGROUND, DISTANCE), (-blocks, -logits_of(halved, 8)), target, target, gap)
    assert float(good) < 0.01
    assert float(bad) > 10


def test_a_probability_output_gives_the_loss_of_its_logit():
    target, gap = squares(), np.zeros_like(squares())
    logits = logits_of(target, 2)
    as_logit = losses.total_loss((FOREGROUND,), (logits,), target, target, gap)
    probability = Output("foreground", 0, "probability")
    as_probability = losses.total_loss((probability,), (tf.sigmoid(logits),), target, target, gap)
    assert float(as_probability) == pytest.approx(float(as_logit), rel=1e-4)
