"""Tables and predictors as an enemy, or a bad disk, would leave them: every kind of damage, drawn from a seed."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from layerclock.datasets.json_rows import json_rows
from layerclock.datasets.schema import SCHEMA
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Mutant", "mutants"]

Random = np.random.Generator
FOOTER = b"layerclock"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One file's content, how it came about, and which readers it is for: ``table``, ``predictor`` or ``kernelwise``."""

    reader: str
    kind: str
    content: bytes


class _TouchesTripwire:
    """What unpickling it would run."""

    def __init__(self, tripwire: str) -> None:
        self.tripwire = tripwire

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.tripwire, "w")


def mutants(originals: dict[str, bytes], number: int, tripwire: Path, seed: int = 0) -> list[Mutant]:
    """``number`` mutants of ``originals`` (by reader), kinds in turn.

    Whatever runs code of the file makes ``tripwire`` exist.
    """
    rng = np.random.default_rng(seed)
    anything: dict[str, Callable[[bytes, Random], bytes]] = {
        "truncated": lambda content, rng: content[: int(rng.integers(0, len(content)))],
        "one bit flipped": lambda content, rng: _flipped(content, rng, 1),
        "many bits flipped": lambda content, rng: _flipped(content, rng, int(rng.integers(2, 200))),
        "a stretch of zeros": lambda content, rng: _overwritten(content, rng, 0),
        "a stretch of ones": lambda content, rng: _overwritten(content, rng, 255),
        "a stretch left out": _cut,
        "a stretch twice": _doubled,
        "the end flipped": lambda content, rng: content[:-600] + _flipped(content[-600:], rng, 3),
        "the start flipped": lambda content, rng: _flipped(content[:200], rng, 3) + content[200:],
        "followed by noise": lambda content, rng: content + rng.bytes(int(rng.integers(1, 4000))),
        "noise": lambda content, rng: rng.bytes(len(content)),
        "pickle": lambda _, __: pickle.dumps(_TouchesTripwire(str(tripwire))),
        "pickle in front": lambda content, _: pickle.dumps(_TouchesTripwire(str(tripwire))) + content,
        "zip bomb": lambda _, __: _zip_bomb(),
        "torch file": lambda _, __: _torch_like(tripwire),
    }
    menus: dict[str, dict[str, Callable[[bytes, Random], bytes]]] = {
        "table": {**anything, **{name: _on_table(edit) for name, edit in _TABLE_EDITS.items()}},
        "predictor": {**anything, **{name: _on_model(edit) for name, edit in _MODEL_EDITS.items()}},
        "kernelwise": {**anything, **{name: _on_model(edit) for name, edit in _MODEL_EDITS.items()}},
    }
    order = ("table", "predictor", "table", "kernelwise")
    made: list[Mutant] = []
    turns = dict.fromkeys(menus, 0)
    while len(made) < number:
        reader = order[len(made) % len(order)]
        names = list(menus[reader])
        kind = names[turns[reader] % len(names)]
        turns[reader] += 1
        made.append(Mutant(reader, kind, menus[reader][kind](originals[reader], rng)))
    return made


def _flipped(content: bytes, rng: Random, bits: int) -> bytes:
    changed = bytearray(content)
    for position in rng.integers(0, 8 * len(content), bits).tolist():
        changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


def _stretch(content: bytes, rng: Random) -> tuple[int, int]:
    start = int(rng.integers(0, len(content)))
    return start, min(len(content), start + int(rng.integers(1, 400)))


def _overwritten(content: bytes, rng: Random, value: int) -> bytes:
    start, end = _stretch(content, rng)
    return content[:start] + bytes([value]) * (end - start) + content[end:]


def _cut(content: bytes, rng: Random) -> bytes:
    start, end = _stretch(content, rng)
    return content[:start] + content[end:]


def _doubled(content: bytes, rng: Random) -> bytes:
    start, end = _stretch(content, rng)
    return content[:end] + content[start:]


def _zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(50_000_000))
    return file.getvalue()


def _torch_like(tripwire: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_TouchesTripwire(str(tripwire))))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


# --- tables -----------------------------------------------------------------------------------------------------------------------


def _on_table(edit: Callable[[pa.Table, Random], pa.Table]) -> Callable[[bytes, Random], bytes]:
    def mutate(content: bytes, rng: Random) -> bytes:
        file = io.BytesIO()
        pq.write_table(_signed(edit(pq.read_table(io.BytesIO(content)), rng)), file, compression="zstd")
        return file.getvalue()

    return mutate


def _signed(rows: pa.Table) -> pa.Table:
    """The same rows with the hash that belongs to them, as an enemy would write it; as they are, if they can have none."""
    try:
        footer = json.loads(rows.schema.metadata[FOOTER])
        if footer["content_hash"] in ("0" * 64, []) or len(rows) > 1000:
            return rows
        texts = sorted(Target.from_json(json.dumps(fields)).to_json() for fields in footer["targets"])
        columns = rows.select(SCHEMA.names).cast(SCHEMA)
        footer["content_hash"] = hashlib.sha256("".join([*texts, *json_rows(columns)]).encode()).hexdigest()
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError, pa.ArrowException):
        return rows
    return rows.replace_schema_metadata({FOOTER: json.dumps(footer)})


def _footer(edit: Callable[[dict[str, Any]], object]) -> Callable[[pa.Table, Random], pa.Table]:
    def mutate(rows: pa.Table, _: Random) -> pa.Table:
        footer = json.loads(rows.schema.metadata[FOOTER])
        changed = edit(footer)
        return rows.replace_schema_metadata({FOOTER: json.dumps(footer if changed is None else changed)})

    return mutate


