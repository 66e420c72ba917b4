"""The help of every command: whole lines, in groups."""

import re

import pytest
from click.testing import CliRunner
from help_pages import commands, shown

from cellseg_device.command_line import Command, Group
from cellseg_host.cli import main

GROUPED = ("adapt", "train", "quantize", "synth", "compare", "sweep", "edgetpu")


def heads_of(lines):
    return [line for line in lines if re.fullmatch(r"[A-Z].*:", line)]


def test_each_command_is_listed_on_one_whole_line_in_its_group():
    lines = shown(main)
    assert heads_of(lines) == ["Options:", "Data:", "Train:", "Deploy:", "Measure:"]
    listed = {line.split()[0]: line for line in lines[lines.index("Data:") :] if re.match("  [a-z]", line)}
    assert list(listed) == list(main.commands)
    for line in listed.values():
        assert len(line) <= 80
        assert line.endswith(".")


@pytest.mark.parametrize("names", list(commands(main)), ids=" ".join)
def test_nothing_of_a_command_s_help_is_cut(names):
    command = main
    for name in names:
        command = command.commands[name]
    assert isinstance(command, Command | Group)
    lines = shown(main, *names)
    assert not any(line.endswith("...") for line in lines[lines.index("") :])
    heads = heads_of(lines)
    if names[-1] in GROUPED:
        assert len(heads) >= 2
        assert heads[-1] == "Other:"
        (last,) = lines[lines.index("Other:") + 1 :]
        assert "--help " in last, "an option is in no group"


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["trian"], "no such command 'trian': did you mean 'train'?", ""),
        (["data", "import", "a"], "missing argument 'SOURCE...'", " data import"),
        (
            ["compare", "a.tflite", "--data", "x", "--runs", "1"],
            "invalid value for '--runs': 1 is not in the range x>=3",
            " compare",
        ),
        (
            ["train", "x", "--heads", "foreground,foreground"],
            "invalid value for '--heads': 'foreground' is given twice",
            " train",
        ),
    ],
)
def test_an_error_of_use_is_one_line_like_all_others(arguments, message, command):
    done = CliRunner().invoke(main, arguments, prog_name="cellseg-host")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: {message} (see 'cellseg-host{command} --help')\n"


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "{run}", "{data}"],
        ["evaluate", "{run}/model.keras", "{data}"],
        ["edgetpu", "{run}"],
        ["train", "{data}", "--teacher", "{run}", "--out", "{run}-new"],
    ],
)
def test_a_run_in_place_of_a_model_is_refused_with_what_to_do_first(tiny_dataset, tmp_path, command):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "model.keras"):
        (run / name).write_text("{}")
    done = CliRunner().invoke(main, [word.format(run=run, data=tiny_dataset.root) for word in command])
    assert done.exit_code == 2
    assert f"quantize it first: cellseg-host quantize {run} --int8 --data DATASET --out NAME.tflite\n" in done.stderr
