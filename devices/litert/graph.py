"""A ``.tflite`` file's operators, with the layer of each, and which of them every operator that ran computed.

litert-torch names tensors after the modules that made them. XNNPACK runs the file's operators in their order: some bear another name,
some vanish into a neighbour (padding, activations), and what it adds itself belongs to the operator before.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from layerclock.errors import DeviceError
from layerclock.network import Kernel, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layerclock.devices.litert.library import Event
    from layerclock.network import AttributeValue

__all__ = ["Operator", "described", "read_operators"]

# The file's operators that XNNPACK computes under names that begin so.
_COMPUTES = {
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Fully Connected": ("CONV_2D", "FULLY_CONNECTED"),
    "Deconvolution": ("TRANSPOSE_CONV",),
    "Batch Matrix Multiply": ("BATCH_MATMUL",),
    "Add": ("ADD",),
    "Subtract": ("SUB",),
    "Multiply": ("MUL",),
    "Divide": ("DIV",),
    "Maximum": ("MAXIMUM",),
    "Minimum": ("MINIMUM",),
    "Mean": ("MEAN",),
    "Sum": ("SUM",),
    "Global Average Pooling": ("MEAN",),
    "Average Pooling": ("AVERAGE_POOL_2D",),
    "Max Pooling": ("MAX_POOL_2D",),
    "Clamp": ("RELU", "RELU6", "RELU_N1_TO_1"),
    "HardSwish": ("HARD_SWISH",),
    "Sigmoid": ("LOGISTIC",),
    "GELU": ("GELU",),
    "Tanh": ("TANH",),
    "Softmax": ("SOFTMAX",),
    "Reciprocal Square Root": ("RSQRT",),
    "Squared Difference": ("SQUARED_DIFFERENCE",),
    "Concatenate": ("CONCATENATION",),
    "Slice": ("SLICE", "STRIDED_SLICE"),
    "Static Slice": ("SLICE", "STRIDED_SLICE"),
    "Static Reshape": ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"),
    "Copy": ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"),
    "Constant Pad": ("PAD",),
    "Transpose": ("TRANSPOSE",),
    "Resize Bilinear": ("RESIZE_BILINEAR",),
}
# What predictors know them as: the names of ONNX.
_KNOWN_AS = {
    "CONV_2D": "Conv", "DEPTHWISE_CONV_2D": "Conv", "TRANSPOSE_CONV": "ConvTranspose", "FULLY_CONNECTED": "Gemm", "BATCH_MATMUL": "MatMul",
    "HARD_SWISH": "HardSwish", "LOGISTIC": "Sigmoid", "MEAN": "ReduceMean", "SUM": "ReduceSum", "AVERAGE_POOL_2D": "AveragePool",
    "MAX_POOL_2D": "MaxPool", "CONCATENATION": "Concat", "RELU": "Relu", "RELU6": "Clip", "RSQRT": "Rsqrt", "MAXIMUM": "Max",
    "MINIMUM": "Min", "RESIZE_BILINEAR": "Resize", "STRIDED_SLICE": "Slice",
}  # fmt: skip
_PRODUCTS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"})
_ACTIVATIONS = {1: "Relu", 2: "Clip", 3: "Clip", 4: "Tanh"}
_OP_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_DTYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
_MODULE = re.compile(r"[\w.]*\.[A-Z][A-Za-z0-9]*_(\w+)")


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of the file; ``reads`` are results, ``weights`` constants, all with channels second where the network has them last."""

    op: str
    site: str
    known_as: tuple[str, ...]
    reads: tuple[TensorSpec, ...]
    weights: tuple[TensorSpec, ...]
    makes: tuple[TensorSpec, ...]
    attributes: tuple[tuple[str, AttributeValue], ...]
    macs: int


