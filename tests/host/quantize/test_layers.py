"""Which layers int8 hurts, and what percentiles do about it."""

import numpy as np
import pytest
import tf_keras as keras

from cellseg_device.model.card import Card, Output
from cellseg_host import quantize
from cellseg_host.quantize import calibrate, layers, qat
from cellseg_host.quantize.fold import folded
from cellseg_host.quantize.with_card import with_card


def network() -> keras.Model:
    """Four convolutions in a row."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((None, None, 3))
    for number in range(3):
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name=f"conv{number}")(x)
    return keras.Model(image, keras.layers.Conv2D(1, 1, name="foreground")(x), name="four")


def images(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = [rng.random((1, 32, 32, 3)).astype(np.float32) for _ in range(4)]
    for image in found:
        image[0, 0, :2] = [[0], [1]]
    return found


def made(net: keras.Model, mode: str) -> bytes:
    outputs = (Output("foreground", 0, "logit"),)
    card = Card("four", mode, outputs, 1, 0, 1, 99, 10)
    return with_card(net, outputs, card, quantize.convert(net, mode, (32, 32), lambda: iter(images())))


def test_the_layer_that_is_made_to_hurt_is_named_first():
    """One channel fifty times as loud as the others: they share a step, which drowns them."""
    net = network()
    assert layers.errors(made(net, "float32"), made(net, "int8"), images(1))[0].snr_db > 20
    kernel, bias = net.get_layer("conv1").get_weights()
    kernel[..., 0] *= 50
    net.get_layer("conv1").set_weights([kernel, bias])
    after, rest = net.get_layer("conv2").get_weights()
    after[:, :, 0] /= 50
    net.get_layer("conv2").set_weights([after, rest])
    found = layers.errors(made(net, "float32"), made(net, "int8"), images(1))
    assert found[0].layer == "conv1"
    assert found[0].own_db < found[1].own_db - 3
    assert {e.layer for e in found} == {"conv0", "conv1", "conv2", "foreground"}


def test_without_rounding_there_is_no_noise():
    plain = made(network(), "float32")
    assert all(e.snr_db > 100 for e in layers.errors(plain, plain, images()))


def test_other_networks_have_nothing_to_compare():
    image = keras.Input((None, None, 3))
    other = keras.Model(image, keras.layers.Conv2D(1, 1, name="elsewhere")(image), name="other")
    outputs = (Output("foreground", 0, "logit"),)
    card = Card("other", "float32", outputs, 1, 0, 1, 99, 10)
    plain = with_card(other, outputs, card, quantize.convert(other, "float32", (32, 32)))
    found = layers.errors(plain, made(network(), "int8"), images())
    assert {e.layer for e in found} == {"foreground"}


@pytest.mark.parametrize(("percentile", "narrow"), [(None, False), (99.5, True)])
def test_one_outlier_widens_the_range_unless_a_percentile_cuts_it(percentile, narrow):
    net = folded(qat.accepted(network()))
    plain, outlier = images(), images()
    outlier[0][0, 5, 5] = 500
    names = qat.ranged(net)
    before = calibrate.ranges(net, names, lambda: iter(plain), percentile)
    after = calibrate.ranges(net, names, lambda: iter(outlier), percentile)
    assert (after["conv0"][1] < 1.5 * before["conv0"][1]) is narrow
    assert all(low <= 0 <= high for low, high in after.values())
