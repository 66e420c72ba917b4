import numpy as np
import pytest
import tf_keras as keras
from tf_keras import layers

from cellseg_device.errors import InputError
from cellseg_device.model.card import Output
from cellseg_device.model.interpreter import map_spec
from cellseg_host import architectures
from cellseg_host.architectures import ARCHITECTURES, FACTS, double_unet, hrnet, unetpp
from cellseg_host.edgetpu.untrained import check_architecture


def refused(function, *arguments, **options) -> str:
    """The message with which something is refused: one line."""
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "count"),
    {
        "unet": 1_941_105,  # published with the DSB2018 figures that stand in the README; so is hrnet
        "hrnet": 28_608_608,
        "double-unet": 29_297_570,  # of the authors' code
        "vgg19-unet": 31_172_033,  # as commonly built in Keras
        "resnet50-unet": 20_676_545,
    }.items(),
)
def test_parameters_are_as_published(name, count):
    assert FACTS[name].parameters == count


LARGE = ("hrnet", "unetpp-efficientnet-b4")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in ARCHITECTURES])
def test_a_network_is_what_its_architecture_and_its_facts_say(name):
    from cellseg_host.quantize import QuantizationError, qat

    arch, facts = ARCHITECTURES[name], FACTS[name]
    network = arch.network()
    final = architectures.for_inference(network, arch.heads)
    assert final.count_params() == facts.parameters
    assert round(architectures.macs_per_px(final)) == facts.macs_per_px
    assert architectures.stride_of(network) == arch.stride
    assert arch.margin % arch.stride == 0
    if "qat" in facts.quantizations:
        assert qat.accepted(final) is final
    else:
        with pytest.raises(QuantizationError, match="quantization-aware"):
            qat.accepted(final)

    groups = len(network.outputs) // len(arch.heads)
    assert network.output_names == [
        head if groups == 1 else f"{head}_{group}" for group in range(1, groups + 1) for head in arch.heads
    ]
    assert [o.quantity for o in architectures.outputs_of(final, arch.heads)] == list(arch.heads)
    height, width = size = (arch.stride, 3 * arch.stride)  # odd multiples: all roundings must agree
    answers = architectures.as_list(network(np.zeros((1, height, width, 3), np.float32), training=False))
    for answer, head in zip(answers, arch.heads * groups, strict=True):
        assert np.isfinite(answer).all()
        if arch.is_classifier:
            assert answer.shape == (1, 1, 1, 5 if head == "kind" else 1)
        else:
            map_spec(Output(head, 0, "logit"), tuple(answer.shape), size, None)  # the device understands its shape


def test_every_network_has_an_encoder_and_a_decoder_that_can_be_told_apart():
    for name in ("edge-unet", "unet", "unetpp", "hrnet-w18-small", "vgg19-unet"):
        network = ARCHITECTURES[name].network()
        learning = [layer.name for layer in network.layers if layer.weights and layer.name not in network.output_names]
        decoder = [layer.startswith("decoder") for layer in learning]
        assert any(decoder)
        assert not all(decoder)


def test_facts_are_of_all_architectures():
    assert list(FACTS) == list(ARCHITECTURES)
    for facts in FACTS.values():
        assert bool(facts.refused) == ("qat" not in facts.quantizations)


def test_an_architecture_is_found_by_its_name():
    assert architectures.get("hrnet").name == "hrnet"
    assert "no architecture 'hrnte': did you mean 'hrnet'?" in refused(architectures.get, "hrnte")


# What networks cost


