"""Pretrained weights from a file: what the encoder then answers is what Keras Applications would."""

import dataclasses

import numpy as np
import pytest
import tf_keras as keras
from tf_keras import applications

from cellseg_device.errors import InputError
from cellseg_host import architectures
from cellseg_host.architectures import ARCHITECTURES, encoders

# The published weights of EfficientNet are used with another scaling than their file says: tensorflow issue 49930
DEVIATION = np.float32([0.229, 0.224, 0.225])


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random((1, 64, 96, 3), np.float32)


@pytest.fixture
def efficientnet_b0(monkeypatch):
    """A smaller sibling in place of EfficientNet-B4."""
    large = encoders.ENCODERS["efficientnet-b4"]
    small = dataclasses.replace(large, application=applications.EfficientNetB0)
    monkeypatch.setitem(encoders.ENCODERS, "efficientnet-b4", small)


def encoder(name: str, weights: object) -> keras.Model:
    x = keras.Input((None, None, 3))
    return keras.Model(x, encoders.encode(x, name, str(weights)))


def answers(backbone: keras.Model, name: str, levels: np.ndarray) -> list[np.ndarray]:
    """What the encoder's levels answer to an input that Keras has prepared."""
    names = [level for level in encoders.ENCODERS[name].levels if level != "encoder_scale"]
    model = keras.Model(backbone.inputs, [backbone.get_layer(level).output for level in names])
    return architectures.as_list(model(levels, training=False))


@pytest.mark.parametrize(
    ("name", "application", "prepare"),
    [
        ("vgg19", applications.VGG19, applications.vgg19.preprocess_input),
        pytest.param(
            "densenet121", applications.DenseNet121, applications.densenet.preprocess_input, marks=pytest.mark.slow
        ),
        pytest.param("resnet50", applications.ResNet50, applications.resnet.preprocess_input, marks=pytest.mark.slow),
    ],
)
def test_with_a_file_of_weights_an_encoder_answers_as_keras_does(name, application, prepare, image, tmp_path):
    reference = application(include_top=False, weights=None)
    reference.save_weights(tmp_path / "weights.h5")
    expected = answers(reference, name, prepare(255 * image))
    model = encoder(name, tmp_path / "weights.h5")
    found = architectures.as_list(model(image, training=False))[-len(expected) :]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())
    for one, other in zip(model.get_weights()[1:], reference.get_weights()[1:], strict=False):
        np.testing.assert_array_equal(one, other)  # all but the first convolution are the file's


def test_efficientnet_gets_what_its_published_weights_expect(efficientnet_b0, image, tmp_path):
    reference = applications.EfficientNetB0(include_top=False, weights=None)
    (norm,) = (layer for layer in reference.layers if isinstance(layer, keras.layers.Normalization))
    mean = np.float32([0.485, 0.456, 0.406])
    norm.set_weights([mean, DEVIATION**2, np.int64(1)])
    reference.save_weights(tmp_path / "weights.h5")
    norm.set_weights([mean, DEVIATION**3, np.int64(1)])  # the further square root of it that Keras divides by
    norm.finalize_state()
    expected = answers(reference, "efficientnet-b4", 255 * image)
    found = encoder("efficientnet-b4", tmp_path / "weights.h5")(image, training=False)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


@pytest.mark.slow
def test_a_network_is_opened_again_without_the_encoders_file(efficientnet_b0, image, tmp_path):
    """As a run is: its options do not name the file, its weights hold what was in it."""
    options = {"encoder": "efficientnet-b4", "filters": (8,) * 5}
    arch = ARCHITECTURES["unetpp-efficientnet-b4"]
    reference = applications.EfficientNetB0(include_top=False, weights=None)
    (norm,) = (layer for layer in reference.layers if isinstance(layer, keras.layers.Normalization))
    norm.set_weights([np.full(3, 0.5), np.full(3, 0.2), np.int64(1)])
    reference.save_weights(tmp_path / "weights.h5")
    trained = arch.network(**options, encoder_weights=str(tmp_path / "weights.h5"))
    trained.save(tmp_path / "model.keras")
    opened = arch.network(**options)
    assert [layer.name for layer in opened.layers] == [layer.name for layer in trained.layers]
    assert not np.allclose(opened(image), trained(image))
    opened.load_weights(tmp_path / "model.keras")
    np.testing.assert_array_equal(opened(image), trained(image))
    other = arch.network(**options)
    other.set_weights(trained.get_weights())
    np.testing.assert_array_equal(other(image), trained(image))


def test_a_file_that_is_none_or_does_not_fit_is_refused(tmp_path):
    def message(path: object) -> str:
        with pytest.raises(InputError) as caught:
            ARCHITECTURES["vgg19-unet"].network(encoder_weights=str(path))
        assert "\n" not in caught.value.message
        assert str(path) in caught.value.message
        return caught.value.message

    assert "there is no such file" in message(tmp_path / "none.h5")
    assert "there is no such file" in message(tmp_path)
    applications.MobileNetV2(include_top=False, weights=None, alpha=0.35).save_weights(tmp_path / "mobilenet.h5")
    assert "does not fit vgg19" in message(tmp_path / "mobilenet.h5")
    for name in ("noise.h5", "noise.keras", "noise"):
        (tmp_path / name).write_bytes(b"these are no weights")
        assert "does not fit vgg19" in message(tmp_path / name)


def test_who_starts_from_random_weights_is_told_about_files():
    wants = architectures.wants_encoder_weights
    assert not wants(ARCHITECTURES["unet"], {})
    assert not wants(ARCHITECTURES["unetpp"], {})
    assert wants(ARCHITECTURES["unetpp"], {"encoder": "resnet50"})
    assert wants(ARCHITECTURES["densenet121"], {})
    assert wants(ARCHITECTURES["vgg19-unet"], {"encoder_weights": None})
    assert not wants(ARCHITECTURES["vgg19-unet"], {"encoder_weights": "vgg19.h5"})
