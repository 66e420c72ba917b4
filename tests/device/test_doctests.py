"""The examples in the docstrings give what they say."""

import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import cellseg_device

MODULES = [
    found.name
    for found in pkgutil.walk_packages(cellseg_device.__path__, "cellseg_device.")
    if not found.ispkg and ">>> " in Path(found.module_finder.find_spec(found.name).origin).read_text(encoding="utf-8")
]


def test_the_python_api_has_examples():
    assert "cellseg_device.pipeline.segmenter" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    ran = doctest.testmod(import_module(name))
    assert ran.attempted
    assert not ran.failed
