import numpy as np
import pytest

from cellseg_device.errors import InputError
from cellseg_host import architectures


def test_the_baseline_has_the_published_number_of_parameters():
    network = architectures.get("unet").build()
    assert network.count_params() == 1_941_105
    assert network.compute_output_shape((1, 256, 256, 3)) == (1, 256, 256, 1)


def test_edge_unet_keeps_to_its_budget():
    network = architectures.get("edge-unet").build()
    assert architectures.macs_per_px(architectures.get("edge-unet").build) <= 4_000
    assert network.compute_output_shape((1, 256, 320, 3)) == [(1, 128, 160, 4), (1, 128, 160, 1)]


def test_macs_of_the_baseline_are_the_known_ones():
    assert architectures.macs_per_px(architectures.get("unet").build) == 46_272


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_outputs_and_stride_are_as_the_architecture_says(name):
    arch = architectures.get(name)
    network = arch.build()
    outputs = network(np.zeros((1, 2 * arch.stride, 3 * arch.stride, 3), np.float32))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    assert len(outputs) == len(arch.outputs)
    assert arch.margin % arch.stride == 0


def test_the_command_line_offers_all_of_them():
    from cellseg_host import cli

    assert tuple(architectures.ARCHITECTURES) == cli._ARCHITECTURES


def test_an_unknown_one_is_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="edge-unet, unet"):
        architectures.get("resnet")
