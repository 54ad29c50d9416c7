"""OpenVINO's compiled network: what runs in it, from which operators, in which precision, under names that last."""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import TYPE_CHECKING

from layerclock.devices.attribution import Executed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import openvino

    from layerclock.devices.attribution import SourceGraph

__all__ = ["executed_kernels", "lasting_names", "product_types", "to_run"]

# What multiplies and accumulates: in the type that these compute in, a network's time is decided.
_PRODUCTS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})


def lasting_names(nodes: Sequence[str], source: SourceGraph) -> list[str]:
    """Names that mean the same in every compilation: OpenVINO numbers the nodes that it makes itself anew each time."""
    used: Counter[str] = Counter()
    names = []
    for node in nodes:
        name = node if source.find(node) else re.sub(r"\d+", "", node)
        used[name] += 1
        names.append(name if used[name] == 1 else f"{name}#{used[name]}")
    return names


def to_run(compiled: openvino.CompiledModel) -> dict[str, str]:
    """The compiled network's nodes that will run, with their implementations."""
    running = {}
    computed: set[str] = set()  # from the network's inputs: what only constants lead to was computed by the compiler
    for node in compiled.get_runtime_model().get_ordered_ops():
        name, kind, implementation = node.get_friendly_name(), _information(node, "layerType"), _information(node, "primitiveType")
        before = [port.get_source_output().get_node().get_friendly_name() for port in node.inputs()]
        if kind == "Input" or computed.intersection(before):
            computed.add(name)
        in_place = implementation.startswith(("undef", "unknown")) and kind != "Transpose"
        if name in computed and kind not in ("Input", "Output") and not in_place and not _is_fake(node, kind, implementation):
            running[name] = implementation
    return running


def _is_fake(node: openvino.Node, kind: str, implementation: str) -> bool:
    """Whether it is a reorder between two layouts that are the same bytes."""
    if kind != "Reorder" or not implementation.startswith("reorder"):
        return False
    return str(node.get_friendly_name()).endswith("_fake") or _one_layout(tuple(node.get_output_shape(0)))


def _one_layout(shape: tuple[int, ...]) -> bool:
    """Whether it makes no difference if the channels stand first or last."""
    return len(shape) < 3 or shape[1] == 1 or all(axis == 1 for axis in shape[2:])


def _information(node: openvino.Node, key: str) -> str:
    value = node.get_rt_info()
    return str(value[key].value) if key in value else ""


def product_types(compiled: openvino.CompiledModel) -> list[str]:
    """What the compiled network's convolutions and matrix products compute in, as the compiler says: ``f32``, ``bf16``, ``i8``."""
    nodes = compiled.get_runtime_model().get_ordered_ops()
    return [_information(node, "runtimePrecision").lower() for node in nodes if _information(node, "layerType") in _PRODUCTS]


def executed_kernels(compiled: openvino.CompiledModel, names: list[str], implementations: list[str], source: SourceGraph) -> list[Executed]:
    """The named nodes of a compiled network as kernels, each with the implementation that runs it."""
    operations = {node.get_friendly_name(): node for node in compiled.get_runtime_model().get_ordered_ops()}
    numbers = {name: number for number, name in enumerate(operations)}
    ran = set(names)

    def place(node: openvino.Node) -> int:
        return min((source.order[found] for found in map(source.find, _originals(node)) if found), default=len(source.order))

    def readers(node: openvino.Node) -> list[openvino.Node]:
        # OpenVINO has them in an order that is another one each time: the first in the model comes first.
        found = [port.get_node() for out in node.outputs() for port in out.get_target_inputs()]
        return sorted(found, key=lambda one: (place(one), numbers[one.get_friendly_name()]))

    executed = []
    for name, implementation in zip(names, implementations, strict=True):
        node = operations[name]
        executed.append(
            Executed(
                name=name,
                op=_information(node, "layerType"),
                operators=_originals(node),
                reader=_nearest(node, ran, readers),
                feeder=_nearest(node, ran, lambda one: [value.get_source_output().get_node() for value in one.inputs()]),
                layout=_information(node, "outputLayouts"),
                shape=_shape(node.output(0)),
                read=_shape(node.input(0)) if node.inputs() else (),
                implementation=implementation,
            )
        )
    return executed


def _originals(node: openvino.Node) -> tuple[str, ...]:
    """The names of the model's operators that a node computes."""
    return tuple(filter(None, _information(node, "originalLayersNames").split(",")))


def _shape(port: openvino.Output | openvino.Input) -> tuple[int, ...]:
    return tuple(port.get_shape()) if port.get_partial_shape().is_static else ()


def _nearest(node: openvino.Node, ran: set[str], neighbours: Callable[[openvino.Node], list[openvino.Node]]) -> str:
    """The nearest kernel in one direction, through nodes that did not run; empty if there is none."""
    pending, seen = deque(neighbours(node)), set()
    while pending:
        current = pending.popleft()
        name = current.get_friendly_name()
        if name in ran:
            return str(name)
        if name not in seen:
            seen.add(name)
            pending += neighbours(current)
    return ""
