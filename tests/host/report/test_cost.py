import numpy as np
import pytest
import tf_keras as keras

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card, Output
from cellseg_host.architectures import macs_per_px
from cellseg_host.quantize.convert import convert
from cellseg_host.report.cost import cost

CARD = Card("t", "float32", (Output("foreground", 0, "logit"),), 4, 0, 0.0, 100.0, 10.0)


def network(*middle):
    """Of random weights: of equal ones, as untrained biases are, the converter keeps one."""
    image = x = keras.Input((None, None, 3))
    for layer in middle:
        x = layer(x)
    made = keras.Model(image, x)
    rng = np.random.default_rng(0)
    made.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in made.get_weights()])
    return made


def every_kind():
    layers = keras.layers
    return network(
        layers.Conv2D(8, 3, 2, padding="same", activation="relu"),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.Conv2D(6, 1),
        layers.Conv2DTranspose(4, 2, 2, padding="same"),
        layers.UpSampling2D(2, interpolation="nearest"),
        layers.Conv2D(1, 3, padding="same"),
    )


@pytest.mark.parametrize("mode", ["float32", "float16", "dynamic"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_a_graph_has_the_parameters_and_multiply_adds_of_its_network(mode, tile):
    made = every_kind()
    data = cards.attach(convert(made, mode, tile, None), CARD)
    found = cost(data)
    assert found.parameters == made.count_params()
    assert found.macs_per_px == pytest.approx(macs_per_px(made))


def test_a_dense_layer_counts_once_for_an_image():
    layers = keras.layers
    made = network(layers.Conv2D(4, 1), layers.GlobalAveragePooling2D(), layers.Dense(5), layers.Reshape((1, 1, 5)))
    found = cost(cards.attach(convert(made, "float32", None, None), CARD))
    assert found.parameters == made.count_params()
    assert found.macs_per_px == pytest.approx(3 * 4 + 4 * 5 / 16**2)  # at four strides of 4 px


def test_a_batch_normalisation_that_cannot_be_folded_counts():
    """In front of its convolution it is a scaling and a shift of every channel."""
    layers = keras.layers
    made = network(
        layers.Conv2D(4, 1, activation="relu"), layers.BatchNormalization(), layers.Conv2D(2, 3, padding="same")
    )
    found = cost(cards.attach(convert(made, "float32", (16, 16), None), CARD))
    assert found.parameters == made.count_params() - 2 * 4  # mean and variance are folded into scale and shift


def test_the_released_model(model_path):
    found = cost(model_path.read_bytes())
    assert found.parameters == 147_301
    assert found.macs_per_px == pytest.approx(2666, abs=1)


def test_a_graph_that_is_none_is_refused(model_path):
    data = model_path.read_bytes()
    broken = bytearray(data)
    broken[200:20_000] = np.random.default_rng(0).bytes(19_800)
    with pytest.raises(ModelError, match="refuses the graph"):
        cost(bytes(broken))
