import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

from cellseg_device.model.graph import operators
from cellseg_host.architectures.upsampling import NearestUpSampling2D
from cellseg_host.quantize.convert import convert
from cellseg_host.quantize.with_card import open_graph, run_graph


def network(shape, size=2):
    image = keras.Input((*shape, 3))
    return keras.Model(image, NearestUpSampling2D(size)(image))


def image(height, width, batch=1):
    return np.random.default_rng(0).random((batch, height, width, 3), np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, (2, 3), 8])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 4)])
def test_of_any_size_and_of_a_fixed_one_it_is_the_resize(size, shape):
    batch = image(*shape, batch=2)
    expected = layers.UpSampling2D(size, interpolation="nearest")(batch)
    for known in ((None, None), shape):
        # Traced, since a layer that is called with values knows their size
        upsampled = tf.function(network(known, size), input_signature=[tf.TensorSpec((None, *known, 3))])
        assert (upsampled(batch) == expected).numpy().all()
        operations = {o.type for o in upsampled.get_concrete_function().graph.get_operations()}
        assert ("ResizeNearestNeighbor" in operations) == (known == shape)
    assert network((None, 7), size).output_shape == (None, None, None, 3)


def test_a_model_of_any_size_copies_and_one_for_an_edge_tpu_resizes():
    free = open_graph(convert(network((None, None)), "float32"))
    assert {o.name for o in operators(free)} == {"CONCATENATION", "SHAPE", "MUL", "RESHAPE"}
    fixed = open_graph(convert(network((None, None)), "float32", (4, 6)))
    assert {o.name for o in operators(fixed)} == {"RESIZE_NEAREST_NEIGHBOR"}
    for height, width in ((4, 6), (9, 1), (4, 6)):  # one after the other, as the device does
        given = image(height, width)
        run_graph(free, given)
        found = free.get_tensor(free.get_output_details()[0]["index"])
        assert (found == given.repeat(2, axis=1).repeat(2, axis=2)).all()
    run_graph(fixed, given)
    assert (fixed.get_tensor(fixed.get_output_details()[0]["index"]) == found).all()