def _raw_footer(text: str | bytes) -> Callable[[pa.Table, Random], pa.Table]:
    return lambda rows, _: rows.replace_schema_metadata({FOOTER: text})


def _column(name: str, make: Callable[[int, Random], pa.Array]) -> Callable[[pa.Table, Random], pa.Table]:
    return lambda rows, rng: rows.set_column(rows.schema.get_field_index(name), name, make(len(rows), rng))


def _set(where: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(footer: dict[str, Any]) -> None:
        *path, last = where.split(".")
        place: Any = footer
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[last] = value

    return edit


def _many_rows(rows: pa.Table, rng: Random) -> pa.Table:
    """Eight million equal rows of one key, which compress to nothing."""
    del rng
    number = 8_000_000
    null = {field.name: pa.nulls(number, field.type) for field in rows.schema if field.name != "energy_mj"}
    return (
        pa.table({**null, "energy_mj": pa.array(np.zeros(number))}).select(rows.column_names).replace_schema_metadata(rows.schema.metadata)
    )


def _long_text(rows: pa.Table, rng: Random) -> pa.Table:
    """A megabyte of text, written once and meant by a hundred thousand rows."""
    del rng
    number = 100_000
    repeated = rows.take(pa.array(np.zeros(number, dtype=np.int64)))
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, dtype=np.int32)), pa.array(["x" * 1_000_000]))
    return repeated.set_column(rows.schema.get_field_index("reason"), "reason", text)


_TABLE_EDITS: dict[str, Callable[[pa.Table, Random], pa.Table]] = {
    "texts for numbers": _column("latency_us", lambda number, _: pa.array(["fast"] * number)),
    "numbers for texts": _column("key", lambda number, _: pa.array(range(number))),
    "numbers for lists": _column("in_shapes", lambda number, _: pa.array(range(number))),
    "NaN": _column("latency_us", lambda number, _: pa.array([float("nan")] * number)),
    "infinite": _column("latency_us", lambda number, _: pa.array([float("inf")] * number)),
    "huge shapes": _column("in_shapes", lambda number, _: pa.array([[[2**62, 2**62]]] * number)),
    "huge genomes": _column("genome", lambda number, _: pa.array([[2**63 - 1] * 1000] * number)),
    "bytes that are no text": _column("key", lambda number, _: pa.array([b"\xff\xfe"] * number)),
    "keys of a path": _column("key", lambda number, _: pa.array(["../../../etc/passwd"] * number)),
    "an unheard level": _column("level", lambda number, _: pa.array(["../x"] * number)),
    "negative times": _column("latency_us", lambda number, _: pa.array([-5.0] * number)),
    "attributes of no JSON": _column("attributes", lambda number, _: pa.array(["{"] * number)),
    "attributes of a list": _column("attributes", lambda number, _: pa.array(["[1]"] * number)),
    "attributes nested deep": _column("attributes", lambda number, _: pa.array(["[" * 50_000 + "]" * 50_000] * number)),
    "an unheard type": _column("dtype", lambda number, _: pa.array(["object"] * number)),
    "genomes of several lengths": _column("genome", lambda number, _: pa.array([[0] * (turn + 1) for turn in range(number)])),
    "negative samples": _column("n_samples", lambda number, _: pa.array([-(2**31)] * number)),
    "nulls everywhere": _column("level", lambda number, _: pa.nulls(number, pa.string())),
    "no column": lambda rows, rng: rows.drop_columns([rows.column_names[int(rng.integers(0, len(rows.column_names)))]]),
    "no rows": lambda rows, _: rows.slice(0, 0),
    "no footer": lambda rows, _: rows.replace_schema_metadata(None),
    "many equal rows": _many_rows,
    "a long text many times": _long_text,
    "a footer of no JSON": _raw_footer("{"),
    "a footer of no text": _raw_footer(b"\xff\xfe\x00"),
    "a footer nested deep": _raw_footer("[" * 100_000 + "]" * 100_000),
    "a footer with a huge number": _raw_footer('{"schema_version": 1' + "0" * 5000 + "}"),
    "a footer with infinity": _footer(_set("schema_version", float("inf"))),
    "a footer that is a list": _footer(lambda _: [1, 2]),
    "a newer schema": _footer(_set("schema_version", 99)),
    "an older schema": _footer(_set("schema_version", -1)),
    "targets of numbers": _footer(_set("targets", [1, 2])),
    "targets of nothing": _footer(_set("targets", None)),
    "options of the wrong form": _footer(_set("targets", [{"options": 5}])),
    "a target of lists": _footer(_set("targets.0.device", ["x"])),
    "provenance of text": _footer(_set("provenance", "x")),
    "parents of numbers": _footer(_set("provenance.parents", 5)),
    "parents of lists": _footer(_set("provenance.parents", [[1], {}])),
    "conditions of numbers": _footer(_set("provenance.conditions", 7)),
    "a space of lists": _footer(_set("space", ["x"])),
    "additivity of text": _footer(_set("additivity", "x")),
    "coverage of text": _footer(_set("coverage", {"layers_of_the_space": "many"})),
    "ceilings of lists": _footer(_set("ceilings", [1])),
    "ceilings of text": _footer(_set("ceilings", {"flops_per_s": "fast", "bytes_per_s": None})),
    "interference of nothing": _footer(_set("interference", None)),
    "another hash": _footer(_set("content_hash", "0" * 64)),
    "a hash of lists": _footer(_set("content_hash", [])),
}


# --- predictors -------------------------------------------------------------------------------------------------------------------


def _on_model(edit: Callable[[onnx.ModelProto, Random], object]) -> Callable[[bytes, Random], bytes]:
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


_MODEL_EDITS: dict[str, Callable[[onnx.ModelProto, Random], object]] = {
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
