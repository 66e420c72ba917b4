import sys
import textwrap

import numpy as np
import pytest

from cellseg_device.errors import InputError
from cellseg_host import architectures
from cellseg_host.plugins import functions, loading, networks

NETWORK = """
import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

STRIDE = 8

def network(heads, channels=1, image=(None, None, 3), factor=1, activation=None, kernel="glorot_uniform"):
    x = inputs = keras.Input(image)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="encoder")(x)
    x = layers.UpSampling2D(2 // factor, name="decoder")(x)
    outputs = [
        layers.Conv2D(channels, 1, name=h, activation=activation, kernel_initializer=kernel)(x) for h in heads
    ]
    return keras.Model(inputs, outputs, name="mine")
"""


@pytest.fixture
def write(tmp_path):
    """Write a plug-in's file; gives the specification of a name in it."""

    def write(text: str, name: str = "mine", file: str = "mine.py") -> str:
        (tmp_path / file).write_text(textwrap.dedent(text))
        return f"{tmp_path / file}:{name}"

    return write


def refused(function, *arguments) -> str:
    """The message with which a plug-in is refused: one line that names it."""
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_function_is_loaded_afresh_each_time(write, tmp_path):
    for value in (1, 2):
        spec = write(f"def mine(): return {value}")
        assert loading.is_spec(spec)
        assert loading.find(spec, "--loss").function() == value
        assert loading.source(spec) == f"def mine(): return {value}".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]  # no __pycache__
    assert loading.kept_in(tmp_path / "run", spec) == f"{tmp_path / 'run' / 'mine.py'}:mine"


def test_our_own_names_are_no_specifications():
    assert not any(loading.is_spec(name) for name in ("edge-unet", "boundary", "bce-dice", "py"))
    assert networks.find_architecture("edge-unet") is architectures.get("edge-unet")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def mien(): pass", "there is no function 'mine': did you mean 'mien'?"),
        ("def other(): pass\nimport math", "there is no function 'mine': choose one of other"),
        ("mine = 3", "'mine' is not a function but int 3"),
        ("import no_such_module_of_mine", "cannot be imported: ModuleNotFoundError: No module named 'no_such_mo"),
        ("x = 1\nraise RuntimeError('first\\nsecond')", "cannot be imported: RuntimeError: first (line 2)"),
        ("def mine(:", "cannot be imported: SyntaxError"),
        ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3 (line 1)"),
        ("\0", "cannot be imported: "),
    ],
)
def test_a_file_without_the_function_is_refused_with_the_reason(write, text, said):
    spec = write(text)
    message = refused(loading.find, spec, "--metric")
    assert message.startswith(f"--metric {spec}: ")
    assert said in message


def test_a_missing_file_and_a_missing_name_are_refused(tmp_path):
    spec = f"{tmp_path / 'none.py'}:mine"
    assert "cannot be read (No such file or directory): check its path" in refused(loading.find, spec, "--loss")
    assert "cannot be read" in refused(loading.source, spec)
    for incomplete in ("mine.py", "mine.py:"):
        assert loading.is_spec(incomplete)
        message = refused(loading.find, incomplete, "--loss")
        assert message == f"--loss {incomplete}: is not of the form FILE.py:NAME"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return y_pred[0, 0]", "returns the shape (12, 1) for a batch of (2, 8, 12, 1)"),
        ("return None", "must return a tensor of floats, not NoneType"),
        ("return 3.0", "must return a tensor of floats, not float 3.0"),
        ("return tf.cast(tf.reduce_sum(y_pred), tf.int32)", "must return a tensor of floats, not one of int32"),
        ("return tf.reduce_mean(tf.abs(y_true - tf.round(y_pred)))", "has no gradient"),
        ("return tf.reduce_mean(y_true)", "has no gradient"),
        ("return y_pred.numpy().mean()", "raises AttributeError"),
        ("y = 1\n    raise KeyError('gone')", "raises KeyError: 'gone' (line 4)"),
        ("return tf.matmul(y_true, y_pred)", "raises ValueError: Dimensions must be equal"),
        ("return undefined", "raises NameError: name 'undefined' is not defined (line 3)"),
        (
            "return 1 - tf.reduce_sum(y_true * y_pred) / tf.reduce_sum(y_true)",
            "returns nan where no pixel belongs to a cell",
        ),
        ("return tf.reduce_sum(y_pred) / tf.reduce_sum(1 - y_true)", "returns inf where all pixels belong to cells"),
        ("return tf.sqrt(tf.reduce_sum((y_true - y_pred) * 0))", "has a gradient that is not finite"),
    ],
)
def test_a_loss_that_cannot_be_trained_with_is_refused_with_the_reason(write, body, said):
    spec = write(f"import tensorflow as tf\ndef mine(y_true, y_pred):\n    {body}\n")
    message = refused(functions.loss, spec)
    assert message.startswith(f"--loss {spec}: ")
    assert said in message


