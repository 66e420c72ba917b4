"""What is compared: model files, and training runs, each converted to a float32 model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from cellseg_device.errors import InputError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card
from cellseg_device.model.faults import as_model_faults
from cellseg_host.data.dataset import Dataset
from cellseg_host.report.cost import Cost, cost
from cellseg_host.training import history
from cellseg_host.training.history import Epoch

# From the most precise to the least
PRECISION = ("float32", "float16", "dynamic", "int8")


@dataclass(frozen=True)
class Contender:
    """A model that is compared.

    Attributes
    ----------
    name : str
        Differs from the others' names.
    path : Path
        As the user gave it.
    file : Path
        The .tflite: `path` itself, or the one that the run was converted to.
    card : Card
    size_bytes : int
        Of the file.
    cost : Cost
    epochs : tuple of Epoch
        The training of a run; empty for a model file.
    """

    name: str
    path: Path
    file: Path
    card: Card
    size_bytes: int
    cost: Cost
    epochs: tuple[Epoch, ...] = ()

    @property
    def is_classifier(self) -> bool:
        """Whether it classifies images as a whole."""
        return self.card.output("presence") is not None

    def row(self) -> dict[str, Any]:
        """Return a flat row for a table."""
        return {
            "model": self.name,
            "path": str(self.path),
            "quantization": self.card.quantization,
            "size_bytes": self.size_bytes,
            "parameters": self.cost.parameters,
            "macs_per_px": round(self.cost.macs_per_px, 1),
        }


def open_all(
    paths: Sequence[Path], dataset: Dataset, folder: Path, say: Callable[[str], None] = lambda _: None
) -> tuple[Contender, ...]:
    """Open model files and training runs.

    Parameters
    ----------
    paths : sequence of Path
        .tflite files, or folders of runs.
    dataset : Dataset
        Its val split chooses the thresholds of runs.
    folder : Path
        Takes the models that runs are converted to.
    say : callable
        Called with what is being done.

    Raises
    ------
    InputError
        If a model is listed twice, a run is not finished, or classifiers and segmenters are mixed.
    ModelError
        If a file is no model with a card.
    """
    places = [(p.parent if p.name == "model.keras" else p).resolve() for p in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{path}: is listed twice: name each model once")
    opened: dict[int, Contender] = {}
    unique = names(places)
    # Files first, so that an error in one shows before a run is converted, which takes a while
    for index in sorted(range(len(paths)), key=lambda i: _is_run(paths[i])):
        path = file = paths[index]
        epochs: tuple[Epoch, ...] = ()
        if _is_run(path):
            say(f"converting {path}")
            file = folder / f"{index}.tflite"
            epochs = _convert(path, dataset, file)
        data = cards.read_model_file(file)
        with as_model_faults(path):
            card, spent = cards.read_from(data), cost(data)
        opened[index] = Contender(unique[index], path, file, card, len(data), spent, epochs)
        _refuse_mixture(list(opened.values()))
    return tuple(opened[index] for index in range(len(paths)))


def names(places: Sequence[Path]) -> list[str]:
    """Return the shortest names that differ: a file's without its ending, else with it, else with its folders.

    Parameters
    ----------
    places : sequence of Path
        Absolute, all different.
    """
    found = [p.name.removesuffix(".tflite") for p in places]
    for depth in count(1):
        times = Counter(found)
        if len(times) == len(found):
            break
        found = [
            name if times[name] == 1 else "/".join(place.parts[-depth:])
            for name, place in zip(found, places, strict=True)
        ]
    return found


def conversions(contenders: Sequence[Contender]) -> list[tuple[int, int]]:
    """Return the pairs of contenders that are one trained network in two precisions: (the most precise, another).

    They are given by index. Two models are of one network when their cards name the same training settings and data,
    and the same runs if it is a mean of several.
    """
    families: dict[str, list[int]] = {}
    for index, contender in enumerate(contenders):
        training = {k: contender.card.provenance.get(k) for k in ("settings", "data", "average")}
        if training["settings"] and training["data"] and contender.card.quantization in PRECISION:
            families.setdefault(json.dumps(training, sort_keys=True), []).append(index)

    def rank(index: int) -> int:
        return PRECISION.index(contenders[index].card.quantization)

    pairs = []
    for family in families.values():
        first, *others = sorted(family, key=rank)
        pairs += [(first, other) for other in others if rank(other) > rank(first)]
    return pairs


def _is_run(path: Path) -> bool:
    return path.is_dir() or path.name == "model.keras"


def _convert(path: Path, dataset: Dataset, file: Path) -> tuple[Epoch, ...]:
    """Write the float32 model of a run, and return its training."""
    from cellseg_host.tensorflow_quietly import import_tensorflow

    import_tensorflow()
    from cellseg_host.quantize import float_model
    from cellseg_host.training.runs import open_run

    run = open_run(path)
    file.write_bytes(float_model(run, dataset))
    return tuple(history.read(run.path))


def _refuse_mixture(opened: Sequence[Contender]) -> None:
    for contender in opened:
        if contender.card.output("kind") is not None:
            raise InputError(
                f"{contender.path} tells kinds of samples apart, which is not compared: score it with 'cellseg-host "
                "evaluate'"
            )
    kinds = {c.is_classifier: c for c in opened}
    if len(kinds) > 1:
        raise InputError(
            f"{kinds[True].path} classifies whole images, {kinds[False].path} draws cells: compare one kind at a time"
        )
