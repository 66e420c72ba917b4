"""A model ready to run: interpreter and card, checked against each other."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import AcceleratorError, ModelError
from cellseg_device.model import card as cards
from cellseg_device.model import trial
from cellseg_device.model.card import Card, Output
from cellseg_device.model.faults import as_model_faults, first_line
from cellseg_device.model.graph import is_for_edgetpu
from cellseg_device.stderr import quiet_stderr

try:
    from ai_edge_litert.interpreter import Interpreter

    RUNTIME = f"ai-edge-litert {metadata.version('ai-edge-litert')}"
except ImportError:  # 32-bit ARM: no wheel of the successor
    from tflite_runtime.interpreter import Interpreter

    RUNTIME = f"tflite-runtime {metadata.version('tflite-runtime')}"

_T = TypeVar("_T")

# Float outputs are converted to int8 with these steps, so that everything after the network is the same for all models
_FLOAT_STEP = {"logit": 1 / 16, "probability": 1 / 255}
_FLOAT_ZERO = {"logit": 0, "probability": -128}
# Far from what a network for a small computer has: float32 with 160 channels over tiles of 1024 × 1024 px takes 0.7 GB
_MOST_TENSOR_BYTES = 1 << 30
_MOST_TILE_PX = 4096 * 4096
NO_MAPS = "only says what an image shows, not where: counting needs a model with maps; this one is for --gate"
_HELD = 0.4  # of the memory for its largest input, what the runtime holds at least (benchmarks/memory.py)


def bundled_path(name: str = "nuclei") -> Path:
    """Return the path of a released model inside the package."""
    return Path(str(resources.files("cellseg_device") / "data" / f"{name}.tflite"))


@dataclass(frozen=True)
class MapSpec:
    """One output tensor as a map of int8.

    Attributes
    ----------
    output : Output
    block : int
        The tensor's channels are block² pixels of the map.
    reduction : int
        Input pixels per map pixel along an axis.
    step, zero : float, int
        value = step · (int8 − zero), as logit or probability.
    """

    output: Output
    block: int
    reduction: int
    step: float
    zero: int

    def threshold(self, probability: float) -> int:
        """Return the smallest int8 value that means at least this probability; 128 if none does."""
        value = math.log(probability / (1 - probability)) if self.output.scale == "logit" else probability
        return min(max(math.ceil(value / self.step + self.zero), -128), 128)

    def prominence(self, logits: float) -> int:
        """Return a difference in logits as one in int8 values, 1 to 255.

        Of a map of probabilities, it is the difference where these are steepest.
        """
        value = logits if self.output.scale == "logit" else logits / 4
        return min(max(round(value / self.step), 1), 255)


def float_to_int8(values: npt.NDArray[np.float32], scale: str) -> npt.NDArray[np.int8]:
    """Return the float output of a network as int8, with a fixed step for each scale."""
    steps = np.rint(values * (1 / _FLOAT_STEP[scale])) + _FLOAT_ZERO[scale]
    clipped: npt.NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
    return clipped


def map_spec(
    output: Output, shape: tuple[int, ...], size: tuple[int, int], quantization: tuple[float, int] | None
) -> MapSpec:
    """Return how a tensor of this shape is a map of an input of this size.

    Parameters
    ----------
    output : Output
    shape : tuple of int
        (1, h, w, block²).
    size : tuple of int
        (height, width) of the input.
    quantization : (float, int) or None
        Step and zero point of an int8 tensor, None for a float one.

    Raises
    ------
    ModelError
        If it is not a map of such an input.
    """
    if len(shape) != 4 or shape[0] != 1:
        found = "×".join(str(n) for n in shape)
        raise ModelError(f"output {output.index} has the shape ({found}) and so is not a {output.quantity} map")
    _, rows, cols, channels = (int(n) for n in shape)
    block = math.isqrt(channels)
    reduction = size[0] // (rows * block) if rows * block else 0
    if block * block != channels or (rows * block * reduction, cols * block * reduction) != size:
        raise ModelError(
            f"output {output.index} has the shape {rows}×{cols}×{channels} and so is not a {output.quantity} map "
            f"of a {size[0]}×{size[1]} input"
        )
    step, zero = quantization or (_FLOAT_STEP[output.scale], _FLOAT_ZERO[output.scale])
    if not 1e-6 <= step <= 1e6 or not -128 <= zero <= 127:
        raise ModelError(f"output {output.index} is scaled by {step:g}, {zero}, which int8 maps are not")
    return MapSpec(output, block, reduction, float(step), int(zero))


class Network:
    """A graph with its card, ready to run: what `Model` and `classifier.Classifier` have in common.

    Parameters
    ----------
    path : Path
    threads : int
        Threads that one run of the network uses.
    delegate : Delegate or None
        For a graph that was compiled for an Edge TPU, the runtime's delegate for one.
    data : bytes or None
        What is in the file, without a trial in another process; None to read and to try it. A graph with a delegate is
        not tried, because an Edge TPU has one user.

    Attributes
    ----------
    tile : (int, int) or None
        (height, width) of the input; None for a graph that takes any size.

    Raises
    ------
    ModelError
        If the file cannot be read, has no card, its card does not fit the graph, or the graph cannot be run here.
    """

    def __init__(self, path: Path, threads: int = 1, delegate: Any = None, *, data: bytes | None = None) -> None:
        self.path = path
        self.threads = threads
        self.accelerator = "cpu" if delegate is None else "edgetpu"
        is_tried = data is not None or delegate is not None
        if data is None:
            data = cards.read_model_file(path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.files = {path: self.sha256}
        self.file_bytes = len(data)
        with as_model_faults(path):
            self.card: Card = cards.read_from(data)
            self._check_card()
            flatbuffer = cards.strip(data)
            if delegate is None and is_for_edgetpu(flatbuffer):
                raise ModelError(
                    "is compiled for an Edge TPU and runs nowhere else: name the model it was compiled from"
                )
        if not is_tried:
            trial.check(path, data, flatbuffer)
        with as_model_faults(path):
            self.interpreter = _interpreter(flatbuffer, threads, delegate)
            self._input = _input_detail(self.interpreter)
            signature = self._input["shape_signature"]
            self.tile: tuple[int, int] | None = None if -1 in signature[1:3] else (int(signature[1]), int(signature[2]))
            self._shape = self.tile
            self._largest_px = 0
            if self.tile is None:
                # The runtime knows the output shapes of such a graph only after a run
                self.run_blank(self.card.stride * 4, self.card.stride * 4)
            self._check_fit()

    def _check_card(self) -> None:
        """Raise ModelError for a card of another kind of network."""
        raise NotImplementedError

    def _check_fit(self) -> None:
        """Raise ModelError where the graph does not fit the card."""
        raise NotImplementedError

    @property
    def input_dtype(self) -> type:
        """Type of the input tensor: int8 or float32."""
        return self._input["dtype"]  # type: ignore[no-any-return]

    def resize(self, height: int, width: int) -> None:
        """Prepare for inputs of this size; costs nothing if the size is the same as before."""
        if self._shape == (height, width):
            return
        try:
            self.interpreter.resize_tensor_input(self._input["index"], (1, height, width, 3), strict=True)
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ModelError(f"cannot run at {width}×{height} pixels ({first_line(error)})") from None
        self._shape = (height, width)
        self._largest_px = max(self._largest_px, height * width)

    @property
    def held_px(self) -> float:
        """Pixels of an input for which the runtime holds the memory: after a smaller one than before, part of that."""
        height, width = self._shape or (0, 0)
        return max(height * width, _HELD * self._largest_px)

    def input_table(self, levels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the level table in the input tensor's own values: int8 = level − 128, or float = level / 255."""
        if self.input_dtype is np.int8:
            return (levels ^ 0x80).view(np.int8)
        return levels.astype(np.float32) / np.float32(255)

    def input_view(self) -> npt.NDArray[Any]:
        """Return a writable view of the input tensor, (height, width, 3); drop it before calling `invoke`."""
        view: npt.NDArray[Any] = self.interpreter.tensor(self._input["index"])()[0]
        return view

    def invoke(self) -> None:
        """Run the network once.

        Raises
        ------
        ModelError
            If the runtime fails, for lack of memory for example.
        AcceleratorError
            If it fails on an Edge TPU.
        """
        try:
            self.interpreter.invoke()
        except RuntimeError as error:
            if self.accelerator == "edgetpu":
                raise AcceleratorError(f"the Edge TPU fails ({first_line(error)})") from None
            raise ModelError(f"the runtime ({RUNTIME}) fails: {first_line(error)}") from None

    def run_blank(self, height: int, width: int) -> None:
        """Run once over zeros of this size."""
        self.resize(height, width)
        self.input_view().fill(0)
        self.invoke()

    def output_detail(self, output: Output) -> tuple[dict[str, Any], tuple[float, int] | None]:
        """Return what the runtime says of an output, with step and zero point if it is int8, None if it is float32."""
        details = self.interpreter.get_output_details()
        if not 0 <= output.index < len(details):
            raise ModelError(f"the card names output {output.index}, but the graph has {len(details)}")
        detail: dict[str, Any] = details[output.index]
        if detail["dtype"] is np.int8:
            return detail, detail["quantization"]
        if detail["dtype"] is not np.float32:
            raise ModelError(f"output {output.index} is {detail['dtype'].__name__}, not int8 or float32")
        return detail, None


