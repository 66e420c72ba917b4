"""A results folder with one image that was counted, as `cellseg-device run` leaves it."""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from cellseg_device.cells.counting import parse_key
from cellseg_device.correcting.work import Work
from cellseg_device.image.sandbox import decode_here
from cellseg_device.results import export
from cellseg_device.results.export import Originals
from cellseg_device.results.ledger import FILE_NAME, Ledger


@dataclass(frozen=True)
class Counted:
    """A folder with an image, and its results in `out`."""

    folder: Path
    out: Path
    name: str

    @property
    def stem(self):
        return Path(self.name).stem

    @property
    def entry(self):
        with closing(Ledger(self.out / FILE_NAME, is_for_reading=True)) as ledger:
            return ledger.get(self.name)

    def work(self):
        """The image's correction, opened anew."""
        entry = self.entry
        labels = export.stored(self.out, entry).labels
        subject = export.subject(entry, labels, Originals.under((self.folder,), self.out, decode_here))
        return Work(self.out, entry, subject.image, parse_key(entry.settings or "{}"))

    def machine(self):
        return export.stored(self.out, self.entry).labels

    def files(self):
        """Every file but those of corrections, with its content."""
        return {
            path.name: path.read_bytes()
            for path in self.out.iterdir()
            if path.is_file() and not path.name.endswith(("-wal", "-shm"))
        }

    def put(self, **changes):
        """Change what the ledger has of the image."""
        entry = self.entry
        with closing(Ledger(self.out / FILE_NAME)) as ledger, ledger.transaction():
            ledger.put(dataclasses.replace(entry, **changes))


@pytest.fixture(scope="session")
def count_in(device, write_image):
    """Count an image in a folder with these options."""

    def start(folder: Path, *options, **blobs) -> Counted:
        write_image(folder / "a.png", **blobs)
        done = device("watch", folder, "--once", "--no-overlay", "--gate", "none", *options)
        assert done.returncode == 0, done.stderr
        counted = Counted(folder, folder / "cellseg-results", "a.png")
        assert counted.entry.counts.count >= 3
        return counted

    return start


@pytest.fixture
def count(count_in, tmp_path):
    """Count an image with these options."""
    return lambda *options, **blobs: count_in(tmp_path, *options, **blobs)


@pytest.fixture(scope="session")
def template(count_in, tmp_path_factory) -> Counted:
    return count_in(tmp_path_factory.mktemp("template"))


@pytest.fixture
def counted(template, tmp_path) -> Counted:
    """An image that was counted with the default settings."""
    shutil.copytree(template.folder, tmp_path, dirs_exist_ok=True)
    return Counted(tmp_path, tmp_path / "cellseg-results", "a.png")
