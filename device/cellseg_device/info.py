"""What is in a model: its card, its operators, the types of its tensors, the memory it takes."""

from __future__ import annotations

import dataclasses
import resource
import sys
from collections import Counter
from typing import Any

from cellseg_device.model import RUNTIME, Model

_SIDE_FOR_FREE_SIZE_PX = 512


def describe(model: Model) -> dict[str, Any]:
    """Describe a model; it is run once, to see the memory.

    Returns
    -------
    dict
        Keys `file`, `file_bytes`, `runtime`, `input`, `outputs`, `operators` (name to number; None where the
        runtime does not tell), `tensor_types` (name to number), `peak_rss_mb` (of this process, after one run
        on a tile), `card`.
    """
    tile = model.tile or (_SIDE_FOR_FREE_SIZE_PX, _SIDE_FOR_FREE_SIZE_PX)
    model.resize(*tile)
    model.input_view()[...] = 0
    model.invoke()
    return {
        "file": str(model.path),
        "file_bytes": model.path.stat().st_size,
        "runtime": RUNTIME,
        "input": [_tensor(detail) for detail in model.interpreter.get_input_details()],
        "outputs": [_tensor(detail) for detail in model.interpreter.get_output_details()],
        "operators": _operators(model),
        "tensor_types": dict(Counter(d["dtype"].__name__ for d in model.interpreter.get_tensor_details())),
        "peak_rss_mb": round(_peak_rss_bytes() / 1e6, 1),
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
    operators = description["operators"]
    lines.append(f"operators     {_tally(operators) if operators else 'this runtime does not tell'}")
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


def _operators(model: Model) -> dict[str, int] | None:
    details = getattr(model.interpreter, "_get_ops_details", None)  # private, and not in every runtime
    if details is None:
        return None
    # A delegate stands beside the operators it runs: its own entry is none of the model's.
    names = (operator["op_name"] for operator in details())
    return dict(Counter(name for name in names if name != "DELEGATE").most_common())


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


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
