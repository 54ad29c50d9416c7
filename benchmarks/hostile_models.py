"""Predictors as an enemy would write them: edits of the model and of its card."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MODEL_EDITS", "on_model"]

Random = np.random.Generator


def on_model(edit: Callable[[onnx.ModelProto, Random], object]) -> Callable[[bytes, Random], bytes]:
    def mutate(content: bytes, rng: Random) -> bytes:
        model = onnx.load_model_from_string(content)
        edit(model, rng)
        made: bytes = model.SerializeToString()
        return made

    return mutate


def _card(edit: Callable[[dict[str, Any]], object]) -> Callable[[onnx.ModelProto, Random], None]:
    def mutate(model: onnx.ModelProto, _: Random) -> None:
        card = json.loads(model.metadata_props[0].value)
        changed = edit(card)
        model.metadata_props[0].value = json.dumps(card if changed is None else changed)

    return mutate


def _card_text(text: str) -> Callable[[onnx.ModelProto, Random], None]:
    def mutate(model: onnx.ModelProto, _: Random) -> None:
        model.metadata_props[0].value = text

    return mutate


def _external(location: str) -> Callable[[onnx.ModelProto, Random], None]:
    def mutate(model: onnx.ModelProto, _: Random) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return mutate


def _replace_output(model: onnx.ModelProto, nodes: list[onnx.NodeProto], result: str) -> None:
    """Put nodes into the graph whose result takes part in the first output, so that nothing drops them."""
    first = model.graph.output[0].name
    node = next(node for node in model.graph.node if first in node.output)
    node.output[0] = "honest"
    nodes.append(helper.make_node("Add", ["honest", result], [first]))
    model.graph.node.extend(nodes)


def _shape_bomb(model: onnx.ModelProto, rng: Random) -> None:
    del rng
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**20, 2**14], dtype=np.int64), "bomb_shape"))
    nodes = [
        helper.make_node("ConstantOfShape", ["bomb_shape"], ["bomb"]),
        helper.make_node("ReduceMax", ["bomb"], ["bomb_max"], keepdims=0),
    ]
    _replace_output(model, nodes, "bomb_max")


def _product_bomb(model: onnx.ModelProto, rng: Random) -> None:
    """A thin column times a thin row: 16 gigabytes from half a megabyte."""
    del rng
    model.graph.initializer.append(numpy_helper.from_array(np.ones((65536, 1), dtype=np.float32), "column"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 65536), dtype=np.float32), "row"))
    nodes = [
        helper.make_node("MatMul", ["column", "row"], ["bomb"]),
        helper.make_node("ReduceMax", ["bomb"], ["bomb_max"], keepdims=0),
    ]
    _replace_output(model, nodes, "bomb_max")


def _sparse_bomb(model: onnx.ModelProto, rng: Random) -> None:
    del rng
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("places", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2**33]))


def _endless_loop(model: onnx.ModelProto, rng: Random) -> None:
    del rng
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["value"], ["same"])], "body",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("value", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("same", TensorProto.FLOAT, [])],
    )  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, dtype=np.float32), "zero"))
    _replace_output(model, [helper.make_node("Loop", ["", "true", "zero"], ["turned"], body=body)], "turned")


def _deep(model: onnx.ModelProto, rng: Random) -> None:
    del rng
    graph = helper.make_graph([helper.make_node("Identity", ["zero"], ["inner"])], "g", [], [helper.make_tensor_value_info("inner", 1, [])])
    leaf = graph
    for _ in range(20):
        node = helper.make_node("If", ["condition"], ["inner"], then_branch=graph, else_branch=leaf)
        graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("inner", 1, [])])
    model.graph.node.extend(graph.node)


def _nan_constants(model: onnx.ModelProto, rng: Random) -> None:
    del rng
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.full(tuple(tensor.dims), np.nan, dtype=np.float32), tensor.name))


def _edit(change: Callable[[onnx.ModelProto], object]) -> Callable[[onnx.ModelProto, Random], None]:
    def mutate(model: onnx.ModelProto, _: Random) -> None:
        change(model)

    return mutate


def _set_dims(model: onnx.ModelProto, dims: list[int]) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)


MODEL_EDITS: dict[str, Callable[[onnx.ModelProto, Random], object]] = {
    "external data, absolute": _external("/etc/passwd"),
    "external data, up": _external("../../../../etc/passwd"),
    "external data, beside": _external("README.md"),
    "huge dimensions": _edit(lambda model: _set_dims(model, [2**40])),
    "negative dimensions": _edit(lambda model: _set_dims(model, [-5])),
    "dimensions that overflow": _edit(lambda model: _set_dims(model, [2**32, 2**32, 2])),
    "a shape bomb": _shape_bomb,
    "a product bomb": _product_bomb,
    "a sparse bomb": _sparse_bomb,
    "an endless loop": _endless_loop,
    "graphs nested deep": _deep,
    "NaN constants": _nan_constants,
    "an unheard operator": _edit(lambda model: setattr(model.graph.node[0], "op_type", "System")),
    "an unheard domain": _edit(lambda model: setattr(model.graph.node[0], "domain", "evil.ops")),
    "a cycle": _edit(lambda model: model.graph.node[0].input.__setitem__(0, model.graph.node[-1].output[0])),
    "no nodes": _edit(lambda model: model.graph.ClearField("node")),
    "no outputs": _edit(lambda model: model.graph.ClearField("output")),
    "no inputs": _edit(lambda model: model.graph.ClearField("input")),
    "no constants": _edit(lambda model: model.graph.ClearField("initializer")),
    "an opset of the future": _edit(lambda model: setattr(model.opset_import[0], "version", 9999)),
    "no card": _edit(lambda model: model.ClearField("metadata_props")),
    "a card of no JSON": _card_text("{"),
    "a card nested deep": _card_text("[" * 100_000 + "]" * 100_000),
    "a card that is a list": _card(lambda _: [1, 2]),
    "a card that is a number": _card(lambda _: 5),
    "a format of the future": _card(lambda card: card.update(format=99)),
    "another unit": _card(lambda card: card.update(unit="years")),
    "an unheard field": _card(lambda card: card.update(run="import os")),
    "a target of text": _card(lambda card: card.update(target="cpu")),
    "a target of nothing": _card(lambda card: card.update(target=None)),
    "genes of numbers": _card(lambda card: card.update(genes=[1, 2], caches=["x"])),
    "genes of nothing": _card(lambda card: card.update(genes=None, caches=None)),
    "an infinite width": _card(lambda card: card.update(interval_half_width=float("inf"), interval_factor=float("inf"))),
    "a width of text": _card(lambda card: card.update(interval_half_width="wide", interval_factor="wide")),
    "a noise of lists": _card(lambda card: card.update(noise_floor=[], parameters=[])),
    "half of the card": _card(lambda card: dict(list(card.items())[: len(card) // 2])),
}
