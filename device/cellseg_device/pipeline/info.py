"""What is in a model: its card, its operators, the types of its tensors, the memory it takes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cellseg_device.image.source import printable
from cellseg_device.model.faults import as_model_faults
from cellseg_device.model.graph import operators
from cellseg_device.model.interpreter import RUNTIME, Network
from cellseg_device.system.memory import peak_rss_mb

_SIDE_FOR_FREE_SIZE_PX = 512


def describe(model: Network) -> dict[str, Any]:
    """Return a description of a model, which is run once to measure the memory.

    Returns
    -------
    dict
        Keys `file`, `file_bytes`, `runtime`, `input`, `outputs`, `operators` (number by name), `tensor_types` (number
        by name), `peak_rss_mb` (of this process, after one run on a tile), `card`.
    """
    stride = model.card.stride
    side = -(-_SIDE_FOR_FREE_SIZE_PX // stride) * stride
    with as_model_faults(model.path):
        model.run_blank(*(model.tile or (side, side)))
        operators_by_name = Counter(operator.name for operator in operators(model.interpreter))
    return {
        "file": printable(str(model.path)),
        "file_bytes": model.file_bytes,
        "runtime": RUNTIME,
        "input": [_tensor(detail) for detail in model.interpreter.get_input_details()],
        "outputs": [_tensor(detail) for detail in model.interpreter.get_output_details()],
        "operators": dict(operators_by_name.most_common()),
        "tensor_types": dict(Counter(d["dtype"].__name__ for d in model.interpreter.get_tensor_details())),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "card": model.card.to_dict(),
    }


def as_text(description: dict[str, Any]) -> str:
    """Return a description as text for the user."""
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
    if card.get("gate"):
        lines += _gate_lines(card["gate"])
    for key, value in card.items():
        if key == "gate":
            continue
        if isinstance(value, dict):
            lines += [f"  {key}", *(f"    {k}: {v}" for k, v in value.items())]
        elif isinstance(value, list | tuple):
            lines += [f"  {key}", *(f"    {item}" for item in value)]
        else:
            lines.append(f"  {key}: {value}")
    return "\n".join(printable(line) for line in lines)


def _gate_lines(gate: dict[str, Any]) -> list[str]:
    """Return what a gate sees, and what follows for an image of each class."""
    sees = "field made small, at most" if gate["sees"] == "field" else "squares of"
    lines = [f"  gate: sees the {sees} {gate['side_px']} px"]
    for found in gate["classes"]:
        follows = "nothing is looked for" if found["follows"] == "empty" else f"{found['model'] or 'the default model'}"
        flagged = ", flagged" if found["follows"] == "flag" else ""
        lines.append(f"    {found['name']} (looks like {found['looks_like']}): {follows}{flagged}")
    if gate["sure_from"]:
        lines.append(f"    of any class with a probability under {gate['sure_from']:g}: flagged")
    return lines


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
