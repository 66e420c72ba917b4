"""Files of other people, links laid in our way, and a ledger that names files elsewhere: none of them is touched."""

from __future__ import annotations

import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cellseg_device.camera import captures
from cellseg_device.errors import InputError, OutputError
from cellseg_device.image.source import source_at
from cellseg_device.pipeline.models import Models
from cellseg_device.results import export, rebuild, schema, tables
from cellseg_device.results import ledger as ledgers
from cellseg_device.results.entry import DONE
from cellseg_device.results.folder import Output
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.results.lock import LOCK_NAME
from cellseg_device.summary import tables as summary_tables
from cellseg_device.system import files
from cellseg_device.watching.worker import Worker

FOREIGN = [b"name;what\nmine;1\n", b"mine", b"image,note\n1,2\n", b"\x89PNG\r\n\x1a\n\0\0", b"\n"]


@pytest.fixture
def out(tmp_path):
    """An output folder with one result."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim.txt"
    path.write_text("precious")
    return path


def opened(folder):
    output = Output(folder, lambda line: None)
    output.open()
    return output


@pytest.mark.parametrize("name", [tables.COUNTS_NAME, tables.FAILED_NAME])
@pytest.mark.parametrize("content", FOREIGN)
def test_a_foreign_file_with_the_name_of_a_table_is_refused_and_stays(out, name, content):
    (out / name).write_bytes(content)
    with pytest.raises(OutputError, match=rf"{name} is not a table of cellseg: move it away, or use another --out"):
        opened(out)
    assert (out / name).read_bytes() == content
    assert not (out / FILE_NAME).exists()
    (out / name).rename(out / "mine.csv")
    opened(out).close()
    assert (out / "mine.csv").read_bytes() == content


@pytest.mark.parametrize("name", [tables.COUNTS_NAME, tables.FAILED_NAME])
@pytest.mark.parametrize("kind", ["a link", "a link to nowhere", "a pipe", "a folder"])
def test_what_is_not_a_file_is_no_table(out, victim, name, kind):
    path = out / name
    make = {
        "a link": lambda: path.symlink_to(victim),
        "a link to nowhere": lambda: path.symlink_to("nowhere"),
        "a pipe": lambda: os.mkfifo(path),
        "a folder": path.mkdir,
    }
    make[kind]()
    with pytest.raises(OutputError, match="is not a table of cellseg"):
        opened(out)
    assert os.path.lexists(path)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    "heading",
    [
        "image,count,flags,model,labels",
        "\ufeffimage;count;flags;model;labels",  # saved by a spreadsheet
        '"image"\t"count"\t"model"\t"labels"\r',
        "",
    ],
)
def test_tables_of_ours_are_known_whatever_a_spreadsheet_made_of_them(out, heading):
    (out / tables.COUNTS_NAME).write_text(f"{heading}\n" if heading else "")
    opened(out).close()
    assert (out / "counts-1.csv").read_text().strip() == heading.strip()


def test_counts_are_set_aside_beside_a_link_to_nowhere(out):
    (out / "counts-1.csv").symlink_to("nowhere")
    (out / tables.COUNTS_NAME).write_text("image,count,model,labels\n")
    opened(out).close()
    assert (out / "counts-1.csv").is_symlink()
    assert (out / "counts-2.csv").is_file()


@pytest.mark.parametrize("name", [LOCK_NAME, files.TURN_NAME, FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"])
@pytest.mark.parametrize("target", ["victim.txt", "nowhere"])
def test_no_link_is_followed(out, victim, name, target):
    (out / name).symlink_to(victim.with_name(target))
    with pytest.raises((OutputError, OSError), match=r"is a link"):
        opened(out)
    assert victim.read_text() == "precious"
    assert not victim.with_name("nowhere").exists()


@pytest.mark.parametrize("name", [LOCK_NAME, files.TURN_NAME, FILE_NAME])
def test_nobody_waits_for_a_pipe(out, name):
    os.mkfifo(out / name)
    with pytest.raises((OutputError, OSError), match=r"not a file"):
        opened(out)


def test_temporary_files_go_round_what_lies_in_their_way(out, victim, monkeypatch):
    names = iter(["taken", "linked", "free"])
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: next(names))
    (out / ".cellseg-taken.tmp").write_text("of somebody")
    (out / ".cellseg-linked.tmp").symlink_to(victim)
    for _ in range(2):
        with pytest.raises(FileExistsError):
            files.write(out / "a.txt", b"ours")
    files.write(out / "a.txt", b"ours")
    assert victim.read_text() == "precious"
    assert (out / "a.txt").read_bytes() == b"ours"


def test_only_files_are_cleared_away_as_leftovers(out, victim):
    leftover, folder, link = (out / f".cellseg-{n}.tmp" for n in ("0a", "0b", "0c"))
    leftover.write_text("half a result")
    folder.mkdir()
    link.symlink_to(victim)
    opened(out).close()
    assert not leftover.exists()
    assert folder.is_dir()
    assert link.is_symlink()


def test_a_link_in_place_of_a_result_is_foreign(work, tmp_path, write_image, victim):
    path = write_image(tmp_path / "a.png")
    assert work.process(source_at(path, "a.png")).status == DONE
    labels = work.output.folder / "a.labels.tif"
    labels.unlink()
    labels.symlink_to(victim)
    write_image(path, seed=5, mtime=1_700_000_005)
    outcome = work.process(source_at(path, "a.png"))
    assert "names are taken by files that cellseg did not make" in outcome.reason
    assert labels.is_symlink()
    assert victim.read_text() == "precious"


@pytest.fixture
def tampered(work, tmp_path, write_image):
    """Change the ledger of a folder with one result by a line of SQL; returns the folder."""

    def tamper(sql, *values):
        path = write_image(tmp_path / "a.png")
        work.process(source_at(path, "a.png"))
        work.output.close()
        connection = sqlite3.connect(work.output.folder / FILE_NAME)
        connection.execute(sql, values)
        connection.commit()
        connection.close()
        return work.output.folder

    return tamper


@pytest.mark.parametrize(
    "names",
    [
        '{"../victim.txt": "00"}',
        '{"/etc/hostname": "00"}',
        '{"..": "00"}',
        '{"": ""}',
        '["a"]',
        "{",
        "7",
        '{"a\\u0000": ""}',
    ],
)
def test_names_of_files_elsewhere_are_damage(tampered, victim, model, names, write_image, tmp_path):
    out = tampered("UPDATE images SET files = ?", names)
    (tmp_path / "a.png").write_bytes(b"no image any more")
    output = Output(out, lambda line: None)
    worker = Worker(Models(model), output)
    with pytest.raises(OutputError, match="it names a file outside of its folder"):
        worker.process(source_at(tmp_path / "a.png", "a.png"))
    worker.close()
    output.release()
    assert victim.read_text() == "precious"


def test_a_stem_elsewhere_is_damage(tampered):
    ledger = Ledger(tampered("UPDATE images SET stem = '../y'") / FILE_NAME)
    with pytest.raises(OutputError, match="it names a file outside of its folder"):
        list(ledger.entries(DONE))
    ledger.close()


def test_announced_names_elsewhere_are_damage(tampered, victim, tmp_path):
    out = tampered("INSERT INTO in_hand VALUES ('b.png', 0, 0, 0, 0, ?)", json.dumps(["../victim.txt"]))
    ledger = Ledger(out / FILE_NAME)
    with pytest.raises(OutputError, match="it names a file outside of its folder"):
        ledger.announced("b.png")
    ledger.close()


def test_a_rebuild_keeps_what_a_killed_process_left_in_the_log(work, tmp_path, write_image):
    """The copy that is kept of the former ledger is whole, though part of that lies in SQLite's log."""
    out = work.output.folder
    work.process(source_at(write_image(tmp_path / "a.png"), "a.png"))
    there = {path.name: path.read_bytes() for path in out.glob(f"{FILE_NAME}*")}
    assert there[f"{FILE_NAME}-wal"]
    work.output.release()
    for name, data in there.items():  # as a kill leaves them
        (out / name).write_bytes(data)
    rebuilt = rebuild.rebuild(out, tmp_path, lambda number: None)
    assert rebuilt.aside == "cellseg-1.sqlite"
    for name in (FILE_NAME, rebuilt.aside):
        ledger = Ledger(out / name, is_for_reading=True)
        assert [entry.image for entry in ledger.entries(DONE)] == ["a.png"]
        ledger.close()
    assert not list(out.glob("*-wal*"))


