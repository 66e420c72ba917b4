"""What cellseg makes of files and habits that people in the field reported, beside what is right.

    python benchmarks/cases.py CASES     (prints the table; exits with 1 if a line is wrong)

CASES is a folder of small files with known content, as the set's own `make_cases.py` writes it; its `expected.json` has
the counts of the eyepiece files. Everything runs through the commands, as a user runs them. The set is not part of this
repository; the tests make their own files like these.
"""

from __future__ import annotations

import contextlib
import csv
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click

from cellseg_host.commands.console import print_table

CELLS = "40"  # in the one picture that most of the files hold
PLAIN = {
    "float-clean.tif": "",
    "float-outlier-1e4.tif": "one pixel at 10,000 in a float image",
    "float-outlier-1e6.tif": "one pixel at 1,000,000",
    "float-outlier-no-data.tif": "a no-data value",
    "jpeg-plain.jpg": "",
    "jpeg-extra-bytes.jpg": "stray bytes before a marker",
    "pages-thumbnail.tif": "a thumbnail in a second page",
    "pages-pyramid.tif": "smaller copies in further pages",
    "pages-thumbnail-unmarked.tif": "a smaller copy, not marked",
    "png-long-text.png": "over 1 MB of text",
    "png-large-profile.png": "over 1 MB of colour profile",
    "tiff-4-bit.tif": "4 bits a pixel",
    "lut-none.tif": "",
}
LUTS = ("lut-grey.tif", "lut-hot.tif", "lut-inverted.tif", "lut-hilo.tif")
DATED = {"dated-exif.jpg": "EXIF", "dated-tiff.tif": "TIFF"}
TAKEN = "2021-03-04T05:06:07"


class Line(NamedTuple):
    """A case, what is right, what was found, and whether that is right."""

    case: str
    right: str
    found: str
    is_right: bool


