"""Which operators of the exported network each of ncnn's layers computes.

pnnx names its layers anew, fuses activations into products and folds normalisations into weights; it keeps the order of execution. A
layer is therefore found from the layers before it: it is the first operator of its kind, not taken yet, that what they compute leads
to; a convolution must have as many weights, too. What no layer takes was fused into the layer that made the last of its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerclock.devices.attribution import ANCHORS, Executed
from layerclock.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from layerclock.devices.attribution import SourceGraph

__all__ = ["NcnnLayer", "executed_layers", "read_layers"]

# What passes tensors on or holds them, and computes nothing; its time is part of the layer behind it.
_PASSING = frozenset({"Input", "MemoryData", "Noop", "Split"})
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"})
# The operators that a layer of ncnn may stand for; any other stands for one of its own name.
_STANDS_FOR = {
    "BatchNorm": {"BatchNormalization"},
    "BinaryOp": _ELEMENTWISE,
    "Clip": {"Clip"},
    "Concat": {"Concat"},
    "Convolution": {"Conv"},
    "Convolution1D": {"Conv"},
    "ConvolutionDepthWise": {"Conv"},
    "Crop": {"Slice", "Split", "Gather"},
    "Deconvolution": {"ConvTranspose"},
    "DeconvolutionDepthWise": {"ConvTranspose"},
    "Eltwise": _ELEMENTWISE,
    "Embed": {"Gather"},
    "GELU": {"Gelu", "Erf"},
    "Gemm": {"Gemm", "MatMul"},
    "HardSigmoid": {"HardSigmoid"},
    "HardSwish": {"HardSwish", "HardSigmoid"},
    "InnerProduct": {"Conv", "Gemm", "MatMul"},  # a 1x1 convolution of one pixel is one
    "Interp": {"Resize", "Upsample"},
    "LayerNorm": {"LayerNormalization", "ReduceMean"},
    "MatMul": {"MatMul"},
    "MultiHeadAttention": {"MatMul", "Gemm"},
    "Padding": {"Pad"},
    "Permute": {"Transpose"},
    "Pooling": {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean", "ReduceMax"},
    "ReLU": {"Relu", "LeakyRelu"},
    "Reduction": {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "GlobalAveragePool"},
    "Reshape": {"Reshape", "Flatten", "Squeeze", "Unsqueeze"},
    "SDPA": {"MatMul"},
    "Slice": {"Split", "Slice"},
    "Swish": {"Swish", "Sigmoid"},
    "TanH": {"Tanh"},
    "Tile": {"Tile", "Expand"},
    "UnaryOp": {"Abs", "Neg", "Floor", "Ceil", "Sqrt", "Exp", "Log", "Sin", "Cos", "Tan", "Tanh", "Erf", "Reciprocal", "Pow", "Mul"},
}  # fmt: skip
_SEVERAL_PRODUCTS = frozenset({"MultiHeadAttention", "SDPA"})
_WEIGHTS_COUNTED = {
    "Convolution": "6",
    "ConvolutionDepthWise": "6",
    "Deconvolution": "6",
    "DeconvolutionDepthWise": "6",
    "InnerProduct": "2",
}


@dataclass(frozen=True, slots=True)
class NcnnLayer:
    """One line of a ``.param`` file: ``reads`` and ``makes`` are names of blobs, ``settings`` as written."""

    kind: str
    name: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    settings: dict[str, str]


def read_layers(description: str) -> list[NcnnLayer]:
    """The layers of a ``.param`` file in order of execution; see ncnn's *param and model file structure*."""
    layers = []
    for line in description.splitlines()[2:]:  # a magic number, then the counts of layers and blobs
        kind, name, reads, makes, *rest = line.split()
        first, last = int(reads), int(reads) + int(makes)
        settings = dict(word.split("=", 1) for word in rest[last:])
        layers.append(NcnnLayer(kind, name, tuple(rest[:first]), tuple(rest[first:last]), settings))
    return layers


