"""Help in sections, whole lines, and one style of errors, of the commands as they are and of a small one."""

import re

import click
import pytest
from click.testing import CliRunner
from help_pages import commands, shown

from cellseg_device.cli import main
from cellseg_device.command_line import Command, Group, section


def test_options_are_listed_in_the_sections_they_were_put_into():
    @click.group(cls=Group)
    def group():
        pass

    @group.command()
    @section("First", click.option("--one"), click.option("--two"))
    @section("Second", click.option("--three"))
    @click.option("--four")
    def do(**_options):
        """Do."""

    lines = CliRunner().invoke(group, ["do", "--help"]).stdout.splitlines()
    assert isinstance(do, Command)
    heads = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["First:", "Second:", "Other:"]
    flags = [line.split()[0] for line in lines[lines.index("First:") :] if line.startswith("  --")]
    assert flags == ["--one", "--two", "--three", "--four", "--help"]


def test_each_command_is_listed_on_one_whole_line():
    lines = shown(main)
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        "Options:",
        "Count:",
        "Results:",
        "Model:",
        "Microscope and camera:",
        "This computer:",
    ]
    listed = {line.split()[0]: line for line in lines[lines.index("Count:") :] if re.match("  [a-z]", line)}
    assert list(listed) == list(main.commands)
    for name, line in listed.items():
        assert len(line) <= 80
        assert line.endswith("."), f"{name}: the help is cut or goes on below: {line!r}"


@pytest.mark.parametrize("names", list(commands(main)), ids=" ".join)
def test_the_help_of_a_command_has_a_title_for_each_section_and_nothing_is_cut(names):
    lines = shown(main, *names)
    assert not any(line.endswith("...") for line in lines[lines.index("") :])
    assert any(line in ("Other:", "Options:") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["run"], "missing argument 'IMAGE|FOLDER...'", " run"),
        (["wach", "x"], "no such command 'wach': did you mean 'watch'?", ""),
        (["watch", "x", "--recursiv"], "no such option '--recursiv': did you mean '--recursive'?", " watch"),
        (["ledger", "verfy", "x"], "no such command 'verfy': did you mean 'verify'?", " ledger"),
        (
            ["run", "x", "--threads", "0"],
            "invalid value for '--threads': '0' is not a whole number from 1 to 64",
            " run",
        ),
        (["bench", "--runs", "x"], "invalid value for '--runs': 'x' is not a whole number of at least 1", " bench"),
        (["install-service"], "give either --watch FOLDER, --camera SOURCE or --web RESULTS", " install-service"),
        (
            ["bench", "--size", "3"],
            "invalid value for '--size': '3' is not a size: write width x height in pixels, as 1600x1200",
            " bench",
        ),
    ],
)
def test_an_error_of_use_is_one_line_like_all_others(arguments, message, command):
    done = CliRunner().invoke(main, arguments, prog_name="cellseg-device")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: {message} (see 'cellseg-device{command} --help')\n"


def test_a_group_without_a_command_shows_its_help():
    done = CliRunner().invoke(main, [])
    assert done.output.startswith("Usage:")
