"""The verdict and the comparison with the compiler as text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from cellseg_host.edgetpu.check import DOUBTFUL, NOT_AT_ALL, PARTLY, WHOLLY, Layer, Verdict
from cellseg_host.edgetpu.compiler import Compilation, differences
from cellseg_host.edgetpu.finding import CPU, DOUBT, NOTE, Finding

_HEADLINES = {
    WHOLLY: "would map wholly onto the Edge TPU",
    DOUBTFUL: "would map wholly onto the Edge TPU, unless the doubts below are justified",
    PARTLY: "would map partly onto the Edge TPU",
    NOT_AT_ALL: "would not map onto the Edge TPU",
}
_NAMED_LAYERS = 3


def verdict_text(verdict: Verdict, name: str) -> str:
    """Return the verdict as lines: a headline, then titles with findings."""
    total = sum(layer.multiply_adds for layer in verdict.layers)
    share = f", {verdict.share:.1%} of {total / 1e6:,.1f} million multiply-adds"
    lines = [
        f"{name}: {_HEADLINES[verdict.mapping]} (rules of compiler {verdict.compiler})",
        _line(
            "on the TPU", f"{len(verdict.on_tpu)} of {len(verdict.layers)} operators{share if verdict.on_tpu else ''}"
        ),
    ]
    if verdict.on_tpu:
        stored = f"about {verdict.on_chip_bytes:,} bytes on chip, {verdict.off_chip_bytes:,} streamed to it"
        lines.append(_line("parameters", stored))
    if verdict.partitions > 1:
        lines.append(_line("partitions", f"{verdict.partitions}, of which the compiler maps the first"))
    lines += _lines("refused", (finding.reason for finding in verdict.refusals))
    # Without findings that have the same remedy as a refusal
    known = {finding.change for finding in verdict.refusals}
    lines += _lines("on the CPU", _grouped(verdict.layers, CPU, known))
    following = sum(layer.follows for layer in verdict.layers)
    if following:
        lines.append(_line("", f"{following} more operators, which need the outputs of these"))
    lines += _lines("in doubt", _grouped(verdict.layers, DOUBT))
    lines += _lines("to know", _grouped(verdict.layers, NOTE))
    lines += _lines("to change", verdict.changes)
    return "\n".join(lines)


def comparison_text(verdict: Verdict, compilation: Compilation) -> str:
    """Return the compiler's result beside the prediction."""
    rows: list[tuple[str, int | str, int | str]] = [
        ("", "predicted", "compiled"),
        ("operators on the TPU", len(verdict.on_tpu), compilation.on_tpu),
        ("operators on the CPU", len(verdict.on_cpu), compilation.on_cpu),
        ("partitions on the TPU", min(verdict.partitions, 1), compilation.subgraphs),
        ("parameters on chip, bytes", verdict.on_chip_bytes, compilation.on_chip_bytes),
        ("parameters streamed, bytes", verdict.off_chip_bytes, compilation.off_chip_bytes),
    ]
    lines = [f"edgetpu_compiler {compilation.version}"]
    lines += [f"  {what:28}{_number(predicted):>14}{_number(truth):>14}" for what, predicted, truth in rows]
    for d in differences(verdict, compilation):
        why = f" ({'; '.join(d.statuses)})" if d.statuses else ""
        lines.append(f"  {d.op}: {d.predicted} predicted on the TPU, {d.mapped} mapped{why}")
    return "\n".join(lines)


def _grouped(layers: Iterable[Layer], level: str, known: Collection[str] = ()) -> Iterator[str]:
    """Yield the findings of a level, each once, with the number of operators of a kind and their names."""
    groups: dict[tuple[str, Finding], list[str]] = {}
    for layer in layers:
        for finding in layer.findings:
            if finding.level == level and finding.change not in known:
                groups.setdefault((layer.op, finding), []).append(layer.name)
    for (op, finding), names in groups.items():
        named = list(dict.fromkeys(names))
        more = f" and {len(named) - _NAMED_LAYERS} more" if len(named) > _NAMED_LAYERS else ""
        change = f"; {finding.change}" if level == NOTE and finding.change else ""
        yield f"{len(names)} {op} ({', '.join(named[:_NAMED_LAYERS])}{more}): {finding.reason}{change}"


def _lines(title: str, texts: Iterable[str]) -> list[str]:
    return [_line("" if index else title, text) for index, text in enumerate(texts)]


def _line(title: str, text: str) -> str:
    return f"  {title:12}{text}"


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
