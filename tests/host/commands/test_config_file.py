import dataclasses
import tomllib

import click
import pytest
from click.testing import CliRunner

from cellseg_device.errors import InputError
from cellseg_host.augment import Augmentation
from cellseg_host.commands import config_file
from cellseg_host.training.settings import SCHEDULES, TrainSettings, from_mapping, to_toml


@click.command()
@config_file.option
@click.option("--arch", default="edge-unet")
@click.option("--option", "options", multiple=True, callback=config_file.key_values)
@click.option("--heads", callback=config_file.comma_list)
@click.option("--metric", "metrics", multiple=True)
@click.option("--augment", "augmentation", multiple=True, callback=config_file.key_values)
@click.option("--epochs", type=click.IntRange(1), default=100)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=2e-3)
@click.option("--schedule", type=click.Choice(SCHEDULES), default="cosine")
@click.option("--init", type=click.Path())
@click.option("--size", type=int, nargs=2)
@click.option("--resume", is_flag=True)
@click.pass_context
def command(context, **given):
    context.obj.update(given)


def run(*arguments):
    """What the command's function receives."""
    received = {}
    command.main([*map(str, arguments)], obj=received, standalone_mode=False)
    return received


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "c.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_file_says_what_flags_say(write):
    path = write(
        """
        arch = "unet"
        heads = ["foreground", "distance"]
        metric = ["a.py:one", "b.py:two"]
        learning-rate = 1e-3
        augmentation = { blur-px = 2, scale = [0.8, 1.25] }
        resume = true
        init = "runs/a,b"
        size = [3, 4]

        [options]
        activation = "elu"
        filters = [16, 32]
        batch_norm = true
        name = "true"
        path = "a,b"
        """
    )
    flags = ["--arch=unet", "--option=activation=elu", "--option=filters=16,32", "--option=batch_norm=true"]
    flags += ['--option=name="true"', '--option=path="a,b"', "--heads=foreground,distance", "--metric=a.py:one"]
    flags += ["--metric=b.py:two", "--learning-rate=1e-3", "--augment=blur_px=2", "--augment=scale=0.8,1.25"]
    assert run("--config", path) == run(*flags, "--resume", "--init=runs/a,b", "--size", "3", "4")
    options = run("--config", path)["options"]
    assert options == {"activation": "elu", "filters": [16, 32], "batch_norm": True, "name": "true", "path": "a,b"}


def test_the_command_line_wins(write):
    path = write("epochs = 7\noptions = { a = 1, b = 2 }\nmetrics = 'one'")
    assert run("--epochs", 9, "--config", path)["epochs"] == 9
    assert run("--config", path, "--epochs", 9)["epochs"] == 9
    assert run("--config", path, "--option", "c=3")["options"] == {"c": 3}
    assert run("--config", path)["epochs"] == 7
    assert run("--config", path)["metrics"] == ("one",)


