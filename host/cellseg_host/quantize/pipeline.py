"""From a trained run to the .tflite that the device runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tf_keras as keras

from cellseg_device.errors import InputError, OutputError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card, Join, Output
from cellseg_device.model.graph import Operator, operators
from cellseg_device.pipeline.predict import Maps, predict_maps
from cellseg_device.suggestions import unknown
from cellseg_device.system import files
from cellseg_host.architectures import for_inference, outputs_of
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluation.evaluate import ImageScore, Summary
from cellseg_host.quantize import calibrate, finetune, qat, size
from cellseg_host.quantize.calibrate import Calibration
from cellseg_host.quantize.convert import convert
from cellseg_host.quantize.errors import QuantizationError
from cellseg_host.quantize.fold import folded
from cellseg_host.quantize.scored import SPLIT, Scored, open_model, score
from cellseg_host.quantize.separation import KNOWN_IMAGES, Fixed, tune
from cellseg_host.quantize.with_card import open_graph, with_card
from cellseg_host.training import feed
from cellseg_host.training.runs import Run

Tile = tuple[int, int]
Classes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Quantized:
    """A model file and its accuracy beside the float network's, on the validation split.

    Attributes
    ----------
    card : Card
    before : Scored
        The float network, as a model file.
    after : Scored
        The quantized one, with `card`.
    twin : bytes
        The float32 .tflite of the weights that were quantized: after fine-tuning not those of `before`.
    """

    card: Card
    before: Scored
    after: Scored
    twin: bytes

    @property
    def data(self) -> bytes:
        """The .tflite with its card."""
        return self.after.data

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators of the quantized graph."""
        return self.after.operators

    @property
    def scored(self) -> dict[str, Scored]:
        """Both models by mode; only one if the mode is float32."""
        return {"float32": self.before, self.card.quantization: self.after}

    @property
    def float_size(self) -> int:
        """Bytes of the float model."""
        return len(self.before.data)

    @property
    def float_scores(self) -> tuple[ImageScore, ...]:
        """The float network's scores, one per validation image."""
        return self.before.scores

    @property
    def scores(self) -> tuple[ImageScore, ...]:
        """The quantized network's scores, in the same order."""
        return self.after.scores

    @property
    def float_summary(self) -> Summary:
        """The float network's summary."""
        return self.before.summary

    @property
    def summary(self) -> Summary:
        """The quantized network's summary."""
        return self.after.summary

    @property
    def worst(self) -> tuple[ImageScore, ImageScore]:
        """(float, quantized) scores of the image that lost most mean AP."""
        pairs = zip(self.float_scores, self.scores, strict=True)
        return max(pairs, key=lambda pair: pair[0].mean_ap - pair[1].mean_ap)


@dataclass(frozen=True)
class _Source:
    """A network to convert, and its card."""

    network: keras.Model
    outputs: Sequence[Output]
    card: Card

    def model(self, mode: str, tile: Tile | None, images: calibrate.Images | None = None) -> bytes:
        card = dataclasses.replace(self.card, quantization=mode)
        return with_card(self.network, self.outputs, card, convert(self.network, mode, tile, images))


