"""The documents are true: their commands run as written, their links lead somewhere, their tables name what there is.

Each page's blocks run one after the other in a copy of the repository, with a home of its own and stand-ins for the
files the page names. Nothing of them is changed but that a watch ends when there is nothing left to do (--once). A
block that cannot run here says why in a comment on the line before it, `<!-- not run: REASON -->`; one that takes
long says so with `<!-- slow: REASON -->`.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
import tifffile

from cellseg_device.image.decode import decode
from cellseg_device.model.interpreter import Model, bundled_path
from cellseg_device.pipeline.predict import predict
from cellseg_device.pipeline.segment import labels_of
from cellseg_device.results import correction_file
from cellseg_device.system.csv_text import escaped

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("docs", "models", "benchmarks", "device", "host", "tests", ".github")
MARKDOWN = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
COMMANDS = ("cellseg-device", "cellseg-host")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
FOREIGN_FLAGS = {"--system-site-packages"}

BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>not run|slow): (?P<reason>[^>]+) -->\n *)?```(?P<language>[^\n]*)\n"
    r"(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
LANGUAGES = {"sh", "toml", "mermaid", "python", "{eval-rst}"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and whether it can run: `mark` is empty, ``"slow"`` or ``"not run"``."""

    language: str
    mark: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(m["language"], m["mark"] or "", m["text"]) for m in BLOCK.finditer(page.read_text())]


def prose(page: Path) -> str:
    """A page without its blocks and comments."""
    return re.sub(r"<!--.*?-->", "", BLOCK.sub("", page.read_text()), flags=re.DOTALL)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


# -- the commands


def micrometer(spacing: int = 20) -> np.ndarray:
    """The scale of a stage micrometer: dark lines on a bright field."""
    field = np.full((400, 600), 200, np.uint8)
    for number, col in enumerate(range(30, 570, spacing)):
        cv2.line(field, (col, 100), (col, 300 if number % 5 else 360), 60, 4)
    return cv2.GaussianBlur(field, (0, 0), 1)


def write_stage1_train(folder: Path, samples: Path) -> None:
    """The Data Science Bowl's layout, a mask for each nucleus, of the samples, by names that nuclei.split.csv knows."""
    with open(ROOT / "models" / "nuclei.split.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for split in ("train", "val", "test"):
        name = next(row["id"] for row in rows if row["split"] == split)
        image, labels = (cv2.imread(str(path), -1) for path in (samples / "smear.png", samples / "truth" / "smear.png"))
        for part in ("images", "masks"):
            (folder / name / part).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "images" / f"{name}.png"), image)
        for label in range(1, labels.max() + 1):
            cv2.imwrite(str(folder / name / "masks" / f"{label}.png"), np.uint8(labels == label) * 255)


def write_corrections(path: Path, samples: Path) -> None:
    """Images with the labels that the bundled model would give them if its thresholds were others."""
    model = Model(bundled_path())
    separation = dataclasses.replace(model.card.separation, foreground=0.7, min_area_px=32, confidence=0.94)
    images = [decode((samples / f"{name}.png").read_bytes()) for name in ("hoechst8", "smear", "tissue")]
    labels = [labels_of(predict(image, model), separation) for image in images]
    pairs = zip(images, labels, strict=True)
    correction_file.write(
        path,
        (correction_file.Correction(f"field {number}", *pair) for number, pair in enumerate(pairs)),
        card=model.card,
    )


@pytest.fixture(scope="module")
def stand_ins(samples, tmp_path_factory) -> Path:
    """A copy of the repository beside a home, with every file that the pages name."""
    root = tmp_path_factory.mktemp("stand-ins")
    clone, captures = root / "clone", root / "home" / "captures"
    for folder in ("device", "models"):
        left_out = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        shutil.copytree(ROOT / folder, clone / folder, ignore=left_out)
    captures.mkdir(parents=True)
    for path in samples.glob("*.png"):
        shutil.copy(path, captures)
    for name in ("field.png", "chamber-1.png", "chamber-2.png"):
        shutil.copy(samples / "hoechst8.png", clone / name)
    tifffile.imwrite(clone / "field.tif", cv2.imread(str(samples / "hoechst8.png"), -1))
    tifffile.imwrite(clone / "merged.tif", cv2.imread(str(samples / "smear.png"))[..., ::-1], photometric="rgb")
    cv2.imwrite(str(clone / "micrometer.png"), micrometer())
    write_stage1_train(clone / "stage1_train", samples)
    write_corrections(clone / "corrections.zip", samples)
    (clone / "smears").mkdir()
    shutil.copy(samples / "smear.png", clone / "smears")
    (clone / "lab.toml").write_text(next(b.text for b in blocks(ROOT / "docs/unattended.md") if b.language == "toml"))
    return root


