"""Settings from a file: the same names and meanings as the flags, and no other."""

import json

import click
import pytest
from click.testing import CliRunner

from cellseg_device.cli import main
from cellseg_device.commands import config_file
from cellseg_device.errors import InputError


def commands():
    return config_file.takers(main.commands.values())


def loaded(tmp_path, text):
    path = tmp_path / "device.toml"
    path.write_text(text)
    return config_file.load(path, commands())


def test_a_key_at_the_top_holds_for_all_commands_that_have_the_flag(tmp_path):
    found = loaded(tmp_path, 'threads = 3\npixel-size-um = 0.5\njson = true\nframe = "none"\n')
    assert found["run"] == {"threads": 3, "pixel_size_um": 0.5, "as_json": True, "frame": "none"}
    assert found["bench"] == {"threads": 3, "as_json": True}


def test_a_table_holds_for_its_command_and_goes_before_the_top(tmp_path):
    found = loaded(tmp_path, "threads = 3\n[watch]\nthreads = 1\npoll = 5\n")
    assert found["watch"] == {"threads": 1, "poll": "5"}
    assert found["run"] == {"threads": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("treads = 3", "there is no setting 'treads': did you mean 'threads'?"),
        ("pixel_size_um = 3", "did you mean 'pixel-size-um'?"),
        ("[wach]\npoll = 1", "there is no table 'wach': did you mean 'watch'?"),
        ("[watch]\npol = 1", "there is no setting 'watch.pol': did you mean 'watch.poll'?"),
        ("[run]\npoll = 1", "there is no setting 'run.poll'"),
        ("config = 'other.toml'", "there is no setting 'config'"),
        ("threads = 'many'", "threads = 'many': 'many' is not a whole number from 1 to 64"),
        ("threads = true", "threads = True: write a number or a text in quotes"),
        ("threads = 99", "'99' is not a whole number from 1 to 64"),
        ("[watch]\nsettle = '5 parsecs'", "settle = '5 parsecs': '5 parsecs' is not a duration"),
        ("poll = 0.01", "poll = 0.01: '0.01' is too short: at least 0.05s"),
        ("frame = 'bogus'", "frame = 'bogus': 'bogus' is no edge of an image"),
        ("diameter = 12", "diameter = 12: '12' is not a length"),
        ("depth-mm = nan", "depth-mm = nan: 'nan' is not a number"),
        ("overlay = 1", "overlay = 1: write true or false"),
        ("overlay = [true]", "write true or false"),
        ("frame = ['top', 'left']", "write a number or a text in quotes"),
        ("threads = \n", "device.toml: is not valid TOML: Invalid value (at line 1, column 11)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, text, words):
    with pytest.raises(InputError) as error:
        loaded(tmp_path, text)
    assert words in error.value.message
    assert "device.toml" in error.value.message


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        config_file.load(tmp_path / "none.toml", commands())


@pytest.fixture
def speaking():
    """A command that prints what it gets."""

    @click.command()
    @click.option("--threads", type=int, default=1)
    @click.option("--label")
    def speak(threads, label):
        click.echo(json.dumps([threads, label]))

    return config_file.config_option(speak)


def test_a_flag_goes_before_the_file_and_the_file_before_the_default(tmp_path, speaking, monkeypatch):
    path = tmp_path / "device.toml"
    path.write_text('threads = 2\nlabel = "from the file"\n')

    def spoken(*arguments):
        return json.loads(CliRunner().invoke(speaking, arguments, catch_exceptions=False).output)

    monkeypatch.setattr(config_file, "DEFAULT_PATH", tmp_path / "none.toml")
    assert spoken() == [1, None]
    assert spoken("--config", str(path)) == [2, "from the file"]
    assert spoken("--threads", "3", "--config", str(path)) == [3, "from the file"]
    monkeypatch.setattr(config_file, "DEFAULT_PATH", path)  # as /etc/cellseg/device.toml would be
    assert spoken() == [2, "from the file"]


def test_config_prints_a_file_that_gives_the_same_settings(tmp_path):
    path = tmp_path / "device.toml"
    path.write_text('threads = 2\nregion = "circle"\n[watch]\nonce = true\n')
    printed = CliRunner().invoke(main, ["config", "--config", str(path)], catch_exceptions=False).output
    assert f"# {path}" in printed
    (tmp_path / "again.toml").write_text(printed)
    again = CliRunner().invoke(main, ["config", "--config", str(tmp_path / "again.toml"), "--json"])
    first = CliRunner().invoke(main, ["config", "--config", str(path), "--json"])
    values = [
        {
            name: {flag: s["value"] for flag, s in table.items()}
            for name, table in json.loads(r.output)["settings"].items()
        }
        for r in (first, again)
    ]
    assert values[0] == values[1]
    assert values[0]["watch"]["once"] is True
    assert values[0]["run"]["region"] == "circle"
    assert json.loads(first.output)["settings"]["run"]["threads"] == {"value": 2, "from": str(path)}
    assert json.loads(first.output)["settings"]["run"]["overlay"] == {"value": True, "from": "default"}


@pytest.mark.parametrize("arguments", [["config"], ["watch", "."]])
def test_a_bad_setting_is_refused_with_its_file(tmp_path, arguments):
    path = tmp_path / "device.toml"
    path.write_text('settle = "5 parsecs"')
    result = CliRunner().invoke(main, [*arguments, "--config", str(path)])
    assert result.exit_code == 2
    assert f"{path}: settle = '5 parsecs'" in result.output
