"""What is in a model: its card, its operators, the types of its tensors, the memory it takes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from cellseg_device.graph import operators
from cellseg_device.memory import peak_rss_mb
from cellseg_device.model import RUNTIME, Model

_SIDE_FOR_FREE_SIZE_PX = 512


def describe(model: Model) -> dict[str, Any]:
    """Describe a model; it is run once, to see the memory.

    Returns
    -------
    dict
        Keys `file`, `file_bytes`, `runtime`, `input`, `outputs`, `operators` (name to number), `tensor_types` (name to
        number), `peak_rss_mb` (of this process, after one run on a tile), `card`.
    """
    tile = model.tile or (_SIDE_FOR_FREE_SIZE_PX, _SIDE_FOR_FREE_SIZE_PX)
    model.run_blank(*tile)
    return {
        "file": str(model.path),
        "file_bytes": model.path.stat().st_size,
        "runtime": RUNTIME,
        "input": [_tensor(detail) for detail in model.interpreter.get_input_details()],
        "outputs": [_tensor(detail) for detail in model.interpreter.get_output_details()],
        "operators": dict(Counter(operator.name for operator in operators(model.interpreter)).most_common()),
        "tensor_types": dict(Counter(d["dtype"].__name__ for d in model.interpreter.get_tensor_details())),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "card": dataclasses.asdict(model.card),
    }


def as_text(description: dict[str, Any]) -> str:
    """Lay a description out for reading."""
    card = description["card"]
    lines = [
        f"{card['name']}: {card['quantization']}, {description['file_bytes']:,} bytes, {description['file']}",
        f"runtime       {description['runtime']}, {description['peak_rss_mb']} MB peak after one run",
    ]
    for name in ("input", "outputs"):
        lines += [f"{name:13} {_tensor_text(tensor)}" for tensor in description[name]]
    lines.append(f"operators     {_tally(description['operators'])}")
    lines.append(f"tensors       {_tally(description['tensor_types'])}")
    lines.append("card")
    for key, value in card.items():
        if isinstance(value, dict):
            lines += [f"  {key}", *(f"    {k}: {v}" for k, v in value.items())]
        elif isinstance(value, list | tuple):
            lines += [f"  {key}", *(f"    {item}" for item in value)]
        else:
            lines.append(f"  {key}: {value}")
    return "\n".join(lines)


def _tensor(detail: dict[str, Any]) -> dict[str, Any]:
    step, zero = detail["quantization"]
    signature = [int(n) for n in detail["shape_signature"]]
    return {"shape": signature, "type": detail["dtype"].__name__, "step": float(step), "zero": int(zero)}


def _tensor_text(tensor: dict[str, Any]) -> str:
    shape = " × ".join("any" if n < 0 else str(n) for n in tensor["shape"])
    scaled = f", {tensor['step']:.6g} × (value − {tensor['zero']})" if tensor["step"] else ""
    return f"{shape}, {tensor['type']}{scaled}"


def _tally(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