class Model(Network):
    """A network that predicts maps, from which cells are counted; see `Network`.

    Attributes
    ----------
    maps : dict of str to MapSpec
        By quantity.
    """

    def attempt(self, work: Callable[[Model], _T]) -> _T:
        """Return `work(self)`; see `pipeline.predict.Runnable`."""
        return work(self)

    def output_tensor(self, spec: MapSpec) -> npt.NDArray[np.int8]:
        """Return an output as int8, shape (h, w, block²): a view of the tensor, or a converted copy of a float one."""
        details = self.interpreter.get_output_details()[spec.output.index]
        view: npt.NDArray[Any] = self.interpreter.tensor(details["index"])()[0]
        if view.dtype == np.int8:
            return view
        return float_to_int8(view, spec.output.scale)

    def _map_specs(self) -> dict[str, MapSpec]:
        specs = {}
        for output in self.card.outputs:
            detail, quantized = self.output_detail(output)
            specs[output.quantity] = map_spec(output, tuple(detail["shape"]), self._shape or (0, 0), quantized)
        return specs

    def _check_card(self) -> None:
        if self.card.output("foreground") is None:
            raise ModelError(NO_MAPS)

    def _check_fit(self) -> None:
        self.maps: dict[str, MapSpec] = self._map_specs()
        if self.maps["foreground"].reduction != 1:
            raise ModelError("the foreground map is smaller than the input")
        if self.tile and (min(self.tile) <= 2 * self.card.margin or any(t % self.card.stride for t in self.tile)):
            raise ModelError(
                f"tiles of {self.tile[1]}×{self.tile[0]} do not fit the card's margin {self.card.margin} "
                f"and stride {self.card.stride}"
            )


