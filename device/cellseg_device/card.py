"""The card: what a model needs said to be run, inside the model's own file.

``name.tflite`` carries ``cellseg.json`` in a zip appended to the flatbuffer, as TFLite metadata packs its associated
files: the interpreter ignores it, `zipfile` reads it, and ``unzip -p name.tflite`` shows it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellseg_device.errors import ModelError

CARD_NAME = "cellseg.json"
CARD_FORMAT = 3
QUANTITIES = ("foreground", "distance", "centre", "outline", "presence")
SCALES = ("logit", "probability")

# What zipfile raises on damaged bytes
_NO_ZIP = (zipfile.BadZipFile, ValueError, OSError, EOFError, struct.error, NotImplementedError)
_DAMAGED_ENTRY = (*_NO_ZIP, RuntimeError, zlib.error)


@dataclass(frozen=True)
class Output:
    """What one output tensor of the graph means.

    Attributes
    ----------
    quantity : str
        ``"foreground"`` (is this pixel in a nucleus), ``"distance"`` (distance to the nucleus's border, 1 at its
        deepest pixel), ``"centre"`` (1 at a nucleus's centre, falling off around it), ``"outline"`` (1 on a nucleus's
        border) or ``"presence"`` (is there a nucleus in the image: one number, which only the host judges).
    index : int
        Position among the graph's outputs; converters permute them and lose their names.
    scale : str
        ``"logit"`` or ``"probability"``: what the tensor's values are.

    Notes
    -----
    A tensor of shape (1, h, w, b²) holds blocks of b × b pixels: the map is (h·b, w·b).
    """

    quantity: str
    index: int
    scale: str


@dataclass(frozen=True)
class Join:
    """When two touching pieces are one cell: where bias + Σ weight · feature is above 0.

    A logistic regression, fitted to the contacts of the training images. The features are those of
    `contacts.Contacts`, with maps in logits and lengths in pixels of the distance map.

    Attributes
    ----------
    bias : float
    depth, foreground, width, median, whole : float
        Weight of each feature.
    """

    bias: float
    depth: float
    foreground: float
    width: float
    median: float
    whole: float


@dataclass(frozen=True)
class Separation:
    """How cells are told apart; chosen on the validation split, `join` fitted on the training split.

    Attributes
    ----------
    foreground : float
        Probability from which a pixel belongs to a cell.
    rise : float
        A peak of the distance or centre map is a piece of its own if it rises so far above the saddle towards a
        higher one, in logits; of the outline map, a pit that is so deep.
    min_area_px : int
        Smaller cells are dropped.
    confidence : float
        So are cells whose mean foreground, in logits if the map is, stands for less than this probability.
    join : Join or None
        Which touching pieces are one cell; None for none.
    """

    foreground: float = 0.5
    rise: float = 0.7
    min_area_px: int = 16
    confidence: float = 0.5
    join: Join | None = None


@dataclass(frozen=True)
class KnownAnswer:
    """What the model answers on the bundled known field, on a runtime with the arithmetic it was evaluated with.

    Attributes
    ----------
    sha256 : str
        Of the int8 maps, in the order of `QUANTITIES`.
    cells : int
    labels_sha256 : str or None
        Of the label image, as little-endian uint16; None in older cards.
    """

    sha256: str
    cells: int
    labels_sha256: str | None = None


@dataclass(frozen=True)
class Card:
    """Everything needed to run a model, and where it came from.

    Attributes
    ----------
    name : str
    quantization : str
        ``"int8"``, ``"dynamic"``, ``"float16"`` or ``"float32"``.
    outputs : tuple of Output
    stride : int
        Largest stride in the network; tiles start and end at its multiples.
    margin : int
        Pixels along a cut whose answer is not used; a multiple of `stride`.
    low_percentile, high_percentile : float
        Percentiles of the image's histogram that become the ends of the input range.
    separation : Separation
    cell_diameter_px : float
        Median equivalent diameter of the cells it was trained on.
    cell_diameter_um : float or None
    known_answer : KnownAnswer or None
    provenance : dict
        Data, split, seed, architecture, code version, commands.
    metrics : dict
        Accuracy of the float and the quantized model, with the split it was measured on.
    """

    name: str
    quantization: str
    outputs: tuple[Output, ...]
    stride: int
    margin: int
    low_percentile: float
    high_percentile: float
    cell_diameter_px: float
    separation: Separation = Separation()
    cell_diameter_um: float | None = None
    known_answer: KnownAnswer | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def output(self, quantity: str) -> Output | None:
        """The output that holds `quantity`, or None."""
        return next((o for o in self.outputs if o.quantity == quantity), None)

    def to_json(self) -> str:
        """The card as the text that is packed into the model."""
        return json.dumps({"format": CARD_FORMAT, **dataclasses.asdict(self)}, indent=2, ensure_ascii=False)


def parse(text: str | bytes) -> Card:
    """Read a card's text.

    Raises
    ------
    ModelError
        If it is not JSON, of a newer format, lacks a field, or a value is out of range.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ModelError(f"the model's card is not JSON ({error}): quantize the model again") from None
    if not isinstance(raw, dict) or raw.pop("format", None) != CARD_FORMAT:
        raise ModelError(
            f"the model's card is not of format {CARD_FORMAT}: update cellseg-device, or quantize the model again"
        )
    try:
        answer = raw.pop("known_answer", None)
        card = Card(
            outputs=tuple(Output(**o) for o in raw.pop("outputs")),
            separation=_separation(**raw.pop("separation")),
            known_answer=KnownAnswer(**answer) if answer else None,
            **raw,
        )
        _check(card)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the model's card is incomplete or wrong ({error}): quantize the model again") from None
    return card


