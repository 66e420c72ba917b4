"""The card: all that is needed to run a model, inside the model's own file.

``name.tflite`` carries ``cellseg.json`` in a zip appended to the flatbuffer, just as TFLite metadata packs its
associated files: the interpreter ignores it, `zipfile` reads it, and ``unzip -p name.tflite`` shows it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import stat
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellseg_device.errors import ModelError
from cellseg_device.model import faults, fields, gate_card
from cellseg_device.model.fields import Fields
from cellseg_device.model.gate_card import LONGEST_NAME, Gate

CARD_NAME = "cellseg.json"
CARD_FORMAT = 3
MAX_CARD_BYTES = 256 << 10  # 64 times the released models' cards
MAX_MODEL_BYTES = 256 << 20  # the host's largest networks take 117 MB as float32
QUANTIZATIONS = ("int8", "dynamic", "float16", "float32")
QUANTITIES = ("foreground", "distance", "centre", "outline", "presence", "kind")
SCALES = ("logit", "probability")

_KEYS = {"prominence": "rise"}  # fields whose key in the card has another name
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of zipfile that need little memory to read
_MOST_ZIP_BYTES = 2 * MAX_CARD_BYTES
_PROBABILITY = 1e-6, 1 - 1e-6


@dataclass(frozen=True)
class Output:
    """What one output tensor of the graph means.

    Attributes
    ----------
    quantity : str
        ``"foreground"`` (is this pixel in a nucleus), ``"distance"`` (distance to the nucleus's border, 1 at its
        deepest pixel), ``"centre"`` (1 at a nucleus's centre, falling off around it), ``"outline"`` (1 on a nucleus's
        border), ``"presence"`` (is there a nucleus in the image: one number) or ``"kind"`` (of which class is the
        image: a number for each of the gate's classes). The last two are those of classifiers.
    index : int
        Position among the graph's outputs, because converters reorder them and lose their names.
    scale : str
        What the tensor's values are: ``"logit"`` or ``"probability"``.

    Notes
    -----
    A tensor of shape (1, h, w, b²) holds blocks of b × b pixels: the map is (h·b, w·b).
    """

    quantity: str
    index: int
    scale: str


@dataclass(frozen=True)
class Join:
    """When two touching pieces are one cell: if bias + Σ weight · feature is above 0.

    This is a logistic regression, fitted to the contacts in the training images. The features are those of
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
    """How touching cells are separated; chosen on the validation split, with `join` fitted on the training split.

    Attributes
    ----------
    foreground : float
        Probability from which a pixel belongs to a cell.
    prominence : float
        In logits. A peak of the distance or centre map becomes a piece of its own if it rises at least this much above
        the saddle towards a higher peak; in the outline map, a pit if it is at least this deep. The card's key is
        ``rise``.
    min_area_px : int
        Smaller cells are dropped.
    confidence : float
        Cells are dropped if their mean foreground (in logits if the map is) means less than this probability.
    join : Join or None
        Decides which touching pieces are one cell; None to join none.
    """

    foreground: float = 0.5
    prominence: float = 0.7
    min_area_px: int = 16
    confidence: float = 0.5
    join: Join | None = None


@dataclass(frozen=True)
class KnownAnswer:
    """What the model answers for the bundled known field, on a runtime with the arithmetic it was evaluated with.

    Attributes
    ----------
    sha256 : str
        Digest of the int8 maps, in the order of `QUANTITIES`; of a gate, of its answer.
    cells : int
        Number of cells; of a gate, that of the class.
    labels_sha256 : str or None
        Digest of the label image as little-endian uint16; None in older cards.
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
        Pixels along a tile's cut whose output is discarded; a multiple of `stride`.
    low_percentile, high_percentile : float
        Percentiles of the image's histogram that become the ends of the input range.
    separation : Separation
    cell_diameter_px : float
        Median equivalent diameter of the cells it was trained on.
    cell_diameter_um : float or None
    known_answer : KnownAnswer or None
    gate : Gate or None
        Of a classifier that can decide what follows for an image.
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
    gate: Gate | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def output(self, quantity: str) -> Output | None:
        """Return the output that holds `quantity`, or None."""
        return next((o for o in self.outputs if o.quantity == quantity), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the card's values by their keys in the card."""
        values = dataclasses.asdict(self)
        values["separation"] = {_KEYS.get(name, name): value for name, value in values["separation"].items()}
        if self.gate is None:
            del values["gate"]  # so that earlier versions read the card
        return values

    def to_json(self) -> str:
        """Return the card as the text that is packed into the model."""
        return json.dumps({"format": CARD_FORMAT, **self.to_dict()}, indent=2, ensure_ascii=False)


def parse(text: str | bytes) -> Card:
    """Return the card in a card's text.

    Raises
    ------
    ModelError
        If it is too long, is not JSON, is of another format, lacks a field, or has a value out of range.
    """
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    if len(data) > MAX_CARD_BYTES:
        raise _too_long()
    try:
        raw = fields.load_object(text)
    except ValueError as error:
        raise ModelError(f"the model's card is not JSON ({error}): quantize the model again") from None
    if raw.pop("format", None) != CARD_FORMAT:
        raise ModelError(
            f"the model's card does not have format {CARD_FORMAT}: update cellseg-device, or quantize the model again"
        )
    try:
        return _card(Fields(raw, "the card"))
    except ValueError as error:
        raise ModelError(f"the model's card is incomplete or wrong ({error}): quantize the model again") from None


def _card(raw: Fields) -> Card:
    """Return the card in these fields; the limits are far from what any network or microscope has."""
    card = Card(
        name=raw.line("name", LONGEST_NAME),
        quantization=raw.word("quantization", QUANTIZATIONS),
        outputs=_outputs(raw.take("outputs")),
        stride=raw.whole("stride", 1, 256),  # a graph of any size is first run at four times this
        margin=raw.whole("margin", 0, 2048),
        low_percentile=raw.number("low_percentile", 0, 100),
        high_percentile=raw.number("high_percentile", 0, 100),
        cell_diameter_px=raw.number("cell_diameter_px", 1, 10_000),
        separation=_separation(raw.take("separation")),
        cell_diameter_um=raw.number("cell_diameter_um", 1e-3, 1e6) if raw.has("cell_diameter_um") else None,
        known_answer=_known_answer(raw.take("known_answer")) if raw.has("known_answer") else None,
        gate=gate_card.parse(raw.take("gate")) if raw.has("gate") else None,
        provenance=raw.mapping("provenance"),
        metrics=raw.mapping("metrics"),
    )
    raw.end()
    if card.margin % card.stride:
        raise ValueError(f"the margin {card.margin} is not a multiple of the stride {card.stride}")
    if card.low_percentile >= card.high_percentile:
        raise ValueError(f"the percentiles {card.low_percentile:g} and {card.high_percentile:g} are out of order")
    if card.gate is not None:
        gate_card.check(card.gate, {output.quantity for output in card.outputs})
    return card


def _outputs(raw: object) -> tuple[Output, ...]:
    if not isinstance(raw, list):
        raise ValueError("'outputs' is not a list")
    outputs = []
    for item in raw:
        given = Fields(item, "an output")
        outputs.append(
            Output(given.word("quantity", QUANTITIES), given.whole("index", 0, 255), given.word("scale", SCALES))
        )
        given.end()
    quantities = {output.quantity for output in outputs}
    if not {"foreground", "presence", "kind"} & quantities:
        raise ValueError("no foreground output")
    if len(quantities) < len(outputs):
        raise ValueError("two outputs of one quantity")
    return tuple(outputs)


def _separation(raw: object) -> Separation:
    given, usual = Fields(raw, "'separation'"), Separation()
    separation = Separation(
        foreground=given.number("foreground", *_PROBABILITY, usual.foreground),
        prominence=given.number("rise", 1e-6, 1000, usual.prominence),
        min_area_px=given.whole("min_area_px", 0, 1_000_000_000, usual.min_area_px),
        confidence=given.number("confidence", *_PROBABILITY, usual.confidence),
        join=_join(given.take("join")) if given.has("join") else None,
    )
    given.end()
    return separation


def _join(raw: object) -> Join:
    given = Fields(raw, "'join'")
    join = Join(**{weight.name: given.number(weight.name, -1e6, 1e6) for weight in dataclasses.fields(Join)})
    given.end()
    return join


def _known_answer(raw: object) -> KnownAnswer:
    given = Fields(raw, "'known_answer'")
    answer = KnownAnswer(
        given.digest("sha256"),
        given.whole("cells", 0, 65_535),
        given.digest("labels_sha256") if given.has("labels_sha256") else None,
    )
    given.end()
    return answer


def attach(flatbuffer: bytes, card: Card) -> bytes:
    """Return a .tflite file with this card appended, in place of any card it had.

    Parameters
    ----------
    flatbuffer : bytes
        A .tflite file, with or without a card.
    card : Card

    Returns
    -------
    bytes
        The same for the same input.

    Raises
    ------
    ModelError
        If `parse` would refuse the card.
    """
    text = card.to_json()
    parse(text)
    packed = io.BytesIO()
    packed.write(strip(flatbuffer))
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(CARD_NAME, (2020, 1, 1, 0, 0, 0)), text)
    return packed.getvalue()


