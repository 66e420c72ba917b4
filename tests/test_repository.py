"""What the repository's own files say about it holds."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import cellseg_device
import cellseg_host

ROOT = Path(__file__).resolve().parents[1]


def test_both_packages_have_one_version_and_the_host_needs_the_device_of_that_version():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: cellseg_device.__version__"
    assert f"cellseg-device == {cellseg_device.__version__}" in setup["options"]["install_requires"].splitlines()
    assert cellseg_host.__version__ == cellseg_device.__version__


def test_one_module_writes_csv_so_that_no_text_in_it_is_a_formula():
    modules = [path for room in ("device", "host") for path in (ROOT / room).rglob("*.py")]
    writers = [path.name for path in modules if re.search(r"csv\.(Dict)?[wW]riter", path.read_text())]
    assert writers == ["csv_text.py"]


def test_the_changelog_begins_with_what_is_not_released():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])


def test_the_examples_of_style_are_from_the_code():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    style = text[text.index("## Style") : text.index("## Make a release")]
    examples = [
        re.sub(r"^ {4}", "", block, flags=re.MULTILINE)
        for block in re.findall(r"(?:^ {4}.*\n|\n)+", style, re.MULTILINE)
    ]
    examples = [example.strip() for example in examples if example.strip()]
    code = [path.read_text() for path in (ROOT / "device").rglob("*.py")]
    assert len(examples) == 3
    for example in examples:
        assert any(example in module for module in code), example