def test_multiply_adds_and_strides_by_hand():
    x = image = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)  # 216 at stride 2
    skip = layers.ZeroPadding2D(1)(x)
    skip = layers.DepthwiseConv2D(3)(skip)  # 72 at 2
    x = layers.SeparableConv2D(4, 3, strides=2, padding="same")(x)  # 72 + 32 at 4
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = layers.Dense(4)(squeezed)  # 16 once
    x = layers.Multiply()([x, squeezed])
    x = layers.AveragePooling2D(2)(x)
    x = layers.UpSampling2D(2)(x)
    x = layers.Conv2DTranspose(6, 2, strides=2)(x)  # 96 for each pixel of its input, at 4
    x = layers.Concatenate()([skip, x])
    x = layers.Conv2D(1, 1, name="foreground")(x)  # 14 at 2
    network = keras.Model(image, x)
    assert architectures.stride_of(network) == 8
    assert architectures.macs_per_px(network, 64) == (216 + 72 + 14) / 4 + (72 + 32 + 96) / 16 + 16 / 64**2


# UNet++


def test_unetpp_is_the_authors_network():
    """Of https://github.com/MrGiovanni/UNetPlusPlus for grey images, with one output and with four."""
    as_published = {"filters": (32, 64, 128, 256, 512), "batch_norm": False, "dropout": 0.5}
    two_more_channels = 2 * 3 * 3 * 32
    for deep, count in ((False, 9_041_601), (True, 9_041_700)):
        network = unetpp.build(("foreground",), deep_supervision=deep, **as_published)
        assert network.count_params() == count + two_more_channels


@pytest.fixture(scope="module")
def nested() -> keras.Model:
    """A small UNet++ of three depths with two heads."""
    return unetpp.build(("foreground", "distance"), filters=(8, 8, 16, 16))


def test_depths_of_unetpp_are_supervised_group_by_group(nested):
    assert nested.output_names == [f"{head}_{depth}" for depth in (1, 2, 3) for head in ("foreground", "distance")]