def strip(data: bytes) -> bytes:
    """Return the flatbuffer of a model file, without the appended zip."""
    try:
        archive, before = _archive(data)
    except Exception:  # noqa: BLE001 - zipfile raises what it likes on damaged bytes
        return data
    first = min((before + info.header_offset for info in archive.infolist()), default=len(data))
    return data[: max(first, 0)]


def read_from(data: bytes) -> Card:
    """Return the card in a model file's bytes.

    Raises
    ------
    ModelError
        If there is none, it is damaged, or `parse` refuses it.
    """
    try:
        archive, _ = _archive(data)
        entry = archive.getinfo(CARD_NAME)
    except Exception:  # noqa: BLE001 - zipfile raises what it likes on damaged bytes
        raise ModelError(
            "the model has no card, or is cut off: copy it again, or make it with 'cellseg-host quantize'"
        ) from None
    if entry.header_offset < 0:  # before the part that is looked into
        raise _too_long()
    if entry.compress_type not in _COMPRESSIONS:
        raise ModelError("the model's card is compressed in a way that is not read: quantize the model again")
    try:
        with archive.open(entry) as file:
            text = file.read(MAX_CARD_BYTES + 1)  # `parse` refuses one that is longer, whatever its entry says
    except Exception as error:  # noqa: BLE001 - as above
        raise ModelError(f"the model's card is damaged ({error}): copy the model again") from None
    return parse(text)


