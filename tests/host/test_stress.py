"""``benchmarks/stress.py`` as it is run, on a tiny dataset."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "stress.py"


@pytest.fixture
def stress(environment, model_path, tiny_dataset):
    """Run the script to its end."""

    def run(*arguments, model=model_path, dataset=tiny_dataset.root):
        command = [sys.executable, str(SCRIPT), str(model), str(dataset), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.mark.slow
def test_every_fault_is_scored_and_listed(stress, model, tiny_dataset, tmp_path):
    from cellseg_host.evaluation.evaluate import by_group, evaluate
    from cellseg_host.synth.faults import FAULTS

    result = stress("--json", tmp_path / "stress.json")
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads((tmp_path / "stress.json").read_text())
    rows = document["rows"]
    assert document["images"] == 3
    assert [(r["fault"], r.get("strength")) for r in rows[:4]] == [
        ("untouched", None),
        ("small nuclei", "mild"),
        ("small nuclei", "middle"),
        ("small nuclei", "strong"),
    ]
    assert len(rows) == 1 + 3 * len(FAULTS) + 3 * 2
    # Untouched images score as in `cellseg-host evaluate`
    summaries = by_group(list(evaluate(model, tiny_dataset, tiny_dataset.split("val"))))
    assert rows[0]["ap50"] == {name: round(s.ap50, 4) for name, s in summaries.items()}
    assert set(rows[0]["drop"].values()) == {0}
    assert rows[0]["cells_counted"] == summaries["all"].cells_counted
    assert rows[0]["mean_count_error"] == round(summaries["all"].mean_count_error, 4)
    for row in rows[1:]:
        fault = FAULTS[row["fault"].partition(",")[0]]
        assert set(row["ap50"]) == {"all", fault.modality or "fluorescence", fault.modality or "histology"}
        for name, lost in row["drop"].items():
            of_these = fault.modality or name  # all images of a row are of its modality, if it has one
            assert lost == pytest.approx(rows[0]["ap50"][of_these] - row["ap50"][name], abs=2e-4)
    over = {r["fault"] for r in rows if r.get("strength") == "middle" and r["drop"]["all"] > 0.1}
    assert set(document["over_at_middle"]) == over
    assert all(len(cells) == 5 for cells in document["cells_in_empty_fields"].values())
    page = (tmp_path / "stress.md").read_text()
    assert f"{np.round(rows[5]['ap50']['all'], 3):.3f}" in page
    assert "| black | 0, 0, 0, 0, 0 |" in page
    assert "of 50 fields without a false cell" in page
    assert "large nuclei, diameter given" in result.stdout


@pytest.mark.slow
def test_where_there_is_nothing_to_count_what_is_counted_is_listed(environment, model_path):
    from cellseg_host.synth import empties, negatives

    command = [sys.executable, str(SCRIPT.with_name("empties.py")), str(model_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    counted = dict(re.findall(r"^│ (\S[^│]*?) +│ +([\d ]+?) │$", done.stdout, re.MULTILINE))
    assert list(counted) == [*empties.KINDS, *negatives.KINDS]
    assert counted["black"] == "0 0 0 0 0"
    free = [
        sum(cells == "0" for kind in kinds for cells in counted[kind].split())
        for kinds in (empties.KINDS, negatives.KINDS)
    ]
    said = [f"{free[0]} of 50 fields without a false cell", f"{free[1]} of 30 fields without a false cell"]
    assert [line for line in done.stdout.splitlines() if " of " in line] == said


@pytest.mark.parametrize(
    ("arguments", "files", "words"),
    [
        (("--split", "none"), {}, "no image is in the split 'none'"),
        ((), {"model": "no.tflite"}, "no.tflite"),
        ((), {"dataset": "nowhere"}, "is not a dataset"),
        (("--json", "no/such/folder.json"), {}, "its folder does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(stress, arguments, files, words):
    result = stress(*arguments, **files)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