def test_a_plain_name():
    assert [name for name in ("a", "a b.tif", "", ".", "..", "a/b", "/a", "a\0") if ledgers.is_plain_name(name)] == [
        "a",
        "a b.tif",
    ]


def test_there_is_no_link_between_a_check_and_a_use_in_the_folder_for_captures(tmp_path, monkeypatch):
    monkeypatch.setattr(captures, "_IN_MEMORY", tmp_path)
    taken = captures.Captures(tmp_path / "out", keep=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    taken.folder.symlink_to(elsewhere)
    with pytest.raises(OutputError, match="belongs to somebody else: remove it"):
        taken.write(np.zeros((4, 4), np.uint8), 1)
    taken.folder.unlink()
    taken.folder.mkdir(mode=0o777)
    taken.folder.chmod(0o777)
    with pytest.raises(OutputError, match="belongs to somebody else: remove it"):
        taken.write(np.zeros((4, 4), np.uint8), 1)
    assert list(Path(elsewhere).iterdir()) == []


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("UPDATE images SET files = ?", "[" * 100_000),
        ("UPDATE images SET stem = ?", b"a"),
        ("UPDATE images SET place = ?", b"../a.png"),
        ("UPDATE images SET mtime_ns = ?", "yesterday"),
        ("UPDATE images SET count = ?", "many"),
        ("UPDATE images SET focus = ?", b"sharp"),
    ],
)
def test_values_of_another_kind_are_damage(tampered, sql, value):
    ledger = Ledger(tampered(sql, value) / FILE_NAME)
    with pytest.raises(OutputError, match="is damaged"):
        list(ledger.entries(DONE))
    ledger.close()


