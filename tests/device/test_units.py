"""Sizes, durations and amounts of bytes as they are written on the command line."""

import click
import pytest

from cellseg_device.cli import main
from cellseg_device.commands.option_types import Number, amount_of_bytes, duration
from cellseg_device.errors import InputError
from cellseg_device.units import parse_bytes, parse_duration, parse_size


@pytest.mark.parametrize("text", ["0.001", "1e3", " 7 "])
def test_numbers(text):
    assert Number(1e-3, 1e3).convert(text, None, None) == float(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e300", "0", "0.0009", "1e3x"])
def test_what_is_no_number_in_the_range_is_refused(text):
    with pytest.raises(click.BadParameter):
        Number(1e-3, 1e3).convert(text, None, None)


def test_no_option_lets_nan_through():
    types = [p.type for command in main.commands.values() for p in command.params]
    floats = [type_ for type_ in types if isinstance(type_, click.types.FloatParamType)]
    assert floats
    assert all(isinstance(type_, Number) for type_ in floats)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2.0),
        ("500ms", 0.5),
        ("1min", 60.0),
        ("1.5 h", 5400.0),
        ("30d", 2_592_000.0),
        ("2", 2.0),
        (".5", 0.5),
        (" 2.S ", 2.0),
        ("0", 0.0),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "2m", "2 weeks", "1e3", "nan", "inf", "1h30min", "2,5s", "٣s"])
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(InputError, match="is not a duration: write it as 500ms, 2s, 1min"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["3651d", "9" * 400])
def test_a_duration_no_clock_can_wait_for_is_refused(text):
    with pytest.raises(InputError, match="too long"):
        parse_duration(text)


def test_a_duration_may_have_a_least_one():
    callback = duration(0.05)
    assert callback(None, None, "50ms") == 0.05
    assert callback(None, None, None) is None
    with pytest.raises(click.BadParameter, match=r"'10ms' is too short: at least 0\.05s"):
        callback(None, None, "10ms")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1GB", 10**9), ("1.5GiB", 3 * 2**29), ("500 mb", 500 * 10**6), ("100", 100), ("7B", 7), ("2kB", 2000)],
)
def test_amounts_of_bytes(text, expected):
    assert parse_bytes(text) == expected
    assert amount_of_bytes(None, None, text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1G", "1e9", "ten"])
def test_what_is_no_amount_is_refused_with_examples(text):
    with pytest.raises(InputError, match="is not an amount of bytes: write it as 500MB"):
        parse_bytes(text)


def test_more_bytes_than_any_disk_holds_are_refused():
    with pytest.raises(InputError, match="more than any disk holds"):
        parse_bytes("9" * 400)


def test_sizes():
    assert parse_size(" 696 x 520") == (520, 696)
    with pytest.raises(InputError, match="is not a size"):
        parse_size("0x5")