@pytest.fixture
def run_blocks(stand_ins, tmp_path, environment):
    """Run blocks of a page in a copy of the stand-ins."""
    home, clone, programs = tmp_path / "home", tmp_path / "clone", tmp_path / "programs"
    shutil.copytree(stand_ins, tmp_path, dirs_exist_ok=True)
    programs.mkdir()
    for name, arguments in (
        ("python3", ""),
        ("cellseg-device", "-m cellseg_device"),
        ("cellseg-host", "-m cellseg_host"),
    ):
        paths = f"PYTHONPATH='{environment['PYTHONPATH']}' PYTHONWARNINGS=error " if arguments else ""
        (programs / name).write_text(f'#!/bin/sh\n{paths}exec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    unset = ("PYTHONPATH", "PYTHONWARNINGS", "VIRTUAL_ENV", "XDG_CONFIG_HOME")
    variables = {k: v for k, v in os.environ.items() if k not in unset}
    variables |= {"HOME": str(home), "PATH": f"{programs}{os.pathsep}{variables['PATH']}"}

    def run(found: list[Block]) -> tuple[Path, str]:
        said = ""
        for block in found:
            text = re.sub(r"(cellseg-device watch)(?!.*--once)", r"\1 --once", block.text)
            program = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euc"]
            done = subprocess.run(
                [*program, text],
                cwd=clone,
                env=variables | ({"PYTHONPATH": environment["PYTHONPATH"]} if block.language == "python" else {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}"
            said += done.stdout
        return tmp_path, said

    return run


def runnable(page: Path, mark: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("sh", "python") and block.mark == mark]


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page, "")], ids=named)
def test_the_commands_of_a_page_run_as_written(page, run_blocks):
    run_blocks(runnable(page, ""))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page, "slow")], ids=named)
def test_the_slow_commands_of_a_page_run_as_written(page, run_blocks, table):
    place, said = run_blocks(runnable(page, "slow"))
    if page == ROOT / "README.md":
        counts = table(place / "home" / "captures" / "cellseg-results" / "counts.csv")
        assert {row["image"] for row in counts} == {path.name for path in (place / "home/captures").glob("*.png")}
        assert "5 done, 0 failed" in said


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_says_its_language_and_every_mark_is_at_a_block(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES
    rest = BLOCK.sub("", page.read_text())
    assert "```" not in rest
    assert not re.search(r"^ *<!-- (not run|slow)", rest, re.MULTILINE)


# -- flags and commands


def helped(program: str) -> dict[str, set[str]]:
    """The flags of every command of a program."""
    from cellseg_device.cli import main as device
    from cellseg_host.cli import main as host

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, set[str]]]:
        yield name, {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {"--help"}
        for part, inner in command.commands.items() if isinstance(command, click.Group) else ():
            yield from walk(f"{name} {part}", inner)

    return dict(walk(program, device if program == "cellseg-device" else host))


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    return helped("cellseg-device") | helped("cellseg-host")


def command_lines(page: Path) -> list[str]:
    """What is typed after each name of a program: in blocks, and between backticks in the text."""
    text = "\n".join(block.text.replace("\\\n", " ") for block in blocks(page) if block.language == "sh")
    text += "\n" + "\n".join(re.findall(r"`([^`]+)`", prose(page)))
    lines = [line.split(" #")[0] for line in text.splitlines()]
    return [line[line.index(program) :] for line in lines for program in COMMANDS if program in line]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_flags_that_a_page_names_exist(page, flags):
    for line in command_lines(page):
        words = line.partition(" -- ")[0].split()  # what follows -- are the flags of the service's command
        command = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in flags), words[0])
        assert set(FLAG.findall(line.partition(" -- ")[0])) <= flags.get(command, set()) | {"--help"}, line
    alone = re.findall(r"`(--[^`]+)`", prose(page))
    assert set(FLAG.findall(" ".join(alone))) <= set(itertools.chain(*flags.values())) | FOREIGN_FLAGS


