"""The layers of a prepared ONNX file: what each reads and writes, and how much work it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerclock.devices.attribution import ANCHORS
from layerclock.network import Layer, PlacedLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from layerclock.devices.attribution import SourceGraph

__all__ = ["layers_of"]


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
        read = dict.fromkeys(tensor for node in nodes for tensor in node.input if tensor and tensor not in made)
        elsewhere = {t for other, others in inside.items() if other != site for node in others for t in node.input} | set(source.outputs)
        given = [tensor for node in nodes for tensor in node.output if tensor in elsewhere]
        anchor = next((node for node in nodes if node.op_type in ANCHORS), nodes[0])
        counts = [source.macs(node.name) for node in nodes]
        unshaped = sum(tensor not in source.shapes for tensor in [*read, *given])
        layer = Layer(
            op=anchor.op_type,
            inputs=tuple(source.shapes[tensor] for tensor in read if tensor in source.shapes and tensor not in source.weights),
            outputs=tuple(source.shapes[tensor] for tensor in given if tensor in source.shapes),
            # What cannot be counted is said, so that nobody takes the rest for the whole.
            attributes=(("model", model), ("module", site), *_unknown("uncounted", counts.count(None)), *_unknown("unshaped", unshaped)),
            macs=-(-sum(count for count in counts if count is not None) // batch),
            params=sum(
                source.shapes[tensor].elements for tensor in read if tensor in source.weights and "float" in source.shapes[tensor].dtype
            ),
            batch=batch,
        )
        placed.append(PlacedLayer(site, layer))
    return tuple(placed)


def _unknown(what: str, number: int) -> tuple[tuple[str, int], ...]:
    return ((what, number),) if number else ()