def test_an_empty_file_says_nothing(write):
    assert run("--config", write("# epochs = 7\n")) == run()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 7", "c.toml: there is no setting 'epoch': did you mean 'epochs'?"),
        ("optoins = {}", "did you mean 'options'?"),
        ("config = 'other.toml'", "no setting 'config'"),
        ("epochs = 'many'", "c.toml: 'epochs': 'many' is not a valid integer"),
        ("epochs = 2.5", "c.toml: 'epochs': '2.5' is not a valid integer"),
        ("epochs = 0", "c.toml: 'epochs': 0 is not in the range"),
        ("epochs = [1, 2]", "'1,2' is not a valid integer"),
        ("epochs.a = 1", "'epochs' takes one value, not a table"),
        ("schedule = 'cosin'", "c.toml: 'schedule': 'cosin' is not one of"),
        ("size = [3]", "c.toml: 'size': Takes 2 values but 1 was given"),
        ("resume = 'maybe'", "c.toml: 'resume': 'maybe' is not a valid boolean"),
        ("options = ['elu']", "c.toml: 'options': 'elu' is not of the form KEY=VALUE"),
        ("options = { a-b = 1, a_b = 2 }", "'a_b' is given twice"),
        ("option.a = 1\noptions.b = 1", "'options' sets 'options' once more"),
        ("epochs = 1\nepochs = 2\n", "c.toml: is not valid TOML: Cannot overwrite a value (at line 2, column 11)"),
        ("options.a = 1\noptions.a = 2\n", "is not valid TOML: Cannot overwrite a value (at line 2, "),
        ("epochs: 1", "c.toml: is not valid TOML: Expected '=' after a key in a key/value pair (at line 1, column 7)"),
        ("arch = ['unet'", "c.toml: is not valid TOML: Unclosed array"),
        ("arch = unet", "c.toml: is not valid TOML: Invalid value (at line 1, column 8)"),
        ("epochs = 2026-11-01", "'epochs': '2026-11-01' is not a valid integer"),
        ("arch = '\x07'", "c.toml: is not valid TOML: Found invalid character"),
        (b"arch = 'caf\xe9'", "c.toml: is not UTF-8 text (byte 11)"),
        ("size = " + 2000 * "[", "c.toml: is not valid TOML: "),
    ],
)
def test_a_mistake_is_one_clear_line(write, text, words):
    with pytest.raises(InputError) as raised:
        run("--config", write(text))
    assert words in raised.value.message
    assert "\n" not in raised.value.message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: cannot be read \(No such file"):
        run("--config", tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory"):
        run("--config", tmp_path)


def test_on_the_command_line_it_is_one_line_too(write):
    result = CliRunner().invoke(command, ["--config", str(write("epoch = 7"))], obj={})
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("elu", "elu"),
        ("16,32", [16, 32]),
        ("[16, 32]", [16, 32]),
        ("[]", []),
        ("0.1, 0.2", [0.1, 0.2]),
        ("1e-3", 1e-3),
        ("3", 3),
        (".5", 0.5),
        ("true", True),
        ("elu,relu", ["elu", "relu"]),
        ("[elu, relu]", ["elu", "relu"]),
        ('"16,32"', "16,32"),
        ("{a = 1}", "{a = 1}"),
        ("1\nb = 2", "1\nb = 2"),
        ("", ""),
        ("a: b", "a: b"),
        ("[1", "[1"),
        ("2026-11-01", "2026-11-01"),
    ],
)
def test_values_of_key_value_flags(text, value):
    found = config_file.parse_value(text)
    assert found == value
    assert type(found) is type(value)


def given(settings):
    """The settings that a command with flags for all of them would make of its own dump."""
    fields = dataclasses.fields(TrainSettings)
    parameters = [
        click.Option([f"--{f.name.replace('_', '-')}"], multiple=True, callback=config_file.key_values)
        if f.name in ("options", "augmentation", "shares")
        else click.Option([f"--{f.name.replace('_', '-')}"], callback=config_file.comma_list)
        if f.name == "heads"
        else click.Option([f"--{f.name.replace('_', '-')}"], multiple=f.name in ("metrics", "teachers"))
        for f in fields
    ]
    received = {}
    train = click.Command("train", params=parameters, callback=lambda **given: received.update(given))
    config_file.option(train).main(["--config", str(settings)], standalone_mode=False)
    return from_mapping({k: v for k, v in received.items() if v is not None})


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(),
        TrainSettings(
            arch="my model.py:build",
            options={"activation": "elu", "dropout": (0.1, 0.2), "text": 'a "b",\nc', "word": "true", "filters": (8,)},
            heads=("foreground", "distance"),
            metrics=("m.py:one", "m.py:two"),
            learning_rate=1e-5,
            epochs=3,
            monitor="val_loss",
            init="runs/é, ü",
            teachers=("one.tflite", "runs/ä b.tflite"),
            keep="last",
            shares={"mine": 0.7},
            augmentation=Augmentation(scale=(1.0, 1.0), rotate=False, blur_px=0.0),
        ),
    ],
)
def test_what_is_dumped_repeats_the_run(settings, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(to_toml(settings), encoding="utf-8")
    assert given(path) == settings
    assert from_mapping(tomllib.loads(path.read_text(encoding="utf-8"))) == settings


def test_the_train_command_takes_its_own_dump(tmp_path):
    from cellseg_host.commands.train import train

    settings = TrainSettings(arch="unet", options={"activation": "elu"}, heads=("foreground",), metrics=("m.py:f",))
    path = tmp_path / "config.toml"
    path.write_text(to_toml(settings))
    received = {}
    stand_in = click.Command("train", params=train.params, callback=lambda **given: received.update(given))
    stand_in.main([str(tmp_path), "--config", str(path)], standalone_mode=False)
    names = {f.name for f in dataclasses.fields(TrainSettings)}
    assert from_mapping({k: v for k, v in received.items() if k in names}) == settings