def test_every_command_is_in_the_documents(flags):
    text = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in flags if name not in text and f"`{name.split()[-1]}`" not in text] == []


# -- links


def slug(heading: str) -> str:
    """The anchor that code hosts, and the site, give a heading."""
    words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower())
    return words.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(line.lstrip("#")) for line in BLOCK.sub("", page.read_text()).splitlines() if re.match(r"#+ ", line)}


@pytest.mark.parametrize("page", MARKDOWN, ids=named)
def test_a_page_has_no_marks_of_a_merge(page):
    marks = re.findall(r"^(?:<{7}|>{7})(?: .*)?$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert marks == []


@pytest.mark.parametrize("page", MARKDOWN, ids=named)
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`(?!\])", "", prose(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.is_file(), f"{target} is missing"
        assert not anchor or anchor in anchors(place), f"{target} has no such heading"


# -- what is said


def test_the_readme_is_short():
    assert len(prose(ROOT / "README.md").split()) <= 700


def first_column(page: str, heading: str) -> list[str]:
    """The names in the first column of the table under a heading."""
    section = re.split(r"^#+ ", (ROOT / page).read_text(), flags=re.MULTILINE)
    body = next(part for part in section if part.startswith(f"{heading}\n"))
    rows = [line.split("|")[1] for line in body.splitlines() if line.startswith("|")]
    return [name for row in rows[2:] for name in re.findall(r"`([^`]+)`", row)]


def header(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return next(csv.reader(file))


def test_the_tables_of_columns_name_what_is_written(device, samples, tmp_path):
    grey, out = cv2.imread(str(samples / "hoechst8.png"), -1), tmp_path / "out"
    tifffile.imwrite(tmp_path / "grey.ome.tif", grey, metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
    shutil.copy(samples / "smear.png", tmp_path / "colour.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    device("watch", tmp_path, "--once", "--out", out)
    assert device("summary", out).returncode == 0
    assert first_column("docs/results.md", "counts.csv") == header(out / "counts.csv")
    grey_columns, colour_columns = (header(out / f"{stem}.cells.csv") for stem in ("grey.ome", "colour"))
    cells = first_column("docs/results.md", "STEM.cells.csv")
    assert [name for name in cells if name in grey_columns] == grey_columns
    assert sorted(cells) == sorted({*grey_columns, *colour_columns})
    assert first_column("docs/results.md", "failed.csv") == header(out / "failed.csv")
    assert first_column("docs/results.md", "summary.csv") == header(out / "summary.csv")
    assert device("summary", out, "--cells").returncode == 0
    assert header(out / "summary-cells.csv")[0] == "image"
    assert {*header(out / "summary-cells.csv")[1:]} == {*grey_columns, *colour_columns}


def test_what_takes_the_apostrophes_from_a_column_does():
    page = (ROOT / "docs" / "results.md").read_text()
    patterns = re.findall(r'"(\(\^[^"]*)"', page)
    assert len(patterns) == 2  # pandas, R
    for text in ("=1.png", "a;-1;'+2", "'' @3", "'plain.png", "a.png"):
        for pattern in patterns:  # with | as a Markdown table needs it
            assert re.sub(pattern.replace(r"\|", "|"), r"\1", escaped(text)) == text


def test_the_messages_to_look_up_are_in_the_code():
    sources = [path.read_text() for folder in ("device", "host") for path in (ROOT / folder).rglob("*.py")]
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))  # parts of a text on lines of their own
    page = (ROOT / "docs/troubleshooting.md").read_text()
    messages = [
        m for line in page.splitlines() if line.startswith("|") for m in re.findall(r"`([^`]+)`", line.split("|")[1])
    ]
    assert len(messages) > 40
    assert [message for message in messages if message not in code] == []


def test_the_site_builds_without_a_warning(tmp_path, environment):
    pytest.importorskip("myst_parser", reason="the site's packages are missing: pip install '.[docs]'")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "-c", ROOT / "docs", ROOT, tmp_path]
    variables = {name: value for name, value in environment.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "docs/start.html" in (tmp_path / "README.html").read_text()