def executed_layers(layers: Sequence[NcnnLayer], source: SourceGraph) -> list[tuple[NcnnLayer, Executed]]:
    """The layers that compute, each as a kernel with its operators.

    Raises :class:`DeviceError` where a product of the network is found in no layer: its time could not be told from others'.
    """
    owner: dict[str, str] = {}
    made_by: dict[str, str] = {}  # blob to the layer that computed it
    # Blob to the operators that computed it, through layers that none was found for; None of constants. The network's inputs have none.
    origin: dict[str, frozenset[str] | None] = {}
    running = []
    for layer in layers:
        read = [origin[blob] for blob in layer.reads]
        if layer.kind in _PASSING:
            passed = frozenset[str]() if layer.kind == "Input" else (read[0] if read else None)
            maker = made_by[layer.reads[0]] if layer.reads else ""
        else:
            running.append(layer)
            known = [one for one in read if one is not None]
            found = _found(layer, known, owner, source)
            owner |= dict.fromkeys(found, layer.name)
            passed, maker = frozenset(found) or frozenset().union(*known), layer.name
        origin |= dict.fromkeys(layer.makes, passed)
        made_by |= dict.fromkeys(layer.makes, maker)
    _give_the_rest(owner, source)
    operators: dict[str, list[str]] = {layer.name: [] for layer in running}
    for node in source.order:
        if node in owner:
            operators[owner[node]].append(node)
    readers: dict[str, str] = {}
    for layer in running:
        for blob in layer.reads:
            readers.setdefault(made_by[blob], layer.name)
    return [
        (
            layer,
            Executed(
                name=layer.name,
                op=layer.kind,
                operators=tuple(operators[layer.name]),
                reader=readers.get(layer.name, ""),
                feeder=made_by[layer.reads[0]] if layer.reads else "",
            ),
        )
        for layer in running
    ]


def _found(layer: NcnnLayer, read: Sequence[frozenset[str]], owner: dict[str, str], source: SourceGraph) -> list[str]:
    kinds = _STANDS_FOR.get(layer.kind, {layer.kind})
    reached = [set(_led_to(made, owner, source)) for made in read]
    in_order = sorted(set.intersection(*reached) if reached else (), key=source.order.__getitem__)
    fitting = [node for node in in_order if source.nodes[node].op_type in kinds and _weighs(layer, node, source)]
    return fitting if layer.kind in _SEVERAL_PRODUCTS else fitting[:1]


def _led_to(made: frozenset[str], owner: dict[str, str], source: SourceGraph) -> Iterator[str]:
    """Operators without an owner that some operators' results, or the network's inputs, lead to through none that has one."""
    if made:
        pending = [reader for node in made for reader in source.readers.get(node, ())]
    else:
        pending = [name for name, node in source.nodes.items() if set(node.input) & set(source.inputs)]
    seen: set[str] = set()
    while pending:
        node = pending.pop()
        if node in seen or node in owner or source.is_bookkeeping(node):
            continue
        seen.add(node)
        yield node
        # Beyond a product there is another layer.
        if source.nodes[node].op_type not in ANCHORS:
            pending += source.readers.get(node, ())


def _weighs(layer: NcnnLayer, node: str, source: SourceGraph) -> bool:
    counted = layer.settings.get(_WEIGHTS_COUNTED.get(layer.kind, ""))
    weights = [source.shapes[tensor].elements for tensor in source.nodes[node].input if tensor in source.weights]
    return counted is None or int(counted) in weights


def _give_the_rest(owner: dict[str, str], source: SourceGraph) -> None:
    for node in source.order:
        if node in owner or source.is_bookkeeping(node):
            continue
        if source.is_product(node):
            raise DeviceError(f"no layer that pnnx made computes {node!r}", "its time cannot be told; use another device for this network")
        made = [source.producer[tensor] for tensor in source.nodes[node].input if source.producer.get(tensor) in owner]
        if made:
            owner[node] = owner[max(made, key=source.order.__getitem__)]