def test_a_rebuild_does_not_take_files_of_somebody_else_for_its_own(worker_with, output, tmp_path, write_image):
    worker_with(extras=("geojson", "coco")).process(source_at(write_image(tmp_path / "a.png"), "a.png"))
    output.close()
    (output.folder / "a.geojson").write_text("of somebody")
    rebuild.rebuild(output.folder, tmp_path, lambda number: None)
    ledger = Ledger(output.folder / FILE_NAME)
    assert set(ledger.get("a.png").digests()) == {"a.labels.tif", "a.cells.csv", "a.coco.json"}
    ledger.close()


def test_a_backup_by_a_hard_link_stays_as_it_is(work, tmp_path, write_image):
    out = work.output.folder
    work.process(source_at(write_image(tmp_path / "a.png"), "a.png"))
    before = (out / "counts.csv").read_bytes()
    os.link(out / "counts.csv", tmp_path / "backup.csv")
    for seed, name in enumerate(("b.png", "c.png"), 1):
        work.process(source_at(write_image(tmp_path / name, seed=seed), name))
    work.output.close()
    assert (tmp_path / "backup.csv").read_bytes() == before
    assert (out / "counts.csv").read_bytes().count(b"\n") == 4


def test_three_processes_bring_one_ledger_up_to_date_at_once(tmp_path):
    """Others wait for the one that does it."""
    path = tmp_path / FILE_NAME
    for _ in range(20):
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path, isolation_level=None)
        steps = [schema.migration(number) for number in range(1, 5)]
        connection.executescript(f"BEGIN; {' '.join(steps)} PRAGMA user_version = 4; COMMIT;")
        connection.close()
        with ThreadPoolExecutor(3) as pool:
            for opening in [pool.submit(lambda: Ledger(path).close()) for _ in range(3)]:
                opening.result()


def test_a_pipe_in_place_of_a_table_of_cells_holds_up_nobody(work, tmp_path, write_image):
    work.process(source_at(write_image(tmp_path / "a.png"), "a.png"))
    work.output.close()
    out = work.output.folder
    (out / "a.cells.csv").unlink()
    os.mkfifo(out / "a.cells.csv")
    (field,) = summary_tables.read_fields(out, print)
    with pytest.raises(InputError, match="not a file"):
        summary_tables.read_diameters(out, field)
    ledger = Ledger(out / FILE_NAME)
    assert "cannot be read" in export.export(out, ledger, ledger.get("a.png"), ("geojson",)).reason
    ledger.close()
    os.mkfifo(out / "counts-3.csv")
    with pytest.raises(OutputError, match="not a file"):
        rebuild.rebuild(out, tmp_path, lambda number: None)
    (out / "counts-3.csv").unlink()
    assert len(rebuild.rebuild(out, tmp_path, lambda number: None).left_out) == 1
