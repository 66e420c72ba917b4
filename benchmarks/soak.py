"""A soak of `cellseg-device watch` at full speed: whether its memory is flat, and every image counted once.

Images of three kinds and two sizes come as fast as they are done, a damaged one among a hundred. Every few seconds
the memory of the watch and its decoder is read (what they share is counted once), and the open files are counted.

    python benchmarks/soak.py --minutes 60 > benchmarks/soak.json
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil

from cellseg_device.system.csv_text import Rows
from cellseg_device.watching.bench import known_field

SIZES = ((520, 696), (1200, 1600))
PENDING = 8  # images in the folder that wait
WARM_UP = 0.2  # of the time
FLAT = 0.05


def images() -> list[tuple[str, bytes]]:
    """A damaged file last; before it the same fields as PNG, JPEG and TIFF."""
    made = []
    for height, width in SIZES:
        pixels = cv2.imdecode(np.frombuffer(known_field(height, width), np.uint8), cv2.IMREAD_COLOR)
        made += [(suffix, cv2.imencode(suffix, pixels)[1].tobytes()) for suffix in (".png", ".jpg", ".tif")]
    return [*made, (".png", made[0][1][:5000])]


def memory_mb(process: psutil.Process) -> float:
    """Memory of a process and those below it."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            pss = re.search(r"Pss:\s+(\d+) kB", Path(f"/proc/{each.pid}/smaps_rollup").read_text())
        except OSError:  # ended meanwhile
            continue
        total += int(pss[1]) if pss else 0
    return total * 1024 / 1e6


def soak(minutes: float, every_s: float) -> dict[str, object]:
    """Run the watch for a time; what it did and took."""
    kinds = images()
    with tempfile.TemporaryDirectory() as name:
        folder, out, aside = Path(name) / "images", Path(name) / "out", Path(name) / "aside"
        folder.mkdir()
        aside.mkdir()
        with open(Path(name) / "printed", "w") as printed:
            command = [sys.executable, "-m", "cellseg_device", "watch", str(folder), "--out", str(out), "--settle", "0"]
            watch = subprocess.Popen([*command, "--overlay"], stdout=printed, stderr=printed)
        process, samples, sent = psutil.Process(watch.pid), [], 0
        start = time.monotonic()
        due = start + every_s
        while time.monotonic() < start + 60 * minutes:
            assert watch.poll() is None, (Path(name) / "printed").read_text()[-2000:]
            waiting = [path for path in folder.iterdir() if not (out / f"{path.stem}.labels.tif").exists()]
            for path in set(folder.iterdir()) - set(waiting):
                path.unlink()
            for _ in range(PENDING - len(waiting)):
                suffix, data = kinds[-1] if sent % 100 == 99 else kinds[sent % (len(kinds) - 1)]
                path = aside / f"{sent:07}{suffix}"
                path.write_bytes(data)
                if data is kinds[-1][1]:
                    shutil.copy(path, folder)  # never done: it stays out of what waits
                    time.sleep(0.3)
                    (folder / path.name).unlink()
                    path.unlink()
                else:
                    path.rename(folder / path.name)
                sent += 1
            if time.monotonic() > due:
                due += every_s
                samples.append((time.monotonic() - start, memory_mb(process), process.num_fds()))
            time.sleep(0.02)
        time.sleep(3)
        watch.send_signal(signal.SIGTERM)
        code = watch.wait(60)
        with open(out / "counts.csv", newline="") as file:
            counted = [row["image"] for row in Rows(file)]
    later = [sample for sample in samples if sample[0] > 60 * minutes * WARM_UP]
    fifth = max(len(later) // 5, 1)
    # Highest, since the mean depends on which steps of the work the looks fall on
    first, last = (max(mb for _, mb, _ in part) for part in (later[:fifth], later[-fifth:]))
    return {
        "minutes": minutes,
        "images": len(counted),
        "images_per_s": round(len(counted) / (60 * minutes), 2),
        "twice": len(counted) - len(set(counted)),
        "exit_code": code,
        "first_mb": round(first, 1),
        "last_mb": round(last, 1),
        "growth": round(last / first - 1, 4),
        "lowest_mb": [round(min(mb for _, mb, _ in part), 1) for part in (later[:fifth], later[-fifth:])],
        "open_files": [later[0][2], later[-1][2]],
        "samples_mb": [round(mb, 1) for _, mb, _ in samples[:: max(len(samples) // 60, 1)]],
    }


def main() -> None:
    """Print what it took; exit with 1 if memory grew or an image was counted twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=2, help="seconds between looks at the memory")
    arguments = parser.parse_args()
    result = soak(arguments.minutes, arguments.every)
    print(json.dumps(result, indent=1))
    sys.exit(result["growth"] > FLAT or result["twice"] > 0 or result["exit_code"] != os.EX_OK)  # type: ignore[operator]


if __name__ == "__main__":
    main()