def quantize(
    run: Run,
    dataset: Dataset,
    mode: str = "int8",
    tile: Tile | None = None,
    calibration: Calibration = calibrate.DEFAULT,
    *,
    name: str | None = None,
    depth: int | None = None,
    tuned: bool = False,
    like: Card | None = None,
    classes: Classes = MappingProxyType({}),
    sure_from: float = 0.0,
    fixed: Fixed = MappingProxyType({}),
    say: Callable[[str], None] = lambda _: None,
) -> Quantized:
    """Convert a run's best network, attach its card, and compare it with the float network.

    Parameters
    ----------
    run : Run
    dataset : Dataset
        On its train split the ranges of int8 activations are calibrated and it is learnt which touching pieces are one
        cell; on its val split the thresholds are chosen (for each network by its own maps) and both are scored.
    mode : str
        One of `convert.MODES`.
    tile : (height, width) or None
        Static input size; None leaves it free, so that the device takes a whole field at once.
    calibration : Calibration
        How the ranges of activations are found, for ``"int8"``.
    name : str or None
        The model's name in its card; None for the architecture's.
    depth : int or None
        Which outputs of a deeply supervised network to use, from 1, the shallowest; None for the deepest.
    tuned : bool
        Convert the run's network after `finetune.finetune`; for ``"int8"``.
    classes : mapping
        Of a classifier, by the name of a class: fields of its `GateClass` that differ from the usual.
    sure_from : float
        Of a classifier: see `Gate`.
    fixed : mapping of str to float
        Thresholds that are not chosen, by their names in a `Separation`.
    like : Card or None
        Of a model of the same network, whose thresholds are used: none are chosen for this one.
    say : callable
        Called with what is being done.

    Raises
    ------
    QuantizationError
        If an int8 model still has a float operator, or the converted network's outputs differ from the float one's.
    InputError
        If the tile does not fit the network, `like` is of another network, or a split has no image.
    """
    _check_tile(run, tile)
    card = _with_gate(run.card(), tile, classes, sure_from)
    images = calibrate.images(dataset, card, calibration.images, tile)
    scored = feed.entries(dataset, SPLIT, run.heads)
    before = _float_source(run, card, name, depth)
    if like is not None and [o.quantity for o in like.outputs] != [o.quantity for o in before.outputs]:
        raise InputError(f"--like: {like.name} predicts other maps than this run: choose a model made from it")
    say("converting")
    float_data = before.model("float32", tile)
    twin, source = float_data, before
    provenance = {"mode": mode, **(dataclasses.asdict(calibration) if mode == "int8" else {})}
    if tuned:
        made = finetune.load(run, before.network)
        twin = dataclasses.replace(before, network=made.twin).model("float32", tile)
        provenance = {"mode": mode, **made.provenance}
        source = dataclasses.replace(before, network=made.network)
    elif mode == "int8" and calibration.percentile is not None:
        plain = folded(qat.accepted(before.network))
        found = calibrate.ranges(plain, qat.ranged(plain), images, calibration.percentile)
        source = dataclasses.replace(before, network=qat.annotated(plain, found))
    data = source.model(mode, tile, images if source is before else None)
    if mode == "int8":
        _check_full_int8(data)
    if like is None:
        say("choosing the float network's thresholds on the validation split")
        float_data = _tuned(float_data, dataset, run.start_join, fixed)
        say(f"choosing the {mode} network's thresholds")
        data = _tuned(data, dataset, run.start_join, fixed)
        say("looking for the largest cells that it copes with")
        data = _sized(data, dataset)
    else:
        float_data, data = _like(float_data, like), _like(data, like)
    say("scoring the float network")
    first = score(float_data, dataset)
    say(f"scoring the {mode} network")
    second = score(data, dataset)
    card = cards.read_from(data)
    card = dataclasses.replace(
        card,
        known_answer=second.known_answer,
        metrics={
            "split": f"{SPLIT} of {dataset.root.resolve().name} ({len(scored)} images)",
            "float32": _rounded(first),
            mode: _rounded(second),
        },
        provenance={**card.provenance, "quantization": provenance},
    )
    return Quantized(card, first, dataclasses.replace(second, data=cards.attach(data, card)), twin)


def float_model(run: Run, dataset: Dataset, *, name: str | None = None, depth: int | None = None) -> bytes:
    """Return the float32 .tflite of a run's best network, with its card and thresholds chosen on the val split."""
    data = _float_source(run, run.card(), name, depth).model("float32", None)
    return _tuned(data, dataset, run.start_join)


def int8_model(
    run: Run,
    dataset: Dataset,
    tuning: Dataset,
    *,
    name: str,
    diameter_px: float,
    fixed: Fixed = MappingProxyType({}),
) -> bytes:
    """Return the int8 .tflite of a run's best network, with its card but without scores.

    Parameters
    ----------
    run : Run
    dataset : Dataset
        On its train split the ranges of activations are calibrated.
    tuning : Dataset
        On its train split the join is learnt, on its val split the thresholds are chosen.
    name : str
        The model's name in its card.
    diameter_px : float
        Diameter of the cells that it is for, see `size`.
    fixed : mapping
        Fields of a `Separation` that are not chosen.

    Raises
    ------
    QuantizationError
        As from `quantize`.
    """
    card = dataclasses.replace(run.card(), cell_diameter_px=diameter_px)
    source = _float_source(run, card, name, None)
    images = calibrate.images(dataset, card, calibrate.DEFAULT.images)
    data = source.model("int8", None, images)
    _check_full_int8(data)
    return _tuned(data, tuning, run.start_join, fixed)