def test_a_loss_with_other_arguments_is_refused(write):
    message = refused(functions.loss, write("def mine(y_true): return y_true"))
    assert "must be called as custom_loss(y_true, y_pred): too many positional arguments" in message


def test_a_loss_may_branch_on_its_tensors_and_be_of_keras(write):
    spec = write("""
        import tensorflow as tf
        import tf_keras as keras
        def mine(y_true, y_pred):
            if tf.reduce_sum(y_true) > 3:
                return tf.reduce_mean((y_true - y_pred) ** 2)
            return tf.reduce_mean(y_pred)
        instance = keras.losses.Dice() if hasattr(keras.losses, "Dice") else keras.losses.MeanSquaredError()
        function = keras.losses.binary_focal_crossentropy
    """)
    for name in ("mine", "instance", "function"):
        assert callable(functions.loss(spec.replace(":mine", f":{name}")))


def test_a_metric_gives_a_float_of_labels(write):
    score = functions.metric(
        write("""
        import numpy as np
        def mine(y_true, y_pred):
            assert y_true.dtype == y_pred.dtype == np.uint16 and y_true.ndim == 2
            return np.float32(-abs(len(np.unique(y_true)) - len(np.unique(y_pred))))
        """)
    )
    labels = np.arange(6, dtype=np.uint16).reshape(2, 3)
    value = score(labels, labels * 0)
    assert (type(value), value) == (float, -5.0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 'good'", "must return a number, not str"),
        ("return y_true == y_pred", "must return a number, not ndarray"),
        ("return None", "must return a number, not NoneType"),
        ("return 1 / y_pred.max().item()", "raises ZeroDivisionError: division by zero (line 2)"),
        ("return float('nan')", "returns nan for an image with 2 true and 2 predicted cells"),
        (
            "return -float('inf') if not y_true.any() else 1",
            "returns -inf for an image with 0 true and 2 predicted cells",
        ),
    ],
)
def test_a_metric_that_gives_no_number_is_refused_with_the_reason(write, body, said):
    spec = write(f"def mine(y_true, y_pred):\n    {body}\n")
    message = refused(functions.metric, spec)
    assert message.startswith(f"--metric {spec}: ")
    assert said in message
    assert "must be called as score(y_true, y_pred)" in refused(functions.metric, write("def mine(): return 1"))


def test_a_metric_that_fails_later_is_one_line_too(write):
    score = functions.metric(write("def mine(y_true, y_pred):\n    return 1 / (y_true.max().item() - 77)\n"))
    labels = np.full((3, 3), 77, np.uint16)
    assert "raises ZeroDivisionError" in refused(score, labels, labels)


def test_an_architecture_is_built_tried_and_described(write):
    spec = write(NETWORK + "HEADS, MARGIN = ('foreground', 'distance'), 16\ndef mine(heads): return network(heads)")
    arch = networks.find_architecture(spec)
    assert (arch.name, arch.stride, arch.margin, arch.paper) == ("mine", 8, 16, "mine.py")
    assert arch.heads == ("foreground", "distance")
    assert arch.network().output_names == ["foreground", "distance"]
    assert arch.network(("foreground",)).output_shape == (None, None, None, 1)


def test_stride_and_margin_have_defaults(write):
    arch = networks.architecture(write(NETWORK + "STRIDE = 48\ndef mine(heads): return network(heads)"))
    assert (arch.stride, arch.margin, arch.heads) == (48, 96, ("foreground",))
    arch = networks.architecture(write(NETWORK + "del STRIDE\ndef mine(heads): return network(heads)"))
    assert (arch.stride, arch.margin) == (32, 64)