def _interpreter(flatbuffer: bytes, threads: int, delegate: Any) -> Any:
    delegates = None if delegate is None else [delegate]
    try:
        with quiet_stderr():  # the runtime would print the name of its delegate
            interpreter = Interpreter(model_content=flatbuffer, num_threads=threads, experimental_delegates=delegates)
            _check_sizes(interpreter)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the runtime ({RUNTIME}) refuses the graph: {first_line(error)}") from None
    return interpreter


def _check_sizes(interpreter: Any) -> None:
    """Raise ModelError for tiles or tensors that are too large, before the runtime makes room for them."""
    for detail in interpreter.get_input_details():
        if math.prod(int(n) for n in detail["shape"][1:3]) > _MOST_TILE_PX:
            sides = "×".join(str(n) for n in detail["shape"][1:3][::-1])
            raise ModelError(f"its tiles of {sides} are larger than most images: make it for smaller ones")
    for detail in interpreter.get_tensor_details():
        size = math.prod(int(n) for n in detail["shape"]) * np.dtype(detail["dtype"]).itemsize
        if size > _MOST_TENSOR_BYTES:
            shape = "×".join(str(n) for n in detail["shape"])
            raise ModelError(
                f"the graph has a tensor of {shape} values, {size / 1e9:,.1f} GB: make it for smaller tiles"
            )


def _input_detail(interpreter: Any) -> dict[str, Any]:
    details = interpreter.get_input_details()
    if len(details) != 1 or len(details[0]["shape"]) != 4 or (details[0]["shape"][[0, 3]] != (1, 3)).any():
        raise ModelError("the graph's input is not one (1, height, width, 3) tensor")
    detail: dict[str, Any] = details[0]
    if detail["dtype"] is np.int8:
        step, zero = detail["quantization"]
        if zero != -128 or not abs(step * 255 - 1) <= 1e-4:  # so that NaN is refused, too
            raise ModelError(f"the int8 input is scaled by {step}, {zero} instead of 1/255, -128")
    elif detail["dtype"] is not np.float32:
        raise ModelError(f"the input is {detail['dtype'].__name__}, not int8 or float32")
    return detail
