"""A network of low rank that starts from a plain one."""

import numpy as np
import pytest
from click.testing import CliRunner

from cellseg_host import architectures
from cellseg_host.architectures.edge_unet import EXPAND, inner_channels
from cellseg_host.cli import main
from cellseg_host.training import low_rank

HEADS = ("foreground", "distance")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.random((2, 64, 64, 3), np.float32) for _ in range(3)]


def plain_network(images):
    """A network with random weights and the batch statistics of the images."""
    network = architectures.get("edge-unet").network(HEADS)
    for image in images * 20:
        network(image, training=True)
    return network


def test_half_the_channels_in_whole_sixteens():
    assert [inner_channels(n) for n in (8, 16, 32, 48, 64, 88)] == [8, 16, 16, 32, 32, 48]


def test_two_thirds_of_the_multiply_adds():
    build = architectures.get("edge-unet").network
    assert architectures.macs_per_px(build(HEADS)) == 3922.75
    assert architectures.macs_per_px(build(HEADS, low_rank=True)) == 2666


def test_a_network_whose_outputs_lie_in_half_the_directions_stays_what_it_is(images):
    """Each kernel has its second half of channels as mixtures of the first: nothing is lost."""
    plain = plain_network(images)
    rng = np.random.default_rng(1)
    small = architectures.get("edge-unet").network(HEADS, low_rank=True)
    for layer in small.layers:
        if layer.name.endswith(EXPAND):
            original = plain.get_layer(layer.name.removesuffix(EXPAND))
            kernel = original.get_weights()[0]
            rank = layer.input_shape[-1]
            mix = rng.normal(size=(rank, kernel.shape[-1] - rank)) / rank**0.5
            original.set_weights([np.concatenate([kernel[..., :rank], kernel[..., :rank] @ mix], axis=-1)])
    low_rank.factorise(plain, small, images)
    for found, expected in zip(small(images[0]), plain(images[0]), strict=True):
        assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


def test_the_mean_of_what_is_left_out_is_kept(images):
    plain = plain_network(images)
    small = architectures.get("edge-unet").network(HEADS, low_rank=True)
    low_rank.factorise(plain, small, images)
    name = "encoder1_conv0"  # what is before it is the same in both
    before, after = (
        np.mean([_output(network, f"{name}_bn", image) for image in images], axis=(0, 1, 2, 3))
        for network in (plain, small)
    )
    assert np.allclose(before, after, atol=1e-3)


def _output(network, layer, image):
    import tf_keras as keras

    return keras.Model(network.inputs, network.get_layer(layer).output)(image).numpy()


def test_a_run_starts_from_a_plain_one_and_another_from_it(tiny_dataset, tiny_run, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    common = ["--option", "low_rank=true", "--epochs", "1", "--steps", "2", "--batch", "2", "--side", "64"]
    for source, out, is_factorised in ((tiny_run, first, True), (first, second, False)):
        command = ["train", str(tiny_dataset.root), "--out", str(out), "--init", str(source), *common]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        assert ("factorised" in result.output) == is_factorised