def _separation(join: dict[str, float] | None = None, **others: Any) -> Separation:
    return Separation(join=Join(**join) if join else None, **others)


def _check(card: Card) -> None:
    """Raise ValueError with the first thing that does not hold."""

    def need(condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(what)

    need(bool({"foreground", "presence"} & {o.quantity for o in card.outputs}), "no foreground output")
    for output in card.outputs:
        need(output.quantity in QUANTITIES, f"unknown quantity {output.quantity!r}")
        need(output.scale in SCALES, f"unknown scale {output.scale!r}")
        need(isinstance(output.index, int), "an output's index is not a whole number")
    need(len({o.quantity for o in card.outputs}) == len(card.outputs), "two outputs of one quantity")
    whole = (card.stride, card.margin, card.separation.min_area_px)
    need(all(isinstance(n, int) for n in whole), "stride, margin or smallest area is not a whole number")
    need(card.stride >= 1, "stride below 1")
    need(card.margin >= 0 and card.margin % card.stride == 0, "margin is not a multiple of the stride")
    need(0 <= card.low_percentile < card.high_percentile <= 100, "percentiles out of order")
    need(0 < card.separation.foreground < 1, "threshold not between 0 and 1")
    need(0 < card.separation.rise < math.inf, "rise not positive")
    need(0 < card.separation.confidence < 1, "confidence not between 0 and 1")
    weights = dataclasses.astuple(card.separation.join) if card.separation.join else ()
    need(all(isinstance(w, (int, float)) and math.isfinite(w) for w in weights), "a weight of the join is no number")
    need(math.isfinite(card.cell_diameter_px) and card.cell_diameter_px > 0, "cell diameter not positive")


def attach(flatbuffer: bytes, card: Card) -> bytes:
    """Append the card to a .tflite flatbuffer, replacing one that is there.

    Parameters
    ----------
    flatbuffer : bytes
        A .tflite file, with or without a card.
    card : Card

    Returns
    -------
    bytes
        The file to write; the same input gives the same bytes.
    """
    packed = io.BytesIO()
    packed.write(strip(flatbuffer))
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(CARD_NAME, (2020, 1, 1, 0, 0, 0)), card.to_json())
    return packed.getvalue()


def strip(data: bytes) -> bytes:
    """The flatbuffer alone, without the appended zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return data[: min((info.header_offset for info in archive.infolist()), default=len(data))]
    except _NO_ZIP:
        return data


def read_from(data: bytes) -> Card:
    """Read the card in a model file's bytes.

    Raises
    ------
    ModelError
        If there is none, it is damaged, or `parse` refuses it.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entry = archive.getinfo(CARD_NAME)
    except (*_NO_ZIP, KeyError):
        raise ModelError(
            "the model has no card, or is cut off: copy it again, or make it with 'cellseg-host quantize'"
        ) from None
    try:
        text = archive.read(entry)
    except _DAMAGED_ENTRY as error:
        raise ModelError(f"the model's card is damaged ({error}): copy the model again") from None
    return parse(text)


def read_model_file(path: Path) -> bytes:
    """Read a model file whole.

    Raises
    ------
    ModelError
        If it cannot be read or is not a TFLite flatbuffer.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be read ({error.strerror}): check its path") from None
    if data[4:8] != b"TFL3":
        raise ModelError(f"{path}: is not a .tflite model: check its path")
    return data
