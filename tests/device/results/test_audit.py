"""What is said of a result that is missing: who makes it again, if anybody does; and of an earlier version's tables."""

import sqlite3

import pytest

from cellseg_device.image.source import source_at
from cellseg_device.pipeline.models import Models
from cellseg_device.results import audit
from cellseg_device.results.folder import Output
from cellseg_device.watching.worker import Worker

CAPTURE = "20260101T101112.123Z-000001.png"


@pytest.mark.parametrize(
    ("name", "image", "is_kept", "remedy"),
    [
        ("a.png", "a.png", True, "the next 'run' or 'watch' makes it again from a.png"),
        ("a.png", "/captures/a.png", True, "the next 'run' or 'watch' makes it again from {}/captures/a.png"),
        (CAPTURE, CAPTURE, True, f"the next 'camera' makes it again from captures/{CAPTURE}"),
        (CAPTURE, CAPTURE, False, "nothing makes it again, since the camera's image was not kept"),
    ],
)
def test_a_missing_table_of_cells(model, tmp_path, write_image, name, image, is_kept, remedy):
    (tmp_path / "captures").mkdir()
    output = Output(tmp_path, print)
    source = source_at(write_image(tmp_path / "captures" / name), image)
    worker = Worker(Models(model), output)
    done = worker.process(source)
    worker.close()
    output.close()
    if not is_kept:
        source.path.unlink()
    assert audit.verify(tmp_path, lambda number: None).problems == ()
    cells = done.labels.replace(".labels.tif", ".cells.csv")
    (tmp_path / cells).unlink()
    assert audit.verify(tmp_path, lambda number: None).problems == (
        f"{cells} is missing: {remedy.format(tmp_path.name)}",
    )


@pytest.mark.parametrize("noted", [True, False])
def test_the_table_of_an_earlier_version_is_no_problem(work, output, tmp_path, write_image, noted):
    """As of the versions that had no column `captured_from`, and before those that noted how they left the tables."""
    work.process(source_at(write_image(tmp_path / "a.png"), "a.png"))
    output.close()
    counts = output.folder / "counts.csv"
    counts.write_text(counts.read_text().replace(",captured_from,", ",").replace(",file,", ","))
    with sqlite3.connect(output.folder / "cellseg.sqlite") as connection:
        if noted:
            connection.execute("UPDATE tables SET columns = replace(columns, ',captured_from', '')")
        else:
            connection.execute("DELETE FROM tables")
    connection.close()
    found = audit.verify(output.folder, lambda number: None)
    assert (found.problems, found.behind) == ((), ("counts.csv",))
    output.open()
    output.close()
    assert "captured_from" in counts.read_text()
    assert audit.verify(output.folder, lambda number: None).behind == ()
    counts.write_text("image\n")
    assert len(audit.verify(output.folder, lambda number: None).problems) == 1