def write(quantized: Quantized, path: Path) -> None:
    """Write the model file; an older one of that name stays until the new one is complete.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, quantized.data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another --out") from None


def _float_source(run: Run, card: Card, name: str | None, depth: int | None) -> _Source:
    network = for_inference(run.network, run.heads, depth)
    if len(network.inputs) != 1 or network.input_shape[-1] != 3:
        raise QuantizationError(f"the network takes {network.input_shape}, not one image of 3 channels")
    outputs = outputs_of(network, run.heads)
    card = dataclasses.replace(card, name=name or card.name, outputs=outputs)
    return _Source(network, outputs, card)


def _tuned(data: bytes, dataset: Dataset, usual: Join | None, fixed: Fixed = MappingProxyType({})) -> bytes:
    """Return the model with thresholds chosen on the val split, for its own maps, and the join learnt on train.

    Where that has too few contacts, the join is the `usual` one.
    """
    card = cards.read_from(data)
    if card.output("foreground") is None:
        return data
    with open_model(data) as model:

        def predicted(entries: Sequence[Entry]) -> list[tuple[Maps, Any]]:
            return [(predict_maps(dataset.image(entry), model), dataset.labels(entry)) for entry in entries]

        known = dataset.labelled("train")
        known = known[:: -(-len(known) // KNOWN_IMAGES)]
        separation = tune(predicted(known), predicted(dataset.labelled(SPLIT)), model.maps, usual=usual, fixed=fixed)
    return cards.attach(data, dataclasses.replace(card, separation=separation))


def _like(data: bytes, like: Card) -> bytes:
    """Return the model with the thresholds, and the size of cells, of another one of the same network."""
    card = cards.read_from(data)
    card = dataclasses.replace(card, separation=like.separation, cell_diameter_px=like.cell_diameter_px)
    return cards.attach(data, card)


def _sized(data: bytes, dataset: Dataset) -> bytes:
    """Return the model with the size of cells that it copes with in its card, by the val split."""
    card = cards.read_from(data)
    if card.output("foreground") is None:
        return data
    with open_model(data) as model:
        diameter_px = size.cell_diameter_px(model, dataset, dataset.labelled(SPLIT))
    return cards.attach(data, dataclasses.replace(card, cell_diameter_px=diameter_px))


def _check_tile(run: Run, tile: Tile | None) -> None:
    arch = run.architecture
    if tile and (any(t % arch.stride for t in tile) or min(tile) <= 2 * arch.margin):
        raise InputError(f"--tile must be a multiple of {arch.stride} and larger than {2 * arch.margin}")


def _with_gate(card: Card, tile: Tile | None, classes: Classes, sure_from: float) -> Card:
    """Return a card whose gate has these changes of its classes, and sees squares of the tile."""
    gate = card.gate
    if gate is None:
        if classes or sure_from:
            raise InputError("--follow, --looks-like and --sure-from are for classifiers: leave them out")
        return card
    if tile and gate.sees == "field":
        raise InputError("--tile: a classifier of kinds sees fields of any shape: leave it out")
    known = [found.name for found in gate.classes]
    for name in classes:
        if name not in known:
            raise InputError(f"--follow or --looks-like: there is {unknown('class', name, known)}")
    return dataclasses.replace(
        card,
        gate=dataclasses.replace(
            gate,
            classes=tuple(dataclasses.replace(found, **classes.get(found.name, {})) for found in gate.classes),
            sure_from=sure_from,
            side_px=tile[0] if tile else gate.side_px,
        ),
    )


def _check_full_int8(data: bytes) -> None:
    floats = [o for o in operators(open_graph(data)) if "float" in " ".join(o.dtypes)]
    if floats:
        raise QuantizationError(
            f"not full int8: {floats[0].name} works on {', '.join(floats[0].dtypes)} "
            f"({len(floats)} such operators): use --dynamic, or change the network"
        )


def _rounded(scored: Scored) -> dict[str, Any]:
    in_card = {"cells_counted": "cells_predicted"}  # what cards have always called it
    return {in_card.get(k, k): round(v, 4) if isinstance(v, float) else v for k, v in scored.metrics.items()}
