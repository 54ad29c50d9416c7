"""The layers of a prepared ONNX file: what each reads and writes, and how much work it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerclock.devices.attribution import ANCHORS
from layerclock.network import Layer, PlacedLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from layerclock.devices.attribution import SourceGraph
    from layerclock.network import TensorSpec

__all__ = ["layers_of"]

# Inputs of operators that may be quantised weights of one axis: a bias.
_QUANTISED_VECTORS = frozenset({("DequantizeLinear", 0), ("QLinearConv", 8)})


def layers_of(source: SourceGraph, sites: Sequence[str], model: str, batch: int) -> tuple[PlacedLayer, ...]:
    """The layers at ``sites``, in their order; ``model`` names the file in their keys.

    Shapes are those of the file, which is of ``batch``. Multiply-accumulates are a run's divided by ``batch``, rounded up: that is
    right whatever the axes mean, and which of them are the batch no file tells.
    """
    inside: dict[str, list[onnx.NodeProto]] = {site: [] for site in sites}
    for node in source.nodes.values():
        inside[node.name.split("/")[0]].append(node)
    placed = []
    for site, nodes in inside.items():
        made = {tensor for node in nodes for tensor in node.output}
        read = dict.fromkeys(tensor for node in nodes for tensor in _reads(node) if tensor not in made)
        fed = [tensor for tensor in read if not source.is_constant(tensor)]
        elsewhere = {t for other, others in inside.items() if other != site for node in others for t in _reads(node)} | set(source.outputs)
        given = [tensor for node in nodes for tensor in node.output if tensor in elsewhere]
        anchor = next((node for node in nodes if node.op_type in ANCHORS), nodes[0])
        counts = [source.macs(node.name) for node in nodes]
        weights = _weights(source, nodes)
        unshaped = sum(tensor not in source.shapes for tensor in [*fed, *given]) + sum(not _has_width(spec) for spec in weights)
        unshaped += sum(bool(_bodies(node)) for node in nodes)  # how often a loop moves what it holds, nobody knows
        layer = Layer(
            op=anchor.op_type,
            inputs=tuple(source.shapes[tensor] for tensor in fed if tensor in source.shapes),
            outputs=tuple(source.shapes[tensor] for tensor in given if tensor in source.shapes),
            # What cannot be counted is said, so that nobody takes the rest for the whole.
            attributes=(("model", model), ("module", site), *_unknown("uncounted", counts.count(None)), *_unknown("unshaped", unshaped)),
            macs=-(-sum(count for count in counts if count is not None) // batch),
            params=sum(spec.elements for spec in weights),
            batch=batch,
            weight_bytes=sum(spec.bytes for spec in weights if _has_width(spec)),
        )
        placed.append(PlacedLayer(site, layer))
    return tuple(placed)


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _inside(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The operators in the bodies of a branch or loop, and in theirs."""
    return [one for body in _bodies(node) for inner in body.node for one in (inner, *_inside(inner))]


def _reads(node: onnx.NodeProto) -> list[str]:
    """The tensors that an operator reads of the network, also those that only its bodies name."""
    own = {value.name for body in _bodies(node) for value in (*body.input, *body.initializer)}
    taken = [tensor for body in _bodies(node) for inner in body.node for tensor in _reads(inner)]
    own |= {tensor for body in _bodies(node) for inner in body.node for tensor in inner.output}
    return [tensor for tensor in dict.fromkeys([*node.input, *taken]) if tensor and tensor not in own]


def _weights(source: SourceGraph, nodes: Sequence[onnx.NodeProto]) -> list[TensorSpec]:
    """The trained weights that operators read, also through what makes constants of them (a dequantisation), wherever that stands.

    What makes constants alone reads none: its weights are its reader's.
    """
    found: dict[str, TensorSpec] = {}
    pending = [one for node in nodes if not all(map(source.is_constant, filter(None, node.output))) for one in (node, *_inside(node))]
    seen = {node.name for node in pending}
    while pending:
        node = pending.pop()
        for position, tensor in enumerate(node.input):
            if tensor in source.weights and _is_trained(source, tensor, node.op_type, position):
                found[tensor] = source.shapes[tensor]
            elif source.is_constant(tensor) and (maker := source.producer.get(tensor)) and maker not in seen:
                seen.add(maker)
                pending.append(source.nodes[maker])
    return list(found.values())


def _is_trained(source: SourceGraph, tensor: str, op: str, position: int) -> bool:
    """Whether a constant is a weight: floating, or whole and quantised; whole ones with no two axes are zero points, shapes and indices."""
    spec = source.shapes[tensor]
    return "float" in spec.dtype or (op, position) in _QUANTISED_VECTORS or (source.is_parameter(tensor) and len(spec.shape) > 1)


def _has_width(spec: TensorSpec) -> bool:
    try:
        return spec.bytes >= 0
    except KeyError:
        return False


def _unknown(what: str, number: int) -> tuple[tuple[str, int], ...]:
    return ((what, number),) if number else ()
