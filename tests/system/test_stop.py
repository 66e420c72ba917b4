"""Ctrl-C in the commands that read results: one line, and no more than what was made before."""

import subprocess
import sys

import pytest

# A command that presses Ctrl-C itself at a call of a function, so that it is always at the same place
CODE = """
import importlib, signal, sys
from cellseg_device.cli import main
module, name, left = sys.argv[1], sys.argv[2], [int(sys.argv[3])]
module = importlib.import_module(module)
function = getattr(module, name)
def stopped(*arguments, **options):
    left[0] -= 1
    if left[0] < 0:
        signal.raise_signal(signal.SIGINT)
    return function(*arguments, **options)
setattr(module, name, stopped)
main(sys.argv[4:])
"""


# Ctrl-C as a module is imported
LOADING = """
import importlib, signal, sys
package, imported = sys.argv[1:]
class Finder:
    def find_spec(name, *others):
        if name == imported:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder)
importlib.import_module(package + ".__main__").main()
"""


@pytest.fixture(scope="module")
def results(device, samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("samples") / "out"
    assert device("run", samples / "dapi16.png", samples / "smear.png", "--out", out).returncode == 0
    return out


@pytest.mark.parametrize(
    ("place", "arguments", "made"),
    [
        (("cellseg_device.results.export", "export", 1), ("export", "--format", "rois"), ["dapi16.rois.zip"]),
        (("cellseg_device.summary.tables", "read_diameters", 1), ("summary",), []),
        (("cellseg_device.summary.save", "save", 0), ("summary", "--cells"), []),
        (("cellseg_device.results.audit", "verify", 0), ("ledger", "verify"), []),
        (("cellseg_device.command_line", "_one_style", 0), ("summary",), []),
        (("cellseg_device.results.rebuild", "rebuild", 0), ("ledger", "rebuild"), []),
    ],
    ids=lambda value: None if isinstance(value, list) else " ".join(map(str, value)),
)
def test_a_command_that_is_stopped_says_so_in_one_line(environment, results, place, arguments, made):
    before = {path.name for path in results.iterdir()}
    name, *others = arguments
    words = [name, *others, results] if name == "ledger" else [name, results, *others]
    result = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, [*place, *words])], env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "stopped: what was finished stays\n"
    assert sorted({path.name for path in results.iterdir()} - before) == made


@pytest.mark.parametrize(
    ("package", "imported"), [("cellseg_device", "cellseg_device.commands.run"), ("cellseg_host", "cellseg_host.cli")]
)
def test_a_command_that_is_stopped_while_it_is_loaded_says_so_in_one_line(environment, package, imported):
    result = subprocess.run(
        [sys.executable, "-c", LOADING, package, imported], env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "stopped before anything was done\n")
