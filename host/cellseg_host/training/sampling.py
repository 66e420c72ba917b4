"""How often the images of each set and modality are drawn in training. TensorFlow is not needed for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import InputError
from cellseg_device.suggestions import unknown
from cellseg_host.data.dataset import Entry


@dataclass(frozen=True)
class Group:
    """The images of one set and modality, which are drawn alike.

    Attributes
    ----------
    set, modality : str
    images : int
    share : float
        Of all draws, between 0 and 1: as its set is given, else it grows with the square root of `images`, so that a
        small group counts.
    """

    set: str
    modality: str
    images: int
    share: float


def groups(entries: Sequence[Entry], shares: Mapping[str, float] = MappingProxyType({})) -> list[Group]:
    """Return the sets and modalities among these images, sorted by their names.

    Parameters
    ----------
    entries : sequence of Entry
    shares : mapping of str to float
        Share of all draws by the name of a set; the other sets share what is left.

    Raises
    ------
    InputError
        If a set is named that is none of them, or the shares leave nothing for the others.
    """
    counts = sorted(Counter((e.set, e.modality) for e in entries).items())
    names = {name for (name, _), _ in counts}
    _check(shares, names)
    weights = {group: count**0.5 for group, count in counts}
    left = 1 - sum(shares.values()) if names - shares.keys() else 0.0
    total = sum(shares.values()) + left
    roots: dict[str, float] = defaultdict(float)  # by set; under "" those that share what is left
    for (name, _), weight in weights.items():
        roots[name if name in shares else ""] += weight

    def share(group: tuple[str, str]) -> float:
        name = group[0] if group[0] in shares else ""
        return float(shares.get(name, left) / total * weights[group] / roots[name])

    return [Group(*group, count, share(group)) for group, count in counts]


def _check(shares: Mapping[str, float], names: set[str]) -> None:
    for name, share in shares.items():
        if name not in names:
            raise InputError(f"--share: there is {unknown('set', name, sorted(names))} with training images")
        if not 0 < share <= 1:
            raise InputError(f"--share {name}={share:g}: is not a share above 0 and up to 1")
    if sum(shares.values()) >= 1 and not names <= shares.keys():
        raise InputError("--share: nothing is left for the other sets: let the shares add up to less than 1")


def sampling_weights(
    entries: Sequence[Entry], shares: Mapping[str, float] = MappingProxyType({})
) -> npt.NDArray[np.float64]:
    """Return the probability of drawing each image, with shares as for `groups`; they add up to 1."""
    chances = {(g.set, g.modality): g.share / g.images for g in groups(entries, shares)}
    return np.array([chances[e.set, e.modality] for e in entries])


def balanced_weights(entries: Sequence[Entry]) -> npt.NDArray[np.float64]:
    """Return the probability of drawing each image where kinds are learnt: the same for each kind in all.

    Within a kind it is as for `sampling_weights`.
    """
    weights = sampling_weights(entries)
    kinds, kind = np.unique([e.kind for e in entries], return_inverse=True)
    return np.asarray(weights / np.bincount(kind, weights)[kind] / len(kinds), np.float64)