def read_operators(path: Path, sites: tuple[str, ...]) -> list[Operator]:
    """The operators of the file's one graph, in order. Raises :class:`DeviceError` if none of them tells its layer."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    names = [_OP_NAMES.get(codes[operator.opcodeIndex], "CUSTOM") for operator in graph.operators]
    # In a convolutional network tensors of four axes are images; attention has others.
    turned = "BATCH_MATMUL" not in names and not {"CONV_2D", "DEPTHWISE_CONV_2D"}.isdisjoint(names)
    held = {number for number, tensor in enumerate(graph.tensors) if model.buffers[tensor.buffer].data is not None}
    pairs = zip(names, graph.operators, strict=True)
    operators = [_read(name, operator, graph.tensors, held, sites, turned) for name, operator in pairs]
    if not any(operator.site for operator in operators):
        raise DeviceError(f"{path.name} does not tell which layer an operator belongs to", "please report it with the network")
    return _all_placed(operators)


def _read(name: str, operator: Any, tensors: Sequence[Any], held: set[int], sites: tuple[str, ...], turned: bool) -> Operator:
    """One operator; ``held`` are the numbers of the tensors that the file itself holds."""
    read = [number for number in operator.inputs if number >= 0]
    constant = [number for number in read if number in held]
    # The network's results bear names of their own; then the weights tell.
    named = (_site(tensors[number].name.decode(), sites) for number in (*operator.outputs, *constant))
    weights = tuple(spec for spec in (_weights(tensors[number], name) for number in constant) if spec.shape and "float" in spec.dtype)
    reads = tuple(_spec(tensors[number], turned) for number in read if number not in held)
    makes = tuple(_spec(tensors[number], turned) for number in operator.outputs)
    activation = _ACTIVATIONS.get(getattr(operator.builtinOptions, "fusedActivationFunction", 0))
    known_as = (_KNOWN_AS.get(name, name.title().replace("_", "")), *([activation] if activation else []))
    multiplied = tuple(_spec(tensors[number], False) for number in read if number not in held)
    attributes, macs = _attributes(name, operator.builtinOptions, weights), _macs(name, multiplied, weights, makes)
    return Operator(name, next(filter(None, named), ""), known_as, reads, weights, makes, attributes, macs)


def described(events: Sequence[Event], operators: Sequence[Operator]) -> tuple[Kernel, ...]:
    """The operators that ran as kernels, each with those of the file that it computed.

    Raises :class:`DeviceError` where a product of the file is found in none: its time could not be told from others'.
    """
    own = {event.index for event in events if not event.delegated}
    # The interpreter runs its own operators as early as it can; the delegate keeps the order of the others.
    others = [operator for number, operator in enumerate(operators) if number not in own]
    groups: list[list[Operator]] = []
    last: list[Operator] = []
    following = 0
    for event in events:
        if not event.delegated:
            groups.append([operators[event.index]])
            continue
        number = _next(event.name, others, following)
        if number is None:
            groups.append([])
            continue
        # What lies between was computed with its neighbours: padding with what reads it, the rest with what made it.
        passed = others[following:number]
        last += [operator for operator in passed if operator.op != "PAD" and last]
        last = [*(operator for operator in passed if operator.op == "PAD"), others[number]]
        groups.append(last)
        following = number + 1
    found = sum(operator.op in _PRODUCTS for group in groups for operator in group)
    if found != sum(operator.op in _PRODUCTS for operator in operators) or not any(groups):
        raise DeviceError(f"{found} convolutions and products ran, fewer than the network has", "please report it with the network")
    return _kernels(events, groups)


def _next(name: str, operators: Sequence[Operator], following: int) -> int | None:
    """The next operator of the kind that ``name`` computes; none beyond a product of another kind."""
    kinds = next((ops for prefix, ops in _COMPUTES.items() if name.startswith(prefix)), ())
    for number in range(following, len(operators)):
        if operators[number].op in kinds:
            return number
        if operators[number].op in _PRODUCTS:
            break
    return None


def _kernels(events: Sequence[Event], groups: Sequence[Sequence[Operator]]) -> tuple[Kernel, ...]:
    site = next(group[0].site for group in groups if group)
    used: Counter[str] = Counter()
    kernels = []
    for event, group in zip(events, groups, strict=True):
        main = next((operator for operator in group if operator.op in _PRODUCTS), group[-1] if group else None)
        site = main.site if main else site
        name = f"{site}/{event.name}"
        used[name] += 1
        kernels.append(
            Kernel(
                name=name if used[name] == 1 else f"{name}#{used[name]}",
                op=event.name.split(" (")[0],
                site=site,
                fused_ops=tuple(known for operator in group for known in operator.known_as),
                inputs=group[0].reads if group else (),
                outputs=group[-1].makes if group else (),
                weights=main.weights if main else (),
                attributes=main.attributes if main else (),
                layout="NHWC",
                implementation=("XNNPACK " + event.name) if event.delegated else "LiteRT",
                macs=sum(operator.macs for operator in group),
            )
        )
    return tuple(kernels)


def _all_placed(operators: list[Operator]) -> list[Operator]:
    """Those without a site belong to the one before, the first ones to the next."""
    site = next(operator.site for operator in operators if operator.site)
    placed = []
    for operator in operators:
        site = operator.site or site
        placed.append(replace(operator, site=site))
    return placed


def _site(tensor: str, sites: tuple[str, ...]) -> str:
    """``a.b.Sequential_stage1/c.Block_block2/torch.nn.Conv2d_conv;1`` is a tensor of ``stage1.block2``.

    Lists of modules are not called, and so not named: ``layers.0.attention`` is found as ``0.attention``, where no other site is.
    """
    path = _MODULE.findall(tensor.split(";")[0])
    for length in range(len(path), 0, -1):
        owners = [site for site in sites if _leaves_out_lists(path[:length], site.split("."))]
        exact = ".".join(path[:length])
        if exact in owners or len(owners) == 1:
            return exact if exact in owners else owners[0]
    return ""


def _leaves_out_lists(called: list[str], site: list[str]) -> bool:
    left = iter(site)
    return called[-1] == site[-1] and all(name in left for name in called)


def _spec(tensor: Any, turned: bool) -> TensorSpec:
    shape = tuple(int(axis) for axis in tensor.shape) if tensor.shape is not None else ()
    if turned and len(shape) == 4:
        shape = (shape[0], shape[3], shape[1], shape[2])
    return TensorSpec(shape, _DTYPES[tensor.type])


def _weights(tensor: Any, op: str) -> TensorSpec:
    shape = _spec(tensor, False).shape
    if len(shape) == 4 and op == "DEPTHWISE_CONV_2D":
        shape = (shape[3], 1, shape[1], shape[2])
    elif len(shape) == 4:
        shape = (shape[0], shape[3], shape[1], shape[2])
    return TensorSpec(shape, _DTYPES[tensor.type])


def _attributes(op: str, options: Any, weights: tuple[TensorSpec, ...]) -> tuple[tuple[str, AttributeValue], ...]:
    if op not in ("CONV_2D", "DEPTHWISE_CONV_2D") or not weights:
        return ()
    kernel = weights[0].shape
    return (
        ("dilations", f"{options.dilationHFactor}x{options.dilationWFactor}"),
        ("group", kernel[0] if op == "DEPTHWISE_CONV_2D" else 1),
        ("kernel_shape", f"{kernel[2]}x{kernel[3]}"),
        ("strides", f"{options.strideH}x{options.strideW}"),
    )


def _macs(op: str, reads: tuple[TensorSpec, ...], weights: tuple[TensorSpec, ...], makes: tuple[TensorSpec, ...]) -> int:
    if op not in _PRODUCTS:
        return 0
    # The product of a single attention head is written as FULLY_CONNECTED of two results.
    return makes[0].elements * (prod(weights[0].shape[1:]) if weights else reads[0].shape[-1])