def of_file(path: Path) -> Card:
    """Return the card in a model file.

    Raises
    ------
    ModelError
        If the file cannot be read, or `read_from` refuses the card.
    """
    data = read_model_file(path)
    with faults.as_model_faults(path):
        return read_from(data)


def _too_long() -> ModelError:
    return ModelError(f"the model's card is longer than {MAX_CARD_BYTES // 1024} KiB: quantize the model again")


def _archive(data: bytes) -> tuple[zipfile.ZipFile, int]:
    """Return the zip at the end of a model file, and how many bytes are before the part in which it is looked for.

    zipfile reads a directory of any size into memory, of the size of the file if that is hostile, so it is given no
    more than the end of the file. It corrects the places of the entries for what is before.
    """
    before = max(len(data) - _MOST_ZIP_BYTES, 0)
    return zipfile.ZipFile(io.BytesIO(data[before:])), before


def read_model_file(path: Path) -> bytes:
    """Return the bytes of a model file, which is read only if it is a regular file of at most `MAX_MODEL_BYTES`.

    Raises
    ------
    ModelError
        If it cannot be read or is not a TFLite flatbuffer.
    """
    try:
        # A pipe without a writer would otherwise be waited for when it is opened
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _read(path, descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # the latter for a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{path}: the model cannot be read ({reason}): check its path") from None


def _read(path: Path, descriptor: int) -> bytes:
    info = os.fstat(descriptor)
    if stat.S_ISDIR(info.st_mode):
        raise faults.not_quantized(path) or ModelError(f"{path} is a folder: name a .tflite file in it")
    if not stat.S_ISREG(info.st_mode):
        raise ModelError(f"{path}: the model cannot be read (it is a pipe or device): check its path")
    if info.st_size > MAX_MODEL_BYTES:
        raise ModelError(
            f"{path}: the model cannot be read ({info.st_size / 1e6:,.0f} MB are over the limit of "
            f"{MAX_MODEL_BYTES / 1e6:.0f} MB): check its path"
        )
    if os.pread(descriptor, 8, 0)[4:] != b"TFL3":
        raise faults.not_quantized(path) or ModelError(f"{path} is not a .tflite model: check its path")
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(info.st_size + 1)
    if len(data) != info.st_size:
        raise ModelError(f"{path}: the model changed while it was read: try again when it has been copied")
    return data
