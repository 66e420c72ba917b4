"""A short soak: after hundreds of images, damaged ones among them, a watch at rest holds what it held before.

``benchmarks/soak.py`` is the long one.
"""

import time

import cv2
import psutil
import pytest

IMAGES = 80  # a round


def held(pid):
    """Memory in MB of the watch itself, open files, threads, and processes below it: each starts anew in time."""
    process = psutil.Process(pid)
    return process.memory_info().rss / 1e6, process.num_fds(), process.num_threads(), len(process.children()) == 1


@pytest.mark.slow
def test_memory_files_and_threads_stay_as_they_are(watching, tmp_path, draw_blobs):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    field = draw_blobs(400, 520, count=120)
    data = [cv2.imencode(suffix, field)[1].tobytes() for suffix in (".png", ".jpg", ".tif")]
    watch = watching(images, "--out", out, "--overlay", "--settle", "0", "--poll", "0.1")
    found = []
    for round_number in range(5):
        for number in range(IMAGES):
            kind = number % 3
            name = f"{round_number}-{number}{('.png', '.jpg', '.tif')[kind]}"
            (tmp_path / name).write_bytes(data[kind] if number % 10 else data[kind][:900])
            (tmp_path / name).rename(images / name)
        done = (round_number + 1) * IMAGES
        watch.until(lambda done=done: watch.stdout.count("\n") + watch.stderr.count("error: ") >= done, 60)
        time.sleep(0.5)
        found.append(held(watch.process.pid))
    assert watch.stop() == 0
    print([round(mb, 1) for mb, *_ in found])
    _, first, *_, last = found  # the first round warms it up
    assert last[0] < 1.05 * first[0]
    assert last[1:] == first[1:]