def test_options_are_those_of_the_users_function(write):
    spec = write(NETWORK + "def mine(heads, *, channels=4): return network(heads, channels, factor=2)")
    assert networks.architecture(spec).network(channels=16).output_shape[-1] == 16
    assert networks.architecture(spec, ("centre",), {"channels": 1}).network(("centre",)).output_names == ["centre"]
    assert "did you mean 'channels'" in refused(networks.architecture, spec, (), {"chanels": 3})
    message = refused(networks.architecture, spec, (), {"channels": 3})
    assert "and so is not a foreground map" in message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "must return a keras.Model of tf_keras, not NoneType"),
        ("import keras as other; return other.Sequential()", "import tf_keras as keras, not keras"),
        ("return network(heads, image=(128, 128, 3))", "for images of any size, not (None, 128, 128, 3)"),
        ("return network(heads, image=(None, None, 1))", "not (None, None, None, 1)"),
        ("return keras.Sequential([layers.Conv2D(1, 3)])", "must have one input"),
        ("return network(heads[:1])", "must have an output for each of foreground, distance, not 1 in all"),
        ("return network([*heads, 'centre'])", "must have an output for each of foreground, distance, not 3 in all"),
        ("return network(heads[::-1])", "output 0 must be foreground, from a layer of that name, not 'distance'"),
        ("return network(heads, channels=3)", "output 0 has the shape 16×24×3 and so is not a foreground map"),
        ("return network(heads, kernel=lambda *_, **__: tf.fill((1, 1, 4, 1), np.nan))", "is not finite for a black"),
        ("raise OSError('no\\nway')", "raises OSError: no (line "),
        ("return heads.shape", "raises AttributeError: 'tuple' object has no attribute 'shape'"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused_with_the_reason(write, body, said):
    spec = write(NETWORK + f"def mine(heads):\n    {body}\n")
    message = refused(networks.architecture, spec, ("foreground", "distance"))
    assert message.startswith(f"--arch {spec}: ")
    assert said in message


def test_a_network_with_a_larger_stride_than_it_says_is_refused(write):
    spec = write(
        NETWORK
        + """
def mine(heads):
    x = inputs = keras.Input((None, None, 3))
    small = layers.MaxPooling2D(16)(x)
    x = layers.Concatenate()([x, layers.UpSampling2D(16)(small)])
    return keras.Model(inputs, layers.Conv2D(1, 1, name="foreground")(x))
"""
    )
    assert "fails on an image of 16×24 px, 2 × 3 times its STRIDE: " in refused(networks.architecture, spec)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("STRIDE = 0", "STRIDE must be a whole number from 1, not int 0"),
        ("STRIDE = '8'", "STRIDE must be a whole number from 1, not str"),
        ("MARGIN = 12", "MARGIN must be a multiple of STRIDE, 8, not int 12"),
        ("def mine(): return network(['foreground'])", "must be called as build(heads, *, option=default"),
    ],
)
def test_constants_and_arguments_that_do_not_fit_are_refused(write, line, said):
    spec = write(NETWORK + f"def mine(heads): return network(heads)\n{line}\n")
    assert said in refused(networks.architecture, spec)


def test_a_classifier_has_one_value_an_image(write):
    classifier = """
HEADS = ("presence",)
def mine(heads):
    x = inputs = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D(keepdims=KEEP)(x)
    return keras.Model(inputs, layers.Dense(1, name="presence")(x))
"""
    arch = networks.architecture(write(NETWORK + classifier.replace("KEEP", "True")))
    assert arch.is_classifier
    message = refused(networks.architecture, write(NETWORK + classifier.replace("KEEP", "False")))
    assert "presence, must have the shape (batch, 1, 1, 1), not (1, 1)" in message


def test_deep_supervision_is_groups_of_outputs(write):
    text = """
def mine(heads):
    x = inputs = keras.Input((None, None, 3))
    groups = [layers.Conv2D(1, 1, name=f"{h}_{depth}")(x) for depth in (1, 2) for h in heads]
    return keras.Model(inputs, groups)
"""
    arch = networks.architecture(write(NETWORK + text), ("foreground", "distance"))
    assert len(arch.network(("foreground", "distance")).outputs) == 4


def test_plugins_leave_the_import_path_alone(write):
    before = list(sys.path)
    loading.find(write("def mine(): pass"), "--loss")
    assert sys.path == before
