"""ONNX Runtime's optimised graph: what runs in it, from which operators, under names that last."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from layerclock.devices.attribution import ANCHORS, Executed
from layerclock.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from layerclock.devices.attribution import SourceGraph
    from layerclock.network import Kernel

__all__ = ["described", "read_optimised", "require_products"]

# What ONNX Runtime adds to the name of a node that it moved to its blocked layout, where a BatchNormalization becomes a convolution,
# or that it fused; the number is another in each session.
_SUFFIX = re.compile(r"(_bn)?_nchwc$|_token_\d+$")
_NUMBER = re.compile(r"_token_\d+$")
_HALF = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}
_REORDERS = frozenset({"ReorderInput", "ReorderOutput"})


def described(source: SourceGraph, operation: Mapping[str, str], graph: onnx.GraphProto, provider: Mapping[str, str]) -> dict[str, Kernel]:
    """The kernels of one session, given with their operations, by the name that it gives them; ``provider`` says which runs each."""
    producer = {tensor: node.name for node in graph.node for tensor in node.output}
    nodes = {node.name: node for node in graph.node}
    origin = {name: _origin(source, name, nodes.get(name), op) for name, op in operation.items()}
    reader = _first_readers(source, graph, origin)
    executed = []
    for name in operation:
        node = nodes.get(name)
        executed.append(
            Executed(
                name=name,
                op=operation[name],
                operators=(origin[name],) if origin[name] else (),
                only_last=True,
                reader=reader.get(name, ""),
                feeder=next((producer[t] for t in node.input if t in producer), "") if node else "",
                layout="nchwc" if node is not None and node.domain.endswith("nchwc") else "",
                implementation=provider[name],
            )
        )
    kernels = source.kernels(executed, boundaries=producer.keys())
    return {kernel.name: replace(kernel, name=name) for kernel, name in zip(kernels, _lasting_names(executed), strict=True)}


def _origin(source: SourceGraph, name: str, node: onnx.NodeProto | None, operation: str) -> str:
    """The model's operator that a node of the optimised graph computes last; empty for one that the runtime added."""
    # A fusion may have a name of the runtime's own; what it makes has the model's. So has what a reorder makes.
    makes = list(node.output) if node is not None and operation not in _REORDERS else []
    return next((found for one in (name, *makes) if (found := source.find(_SUFFIX.sub("", one)))), "")


def _first_readers(source: SourceGraph, graph: onnx.GraphProto, origin: Mapping[str, str]) -> dict[str, str]:
    """By node, the one that reads what it makes; of several, the first in the model, for their order here is another in each session."""
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        for tensor in node.input:
            readers[tensor].append(node.name)
    places: dict[str, tuple[int, str]] = {}
    first: dict[str, str] = {}
    for node in reversed(graph.node):  # what reads comes after what makes, so that its place is known
        behind = [one for tensor in node.output for one in readers[tensor]]
        if behind:
            first[node.name] = min(behind, key=places.__getitem__)
        known = origin.get(node.name, "")
        number = source.order[known] if known else places[first[node.name]][0] if behind else len(source.order)
        places[node.name] = (number, _NUMBER.sub("", node.name))
    return first


def _lasting_names(executed: list[Executed]) -> list[str]:
    """Names that mean the same in every session.

    ONNX Runtime numbers the reorders that it adds anew in each session, so that one name stands for another kernel in the
    next. They are named here after the kernels between which they stand.
    """
    by_name = {kernel.name: kernel for kernel in executed}

    def settled(name: str, direction: str) -> str:
        while name in by_name and not by_name[name].operators:
            name = getattr(by_name[name], direction)
        return name

    used: Counter[str] = Counter()
    names = []
    for kernel in executed:
        name = _NUMBER.sub("", kernel.name)
        if not kernel.operators:
            feeder, reader = (_NUMBER.sub("", settled(getattr(kernel, way), way)) for way in ("feeder", "reader"))
            name = f"{kernel.op}({feeder} -> {reader})"
        used[name] += 1
        names.append(name if used[name] == 1 else f"{name}#{used[name]}")
    return names


def read_optimised(path: Path, executed: Iterable[str] = ()) -> onnx.GraphProto:
    """The optimised graph, each of whose nodes has a name.

    What comes out of an operator that is a function (HardSwish, for one) has none there. A profile calls it by its operation and
    its number in the session: such names in ``executed`` are given in order.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    named = {node.name for node in graph.node}
    spare: dict[str, list[str]] = defaultdict(list)
    for name in executed:
        if name not in named:
            spare[name.rpartition("_")[0]].append(name)
    for position, node in enumerate(graph.node):
        if not node.name:
            node.name = spare[node.op_type].pop(0) if spare[node.op_type] else f"{node.op_type}_unnamed_{position}"
    return graph


def require_products(graph: onnx.GraphProto, precision: str, provider: str) -> None:
    """Raise :class:`DeviceUnavailableError`, naming them, where convolutions and products were turned back to run in float32.

    ONNX Runtime does that in silence: it puts casts around what has no kernel in half precision, and leaves floating-point
    operators between conversions where it has none in whole numbers. Some may be left over; not one kind altogether.
    """
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    fine: set[str] = set()
    lacking: set[str] = set()
    for node in graph.node:
        whole = node.op_type.startswith(("QLinear", "QGemm")) or node.op_type.endswith("Integer")
        if whole or node.op_type in ANCHORS or node.op_type.startswith("Fused"):
            constant = [types[tensor] for tensor in node.input if tensor in types]
            here = whole if precision == "int8" else _HALF[precision] in constant
            if constant or whole:
                (fine if here else lacking).add(node.op_type)
    if lacking and not fine:
        raise DeviceUnavailableError(
            f"{provider} has no kernels of {', '.join(sorted(lacking))} in {precision}: it would run them in float32",
            "use --precision float32",
        )
