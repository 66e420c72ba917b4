import numpy as np
import tf_keras as keras

from cellseg_host.averaging import Average, restate_statistics


def network() -> keras.Model:
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(image, keras.layers.Conv2D(1, 1)(x))


def test_the_average_is_the_mean_of_what_was_added():
    net, rng = network(), np.random.default_rng(0)
    average, seen = Average(net), []
    for count in range(3):
        net.set_weights([rng.normal(size=w.shape) for w in net.get_weights()])
        seen.append(net.get_weights())
        average.add(count)
    for variable, *values in zip(average.variables, *seen, strict=True):
        assert np.allclose(variable, np.mean(values, axis=0), atol=1e-6)


def test_it_is_applied_for_a_while_only():
    net = network()
    average = Average(net)
    average.add(0)
    net.set_weights([w + 1 for w in net.get_weights()])
    before = net.get_weights()
    with average.applied([np.zeros((1, 8, 8, 3), np.float32)]):
        assert np.allclose(net.get_weights()[0], before[0] - 1, atol=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


def test_statistics_are_the_plain_mean_over_the_batches():
    net, rng = network(), np.random.default_rng(1)
    batches = [rng.normal(3, 2, (2, 16, 16, 3)).astype(np.float32) for _ in range(4)]
    restate_statistics(net, batches)
    norm = net.layers[2]
    convolved = [net.layers[1](b).numpy().reshape(-1, 4) for b in batches]
    assert np.allclose(norm.moving_mean, np.mean([c.mean(0) for c in convolved], axis=0), atol=1e-4)
    assert norm.momentum == 0.99


def test_frozen_statistics_stay():
    net = network()
    net.layers[2].trainable = False
    restate_statistics(net, [np.ones((1, 8, 8, 3), np.float32)])
    assert (net.layers[2].moving_mean.numpy() == 0).all()
