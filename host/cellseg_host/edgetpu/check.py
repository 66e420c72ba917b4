"""The verdict: whether a model maps onto the Edge TPU, what stays on the CPU, why, and what to change."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cellseg_device.errors import InputError
from cellseg_host.edgetpu import limits, partition, rules
from cellseg_host.edgetpu.finding import CPU, DOUBT, NOTE, Finding
from cellseg_host.edgetpu.graph import UNKNOWN, Graph, read

WHOLLY = "wholly"
DOUBTFUL = "doubtful"
PARTLY = "partly"
NOT_AT_ALL = "not at all"

COMPILED_OPERATOR = "edgetpu-custom-op"
# "Roughly 8 MB" for parameters, minus what the program and its tensors need ("Edge TPU Compiler",
# coral.ai/docs/edgetpu/compiler): public logs of compilers 15 and 16 sum up to between 6.1 and 8.0 MiB, mostly 7.
ON_CHIP_BYTES = 7 * 2**20


@dataclass(frozen=True)
class Layer:
    """Where one operator runs.

    Attributes
    ----------
    name, op : str
    version : int
    on_tpu : bool
    findings : tuple of Finding
    follows : bool
        It is on the CPU only because it needs the output of one that is: the compiler maps one part of a graph.
    multiply_adds : int
    """

    name: str
    op: str
    version: int
    on_tpu: bool
    findings: tuple[Finding, ...]
    follows: bool
    multiply_adds: int


@dataclass(frozen=True)
class Verdict:
    """How the compiler is expected to map a model.

    Attributes
    ----------
    mapping : str
        ``"wholly"``; ``"doubtful"``: wholly by the published rules, but some operators are in doubt; ``"partly"``; or
        ``"not at all"``.
    compiler : int
        Version of the compiler whose rules are used.
    refusals : tuple of Finding
        Why the compiler would refuse the model as a whole.
    layers : tuple of Layer
    partitions : int
        Number of parts of the graph that the TPU could run; the compiler maps the first.
    on_chip_bytes, off_chip_bytes : int
        Where the parameters of the mapped operators would be; an estimate, since the compiler pads and caches whole
        layers.
    """

    mapping: str
    compiler: int
    refusals: tuple[Finding, ...]
    layers: tuple[Layer, ...]
    partitions: int
    on_chip_bytes: int
    off_chip_bytes: int

    @property
    def maps(self) -> bool:
        """Whether all operators map by the published rules."""
        return self.mapping in (WHOLLY, DOUBTFUL)

    @property
    def on_tpu(self) -> tuple[Layer, ...]:
        """The operators that map."""
        return tuple(layer for layer in self.layers if layer.on_tpu)

    @property
    def on_cpu(self) -> tuple[Layer, ...]:
        """The operators that do not."""
        return tuple(layer for layer in self.layers if not layer.on_tpu)

    @property
    def share(self) -> float:
        """Share of the multiply-adds that run on the TPU; of the operators, if there are no multiply-adds."""
        total = sum(layer.multiply_adds for layer in self.layers)
        if not total:
            return len(self.on_tpu) / len(self.layers)
        return sum(layer.multiply_adds for layer in self.on_tpu) / total

    @property
    def changes(self) -> tuple[str, ...]:
        """What to change so that all operators map (or certainly map), the most important first."""
        of_layers = [f for layer in self.layers for f in layer.findings]
        certain = [f.change for f in of_layers if f.level == CPU]
        # Quantizing again helps only after operators that cannot be quantized are gone
        certain.sort(key=lambda change: change == limits.INT8)
        doubtful = [f.change for f in of_layers if f.level == DOUBT]
        return tuple(filter(None, dict.fromkeys([*(f.change for f in self.refusals), *certain, *doubtful])))

    @property
    def notes(self) -> tuple[Finding, ...]:
        """Findings that do not change the verdict."""
        return tuple(dict.fromkeys(f for layer in self.layers for f in layer.findings if f.level == NOTE))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and what follows from them, for JSON."""
        return {
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "layers"},
            "operators": len(self.layers),
            "operators_on_tpu": len(self.on_tpu),
            "multiply_adds": sum(layer.multiply_adds for layer in self.layers),
            "multiply_adds_on_tpu": sum(layer.multiply_adds for layer in self.on_tpu),
            "share_on_tpu": round(self.share, 6),
            "changes": self.changes,
            "layers": self.layers,
        }


def check(data: bytes, name: str = "the model", compiler: int = rules.COMPILER) -> Verdict:
    """Check every operator and tensor of a model against the compiler's published rules.

    Parameters
    ----------
    data : bytes
        A .tflite, with or without a card.
    name : str
        Of the file, for errors.
    compiler : int
        Version of the compiler: one of `rules.COMPILERS`.

    Raises
    ------
    ModelError
        If it is not a whole .tflite.
    InputError
        If it is compiled already.
    """
    graph = read(data, name)
    if any(node.op == COMPILED_OPERATOR for node in graph.nodes):
        raise InputError(f"{name}: is compiled for the Edge TPU already: give the .tflite that it was made from")
    return check_graph(graph, compiler)


def check_graph(graph: Graph, compiler: int = rules.COMPILER) -> Verdict:
    """Return the verdict on a graph; see `check`."""
    refusals = _refusals(graph)
    found = [tuple(rules.findings(node, compiler)) for node in graph.nodes]
    able = [not any(f.level == CPU for f in fs) for fs in found]
    parts = [part for part in partition.parts(graph.nodes, able) if part.on_tpu]
    mapped = set(parts[0].nodes) if parts and not refusals else set()
    layers = tuple(
        Layer(
            node.layer,
            node.op,
            node.version,
            position in mapped,
            found[position],
            able[position] and position not in mapped and not refusals,
            partition.multiply_adds(node),
        )
        for position, node in enumerate(graph.nodes)
    )
    stored = partition.parameter_bytes([graph.nodes[position] for position in sorted(mapped)])
    return Verdict(
        mapping=_mapping(layers),
        compiler=compiler,
        refusals=refusals,
        layers=layers,
        partitions=0 if refusals else len(parts),
        on_chip_bytes=min(stored, ON_CHIP_BYTES),
        off_chip_bytes=max(stored - ON_CHIP_BYTES, 0),
    )


def _mapping(layers: tuple[Layer, ...]) -> str:
    if not any(layer.on_tpu for layer in layers):
        return NOT_AT_ALL
    if not all(layer.on_tpu for layer in layers):
        return PARTLY
    return DOUBTFUL if any(f.level == DOUBT for layer in layers for f in layer.findings) else WHOLLY


def _refusals(graph: Graph) -> tuple[Finding, ...]:
    """Return why the compiler would refuse the whole graph."""
    found = []
    given = [t for t in graph.inputs if UNKNOWN in t.shape]
    inside = [t for node in graph.nodes for t in node.outputs if UNKNOWN in t.shape]
    if given:
        shape = limits.size_text(given[0].shape)
        found.append(Finding(CPU, f"its input is {shape}: sizes must be fixed", limits.FIXED))
    elif inside:
        found.append(Finding(CPU, f"a tensor inside has an unknown size ({inside[0].name})", limits.FIXED))
    computed = {t.dtype for node in graph.nodes for t in node.activations}
    if not computed & {"int8", "uint8"}:
        found.append(Finding(CPU, f"it is not quantized: it computes in {', '.join(sorted(computed))}", limits.INT8))
    found.extend(f for node in graph.nodes if (f := rules.unreadable(node)))
    return tuple(dict.fromkeys(found))
