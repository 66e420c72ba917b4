"""Which images are scored together: all, those of each modality, and those of each set if there are several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Grouped(Protocol):
    """What knows where its image is from: an entry of a dataset, a score."""

    @property
    def set(self) -> str:
        """The collection that the image is from."""

    @property
    def modality(self) -> str:
        """The modality of the image."""


def groups(images: Sequence[Grouped]) -> dict[str, list[int]]:
    """Return the places of the members of each group, by its title.

    The groups are ``all``, each ``MODALITY``; where there are several sets, each ``SET``; and where such a set has
    several modalities, each ``SET, MODALITY``. A set with the name of a group before it is called ``NAME (set)``.
    """
    everything = list(range(len(images)))
    found = {"all": everything} | _by_modality(images, everything)
    names = sorted({image.set for image in images})
    for name in names if len(names) > 1 else ():
        members = [place for place in everything if images[place].set == name]
        title = f"{name} (set)" if name in found else name
        found[title] = members
        if len(parts := _by_modality(images, members)) > 1:
            found |= {f"{title}, {modality}": part for modality, part in parts.items()}
    return found


def _by_modality(images: Sequence[Grouped], places: Sequence[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place in sorted(places, key=lambda place: images[place].modality):
        found.setdefault(images[place].modality, []).append(place)
    return found
