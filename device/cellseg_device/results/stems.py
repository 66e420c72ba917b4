"""What the names of an image's result files may begin with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from cellseg_device.results.image_files import fits


def stems(image: str, *, is_watched: bool) -> Iterator[str]:
    """Yield what the names of an image's result files may begin with, the best first.

    Of ``day/a.png`` these are ``a``, ``day-a``, ``day-a.png``, ``a.png``, ``a-2``, ``a-3`` and so on; in a watched
    folder ``day-a`` and ``day-a.png`` come first. They end only where the next one is too long for a file name.

    Parameters
    ----------
    image : str
        Its name.
    is_watched : bool
        Whether a folder is watched, within which that may be its path.
    """
    path = Path(image)
    parts = path.relative_to(path.anchor).parts
    names = ["-".join(parts[start:]) for start in reversed(range(len(parts)))]
    candidates = [*(Path(name).stem for name in names), *reversed(names)]
    if is_watched and not path.is_absolute():
        candidates = [Path(names[-1]).stem, names[-1], *candidates]
    fitting = [stem for stem in dict.fromkeys(candidates) if fits(stem)]
    yield from fitting
    for number in count(2):
        if not fitting or not fits(stem := f"{fitting[0]}-{number}"):
            return
        yield stem
