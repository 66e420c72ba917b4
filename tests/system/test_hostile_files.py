"""`watch` goes on whatever a file does to its decoder."""

import os
import subprocess
import sys

import pytest

# The command, with a decoder that some files harm
HARMED = """
import ctypes, sys, time
from cellseg_device import decoder, image, memory
from cellseg_device.cli import main
decoder._LIMIT_S = 1.0
decoder.Decoder.__init__.__defaults__ = (1.0,)
plain = image.decode
def spin(data):
    while True:
        pass
harm = {b"crash": lambda data: ctypes.string_at(0), b"hang!": spin, b"hog!!": lambda data: bytearray(1 << 40)}
image.decode = lambda data: harm.get(data[:5], plain)(data)
main(sys.argv[1:])
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="decodes in the same process here")
def test_files_that_crash_hang_or_eat_memory_cost_themselves(environment, tmp_path, write_image, table, check_results):
    for number in range(4):
        write_image(tmp_path / f"{number}-good.png", seed=number)
    for number, deed in enumerate(("crash", "hang!", "hog!!")):
        path = tmp_path / f"{number}-harm.png"
        path.write_text(f"{deed} of a decoder")
        os.utime(path, (1_700_000_000, 1_700_000_000))
    command = [sys.executable, "-c", HARMED, "watch", str(tmp_path), "--once"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    out = tmp_path / "cellseg-results"
    check_results(out, [f"{number}-good.png" for number in range(4)])
    assert [row["reason"].split(":")[0] for row in table(out / "failed.csv")] == [
        "crashes the decoder (SIGSEGV)",
        "takes more than 1 s to decode",
        "needs more memory than there is",
    ]
    assert len(result.stderr.splitlines()) == 3
