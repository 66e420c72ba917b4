"""What is said of a result that is missing: who makes it again, if anybody does."""

import pytest

from cellseg_device import audit
from cellseg_device.output import Output
from cellseg_device.scan import source_at
from cellseg_device.worker import Worker

CAPTURE = "20260101T101112.123Z-000001.png"


@pytest.mark.parametrize(
    ("name", "image", "is_kept", "remedy"),
    [
        ("a.png", "a.png", True, "the next 'watch' makes it again from a.png"),
        ("a.png", "/captures/a.png", True, "the next 'run' makes it again from /captures/a.png"),
        (CAPTURE, CAPTURE, True, f"the next 'camera' makes it again from captures/{CAPTURE}"),
        (CAPTURE, CAPTURE, False, "nothing makes it again, since the camera's image was not kept"),
    ],
)
def test_a_missing_table_of_cells(model, tmp_path, write_image, name, image, is_kept, remedy):
    (tmp_path / "captures").mkdir()
    output = Output(tmp_path, print)
    source = source_at(write_image(tmp_path / "captures" / name), image)
    done = Worker(model, output).process(source)
    output.close()
    if not is_kept:
        source.path.unlink()
    assert audit.verify(tmp_path, lambda number: None).problems == ()
    cells = done.labels.replace(".labels.tif", ".cells.csv")
    (tmp_path / cells).unlink()
    assert audit.verify(tmp_path, lambda number: None).problems == (f"{cells} is missing: {remedy}",)