def cellseg(package: str, *arguments: object, code: int = 0) -> str:
    """Run a command; returns what it printed. Another exit code than expected is said, not hidden."""
    command = [sys.executable, "-m", package, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    said = done.stdout + done.stderr
    return said if done.returncode == code else f"exit code {done.returncode}: {said}"


def rows(out: Path, table: str = "counts.csv") -> dict[str, dict[str, str]]:
    """Return the rows of a table by the name of the image's file."""
    try:
        text = (out / table).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return {Path(row["image"]).name: row for row in csv.DictReader(text.splitlines())}


def counted(cases: Path, scratch: Path) -> Iterator[Line]:
    """Files that hold one picture, and how it is counted."""
    out = scratch / "counted"
    names = [*PLAIN, *LUTS, *DATED, "size-micro-manager.tif", "pages-true-stack.tif"]
    cellseg("cellseg_device", "run", *(cases / name for name in names), "--out", out, code=1)
    found, failed = rows(out), rows(out, "failed.csv")
    for name, what in PLAIN.items():
        row = found.get(name)
        said = f"{row['count']} {row['flags']}".strip() if row else failed[name]["reason"]
        yield Line(f"{name} {what}".strip(), CELLS, said, row is not None and row["count"] == CELLS)
    plain = cells(out, "lut-none")
    for name in LUTS:
        same = cells(out, Path(name).stem) == plain
        yield Line(f"{name} ImageJ's lookup table", "the cells of lut-none.tif", "the same" if same else "others", same)
    for name, source in DATED.items():
        said = f"{found[name]['captured_at']}, {found[name]['captured_from']}"
        yield Line(name, f"{TAKEN}, {source}", said, said == f"{TAKEN}, {source}")
    size = found["size-micro-manager.tif"]["pixel_size_um"]
    yield Line("size-micro-manager.tif", "0.325 µm", f"{size} µm", size == "0.325")
    reason = failed.get("pages-true-stack.tif", {}).get("reason", "counted")
    yield Line("pages-true-stack.tif", "refused: several pages", reason, "pages" in reason)


def cells(out: Path, stem: str) -> str:
    """Return the table of an image's cells."""
    path = out / f"{stem}.cells.csv"
    return path.read_text() if path.exists() else f"no {path.name}"


def eyepieces(cases: Path, scratch: Path) -> Iterator[Line]:
    """A dark surround: with the region given, with it found, and in the picture without a surround."""
    expected: Mapping[str, Mapping[str, object]] = json.loads((cases / "expected.json").read_text())
    whole = "eyepiece-whole-field.png"
    for name, about in expected.items():
        if name == whole:
            cellseg("cellseg_device", "run", cases / whole, "--out", scratch / "whole")
            count = rows(scratch / "whole")[whole]["count"]
            yield Line(whole, str(about["nuclei"]), count, count == str(about["nuclei"]))
            continue
        right, region = int(str(about["nuclei_with_centre_inside"])), about["region"]
        given, found = scratch / f"given-{name}", scratch / f"found-{name}"
        cellseg("cellseg_device", "run", cases / name, cases / whole, "--region", region, "--out", given)
        cellseg("cellseg_device", "run", cases / name, "--out", found)
        inside, same = (int(rows(given)[image]["count"]) for image in (name, whole))
        alone = rows(found)[name]
        # A nucleus that lies half under the rim may be taken for one inside or outside
        yield Line(f"{name} --region {region}", f"{right} ± 1", str(inside), abs(inside - right) <= 1)
        yield Line(f"{whole}, the same region", str(inside), str(same), same == inside)
        said = f"{alone['count']}, {alone['surround']}"
        is_found = alone["surround"].startswith("dark") and abs(int(alone["count"]) - right) <= 2
        yield Line(f"{name}", f"{right} ± 2, dark surround", said, is_found)


def habits(cases: Path, scratch: Path) -> Iterator[Line]:
    """What is done with folders: suffixes, renamed files, labels to train on, cameras."""
    folder = Path(shutil.copytree(cases / "suffixes", scratch / "suffixes"))
    said = cellseg("cellseg_device", "watch", folder, "--once", code=0)
    done = sorted(rows(folder / "cellseg-results"))
    over = next((line for line in said.splitlines() if "passed over" in line), "nothing is said")
    yield Line("suffixes/: taken", "b.jfif c.lsm d.btf", " ".join(done), done == ["b.jfif", "c.lsm", "d.btf"])
    kinds = all(kind in over for kind in (".bmp", ".czi", ".heic"))
    yield Line("suffixes/: passed over", "said once, with .bmp .czi .heic", over, kinds)

    folder = Path(shutil.copytree(cases / "renamed", scratch / "renamed"))
    cellseg("cellseg_device", "watch", folder, "--once")
    (folder / "A01_f2.png").rename(folder / "A01_f02.png")
    cellseg("cellseg_device", "watch", folder, "--once")
    cellseg("cellseg_device", "summary", folder, "--group", "^([A-H][0-9]+)_")
    table = (folder / "cellseg-results" / "summary.csv").read_text(encoding="utf-8-sig")
    group = next(csv.DictReader(table.splitlines()))
    yield Line("renamed/: images in the group", "2", group["images"], group["images"] == "2")

    for name in ("labels-int64", "labels-uint32"):
        out = scratch / name
        said = cellseg("cellseg_host", "data", "import", "--format", "labels", cases / name, out)
        manifest = out / "manifest.csv"
        count = next(csv.DictReader(manifest.open()))["cells"] if manifest.exists() else said.strip()
        yield Line(name, CELLS, count, count == CELLS)

    with jpeg_camera(cases / "jpeg-plain.jpg") as (url, asked):
        out = scratch / "camera"
        cellseg("cellseg_device", "camera", "--source", url, "--every", 0, "--count", 3, "--warm-up", 0, "--out", out)
        counts = [row["count"] for row in rows(out).values()]
        said = f"{' '.join(counts)}; {len(asked)} requests"
        yield Line("camera with a JPEG for each GET", "3 images of 40", said, counts == [CELLS] * 3 and len(asked) >= 3)


@contextlib.contextmanager
def jpeg_camera(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve one JPEG for each GET, as small network cameras do; yields the address and the requests."""
    asked: list[str] = []

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/shot.jpg", asked
    finally:
        server.shutdown()
        server.server_close()


@click.command()
@click.argument("cases", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(cases: Path) -> None:
    """List the field cases in the folder CASES with their right and their found results."""
    os.environ["PYTHONWARNINGS"] = "error"
    with tempfile.TemporaryDirectory() as name:
        lines = [line for part in (counted, eyepieces, habits) for line in part(cases.absolute(), Path(name))]
    print_table(
        "field cases",
        ("case", "right", "found", ""),
        [(line.case, line.right, line.found[:100], "" if line.is_right else "WRONG") for line in lines],
    )
    wrong = sum(not line.is_right for line in lines)
    click.echo(f"{len(lines) - wrong} of {len(lines)} are right")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