def test_unetpp_cut_short_answers_as_that_depth_of_it_and_costs_less(nested):
    heads = ("foreground", "distance")
    image = np.random.default_rng(0).random((1, 24, 40, 3), np.float32)
    whole = nested(image)
    costs = []
    for depth in (1, 2, 3):
        cut = architectures.for_inference(nested, heads, depth)
        assert cut.output_names == [f"{head}_{depth}" for head in heads]
        for found, expected in zip(cut(image), whole[2 * depth - 2 : 2 * depth], strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        costs.append((cut.count_params(), architectures.macs_per_px(cut), architectures.stride_of(cut)))
    assert costs == sorted(costs)
    assert len(set(costs)) == 3
    assert architectures.for_inference(nested, heads).output_names == ["foreground_3", "distance_3"]


def test_a_depth_that_is_not_there_is_refused(nested):
    assert refused(architectures.for_inference, nested, ("foreground", "distance"), 4) == (
        "--depth: unetpp has 3 supervised depths"
    )
    flat = unetpp.build(("foreground",), filters=(8, 8), deep_supervision=False)
    assert "1 supervised depth" in refused(architectures.for_inference, flat, ("foreground",), 2)


def test_without_transposed_convolutions_unetpp_has_none():
    network = unetpp.build(("foreground",), filters=(8, 8, 16), upsampling="nearest")
    assert not any(isinstance(layer, layers.Conv2DTranspose) for layer in network.layers)
    assert network.compute_output_shape((1, 32, 32, 3))[-1] == (1, 32, 32, 1)


# HRNet and DoubleU-Net


def test_hrnet_sums_two_tensors_at_a_time():
    network = hrnet.build(("foreground",), width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, bottleneck_filters=8)
    sums = [layer for layer in network.layers if isinstance(layer, layers.Add)]
    assert sums
    assert all(len(layer.input) == 2 for layer in sums)


def test_the_second_of_two_unets_sees_what_the_mask_of_the_first_lets_through():
    """Where the first network's logit is far below zero, the second gets a black image."""
    network = double_unet.build(("distance", "foreground"), filters=(8, 8, 8, 8), pyramid=8)
    assert network.output_names == ["distance_1", "foreground_1", "distance_2", "foreground_2"]
    masked = keras.Model(network.input, network.get_layer("decoder2_masked").output)
    image = np.random.default_rng(0).random((1, 32, 48, 3), np.float32)
    kernel, _ = network.get_layer("foreground_1").get_weights()
    for bias, expected in ((-50, 0 * image), (50, image)):
        network.get_layer("foreground_1").set_weights([0 * kernel, np.float32([bias])])
        np.testing.assert_allclose(masked(image), expected, atol=1e-6)


# Options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {"filtres": (8, 16)}, "unet has no option 'filtres': did you mean 'filters'"),
        ("unet", {"activation": "rellu"}, "unet cannot be built with activation=rellu: Unknown activation"),
        ("unet", {"activation": 3}, "--option activation: 3 does not fit; unet's is 'relu' by default"),
        ("unet", {"batch_norm": 1}, "--option batch_norm: 1 does not fit; unet's is False by default"),
        ("unet", {"filters": ()}, r"--option filters: \(\) does not fit"),
        ("unet", {"filters": (8, 16.5)}, "does not fit"),
        ("unet", {"filters": (8, 0)}, "filters=.8, 0"),
        ("unet", {"filters": (8, 8, 8, 8, 8, 8)}, "multiples of 32, but they are multiples of 16: use fewer levels"),
        ("unetpp", {"filters": (8,)}, "filters needs at least two numbers"),
        ("unetpp", {"upsampling": "bilinear"}, "upsampling must be one of transposed, nearest, not bilinear"),
        ("unetpp", {"encoder": "b4"}, "encoder must be one of vgg19, resnet50, densenet121, efficientnet-b4, not b4"),
        ("unetpp", {"encoder_weights": "some.h5"}, "encoder_weights needs an encoder: name one"),
        ("unetpp", {"encoder": "vgg19", "filters": (8, 8)}, "filters needs 5 numbers, one per level of vgg19"),
        (
            "hrnet",
            {"modules": (1, 2)},
            "modules needs three numbers of at least 1, for the second, third and fourth stage",
        ),
        ("hrnet-w18-small", {"blocks": "two"}, "'two' does not fit; hrnet-w18-small's is 4 by default"),
        ("double-unet", {"filters": (8, 8, 8)}, "filters needs four numbers"),
        ("vgg19-unet", {"filters": (8, 8, 8)}, "filters needs 4 numbers, one per level of the decoder"),
        ("densenet121", {"dropout": "half"}, "--option dropout: 'half' does not fit"),
    ],
)
def test_an_option_that_does_not_work_is_refused_in_a_line(name, options, message):
    with pytest.raises(InputError, match=message) as caught:
        ARCHITECTURES[name].network(**options)
    assert "\n" not in caught.value.message


def test_a_single_number_stands_for_a_list_of_one():
    network = ARCHITECTURES["unet"].network(filters=[8, 16], dropout=0.3)
    assert {layer.rate for layer in network.layers if isinstance(layer, layers.Dropout)} == {0.3}


def test_a_classifier_learns_nothing_but_presence():
    assert "its head is presence, not foreground" in refused(ARCHITECTURES["densenet121"].network, ("foreground",))


def test_a_classifier_of_kinds_learns_nothing_else_and_tells_two_apart_at_least():
    kind_net = ARCHITECTURES["kind-net"]
    assert "its head is kind, not presence" in refused(kind_net.network, ("presence",))
    assert "1 classes: it tells at least 2 apart" in refused(lambda: kind_net.network(classes=1))
    assert kind_net.network(classes=7).output_shape == (None, 1, 1, 7)


# The others take up to two minutes each; `cellseg-host edgetpu --arch NAME` gave what is listed
MAPPED = ("edge-unet", "unet", "unet-128", "hrnet-w18-small")
LEAN = ("edge-unet", "unet-128")  # but these


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in LEAN else pytest.mark.slow) for n in MAPPED])
def test_the_edge_tpu_s_verdict_is_the_one_that_is_listed(name):
    assert check_architecture(ARCHITECTURES[name]).mapping == FACTS[name].edge_tpu
