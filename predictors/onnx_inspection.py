"""What an ONNX file must not hold, found before any runtime sees it: other files, functions, and small texts of huge tensors.

Reads the wire format of protocol buffers (protobuf.dev/programming-guides/encoding) in the few fields of ``onnx.proto`` that matter,
so that asking a predictor still needs no onnx. A runtime resolves external data on loading, and folds constants: both would happen
before anything of ours could look.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["refuse_unsafe"]

# A predictor's own largest constants have some million elements.
_MOST_ELEMENTS = 2**26
_DEEPEST_GRAPH = 4
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_UNBOUNDED = ("Loop", "SequenceMap")
# Operators whose result is as large as the values of one input say, and that input's position.
_SIZED_BY_VALUES = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Range": 1, "Pad": 1, "Resize": 3, "Upsample": 1, "OneHot": 1}
# Fields of onnx.proto's messages.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = 5, 6, 10, 11, (22, 23)
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_INT64S, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 2, 7, 8, 9, 13, 14
_INT64, _IN_ANOTHER_FILE = 7, 1


class _Field(NamedTuple):
    number: int
    value: int
    content: memoryview


def refuse_unsafe(model: bytes) -> None:
    """Raise ``ValueError``, which says why, if a runtime should not be given ``model``."""
    for field in _fields(memoryview(model)):
        if field.number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise ValueError("it holds functions of its own")
        if field.number == _MODEL_GRAPH:
            _graph(field.content, 1)


def _graph(message: memoryview, depth: int) -> None:
    if depth > _DEEPEST_GRAPH:
        raise ValueError("its graphs are nested too deep")
    constants: dict[bytes, int] = {}
    nodes = []
    for field in _fields(message):
        if field.number == _GRAPH_SPARSE:
            raise ValueError("it holds sparse tensors")
        if field.number == _GRAPH_INITIALIZER:
            name, size = _tensor(field.content)
            constants[name] = size
        elif field.number == _GRAPH_NODE:
            nodes.append(field.content)
    for node in nodes:
        _node(node, constants, depth)


def _node(message: memoryview, constants: dict[bytes, int], depth: int) -> None:
    inputs, outputs, operator, domain = [], [], "", ""
    sizes = []
    for field in _fields(message):
        if field.number == _NODE_INPUT:
            inputs.append(bytes(field.content))
        elif field.number == _NODE_OUTPUT:
            outputs.append(bytes(field.content))
        elif field.number == _NODE_OPERATOR:
            operator = bytes(field.content).decode("utf-8", "replace")
        elif field.number == _NODE_DOMAIN:
            domain = bytes(field.content).decode("utf-8", "replace")
        elif field.number == _NODE_ATTRIBUTE:
            sizes += _attribute(field.content, depth)
    if domain not in _DOMAINS or operator in _UNBOUNDED:
        raise ValueError(f"it uses the operator {f'{domain}.{operator}'.lstrip('.')[:60]!r}, which no predictor needs")
    position = _SIZED_BY_VALUES.get(operator)
    if position is not None and position < len(inputs) and constants.get(inputs[position], 0) > _MOST_ELEMENTS:
        raise ValueError(f"its operator {operator!r} would make a tensor of {constants[inputs[position]]} elements")
    if operator == "Constant" and sizes and outputs:
        constants[outputs[0]] = sizes[0]


def _attribute(message: memoryview, depth: int) -> list[int]:
    """What the whole numbers of its tensors multiply to."""
    sizes = []
    for field in _fields(message):
        if field.number in _ATTRIBUTE_SPARSE:
            raise ValueError("it holds sparse tensors")
        if field.number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            sizes.append(_tensor(field.content)[1])
        elif field.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            _graph(field.content, depth + 1)
    return sizes


def _tensor(message: memoryview) -> tuple[bytes, int]:
    """Name, and the product of the values if they are a few whole numbers, as a shape's are; else zero."""
    dims: list[int] = []
    kind, name, values, raw = 0, b"", [], b""
    for field in _fields(message):
        if field.number == _TENSOR_EXTERNAL or (field.number == _TENSOR_LOCATION and field.value == _IN_ANOTHER_FILE):
            raise ValueError("it reads its numbers from another file")
        if field.number == _TENSOR_DIMS:
            dims += _whole_numbers(field)
        elif field.number == _TENSOR_TYPE:
            kind = field.value
        elif field.number == _TENSOR_NAME:
            name = bytes(field.content)
        elif field.number == _TENSOR_INT64S and len(field.content) <= 100:
            values += _whole_numbers(field)
        elif field.number == _TENSOR_RAW and len(field.content) <= 80:
            raw = bytes(field.content)
    if any(not 0 <= size < 2**63 for size in dims) or prod(dims) > _MOST_ELEMENTS:
        raise ValueError(f"it holds a tensor of shape {tuple(dims[:8])}")
    if kind == _INT64 and raw and len(raw) % 8 == 0:
        values = [int.from_bytes(raw[start : start + 8], "little", signed=True) for start in range(0, len(raw), 8)]
    return name, prod(abs(value) for value in values) if kind == _INT64 and values else 0


def _whole_numbers(field: _Field) -> list[int]:
    """One number, or several that are packed."""
    if not field.content:
        return [field.value]
    numbers, position = [], 0
    while position < len(field.content):
        value, position = _varint(field.content, position)
        numbers.append(value)
    return numbers


def _fields(message: memoryview) -> Iterator[_Field]:
    position, nothing = 0, memoryview(b"")
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield _Field(number, value, nothing)
            continue
        if wire == 2:
            length, position = _varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("it is no protocol buffer, or damaged")
        if position + length > len(message):
            raise ValueError("it ends too early")
        yield _Field(number, 0, message[position : position + length])
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message) and shift < 70:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("it ends too early")
