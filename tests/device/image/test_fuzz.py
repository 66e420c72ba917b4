"""Mutated image files before a real watch, and in the decoder: ``benchmarks/fuzz.py`` with a few hundred of them."""

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device.errors import ImageError
from cellseg_device.image.sandbox import Decoder
from cellseg_device.system import lockdown

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "fuzz.py"
REFUSED = {"cmyk.jpg": "has CMYK colours", "lzma.tif": "compressed with LZMA", "zstd.tif": "compressed with ZSTD"}


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fuzz"]


class TooLate:
    """A finder of modules that finds none, and says which was looked for."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        raise RuntimeError(f"{name} is imported too late")


@pytest.fixture
def decoder(monkeypatch):
    """One that fails where it imports something after it has given up its rights, when it no longer could."""
    plain = lockdown.only_compute

    def only_compute():
        sys.meta_path.insert(0, TooLate)
        return plain()

    monkeypatch.setattr(lockdown, "only_compute", only_compute)
    with Decoder(limit_s=20) as made:
        yield made


def test_the_sound_files_are_images(fuzz, decoder, tmp_path, draw_blobs):
    for name, data in fuzz.seeds(draw_blobs(40, 56)).items():
        path = tmp_path / name
        path.write_bytes(data)
        if name in REFUSED:
            with pytest.raises(ImageError, match=REFUSED[name]):
                decoder.decode(path)
        else:
            assert decoder.decode(path)[1].shape == (40, 56)


def test_a_decoder_needs_nothing_that_it_gave_up(fuzz, decoder, tmp_path, draw_blobs):
    rng, sound = random.Random(0), fuzz.seeds(draw_blobs(40, 56))
    others = list(sound.values())
    reasons = []
    for number in range(200):
        name = rng.choice(list(sound))
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(fuzz.mutated(sound[name], others, rng))
        try:
            decoder.decode(path)
        except ImageError as error:
            reasons.append(f"{name}, {number}: {error.message}")
    assert 50 < len(reasons) < 200
    assert [r for r in reasons if "makes the decoder fail" in r or "too late" in r or not r.isprintable()] == []


@pytest.mark.slow
def test_a_watch_counts_every_sound_image_among_mutated_ones(environment, tmp_path):
    command = [sys.executable, str(SCRIPT), "--files", "500", "--json", str(tmp_path / "fuzz.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["bugs"] == []
    assert (found["files"], found["sound"], found["counted_right"]) == (500, 10, 10)
    assert sum(found["outcomes"].values()) == 490
    assert found["outcomes"]["counted"] > 20
    assert found["outcomes"]["refused"] > 100


def test_what_is_done_is_not_done_again(environment, tmp_path):
    files = ["--files", "20", "--work", str(tmp_path / "work"), "--json", str(tmp_path / "fuzz.json")]
    for _ in range(2):
        assert subprocess.run([sys.executable, str(SCRIPT), *files], env=environment, check=False).returncode == 0
        (kept,) = (tmp_path / "work").iterdir()
        batch = json.loads(kept.read_text())
        kept.write_text(json.dumps({**batch, "outcomes": {"counted": 7}}))
    assert json.loads((tmp_path / "fuzz.json").read_text())["outcomes"] == {"counted": 7}
