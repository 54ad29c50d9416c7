"""Any ONNX file made ready to be timed: fixed shapes, one name for each operator, and the layers that they belong to.

Exporters leave the module path of an operator in its name (TorchScript: ``/layer1/layer1.0/conv1/Conv``) or in its metadata
(dynamo: ``pkg.torch.onnx.name_scopes``); the first few parts of it name the layer. In a file without such paths, each
convolution or matrix product begins a layer. Needs onnx.
"""

from __future__ import annotations

import ast
import hashlib
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # what onnx.load raises on a damaged file
from onnx.external_data_helper import load_external_data_for_model, load_external_data_for_tensor

from layerclock.atomic import make_folder, write_atomically
from layerclock.devices.attribution import ANCHORS, SourceGraph
from layerclock.devices.cache import cache_folder
from layerclock.devices.file_layers import layers_of
from layerclock.devices.quantisation import is_quantised
from layerclock.errors import ArgumentError, DeviceError
from layerclock.interfaces import ModelFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.network import PlacedLayer

__all__ = ["PreparedModel", "module_path", "prepare_model", "weights_file"]

# Part of the cache key: raise it when the prepared file changes for the same model.
_PREPARE_VERSION = 3
# A protobuf file ends at 2 GiB; larger weights stand in a file beside it.
_LARGEST_BYTES = 1_800_000_000
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
# A run that only shows shapes is given up after so many seconds.
_LONGEST_S = 30.0


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model file that every device can load, and its layers in order of execution."""

    file: ModelFile
    layers: tuple[PlacedLayer, ...]


def prepare_model(path: Path, batch: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None, depth: int = 2) -> PreparedModel:
    """Make ``path`` ready: ``shapes`` fixes inputs by name, a free first axis becomes ``batch``, ``depth`` parts of a path name a layer.

    The given file is not touched; the prepared one lies in the cache. Raises :class:`DeviceError` if it is no valid ONNX
    model, and :class:`ArgumentError` if a shape is still free, or contradicts the model.
    """
    if depth < 1:
        raise ArgumentError(f"depth={depth} names no layer", "depth >= 1")
    try:
        content = path.read_bytes()
        model = onnx.load(str(path), load_external_data=False)
        content += b"".join(hashlib.sha256(beside.read_bytes()).digest() for beside in _weights_beside(model, path))
        _read_weights_beside(model, path)
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise DeviceError(f"cannot read {path} as an ONNX model: {error}", "export it again") from error
    if not model.graph.node:
        raise DeviceError(f"{path} holds no operators", "is it an ONNX model?")
    try:
        _fix_shapes(model, batch, dict(shapes or {}))
    except ArgumentError as error:
        raise ArgumentError(f"{path}: {error.message}", error.hint) from None
    sites = _name_nodes(model, depth)
    asked = repr([_PREPARE_VERSION, onnx.__version__, batch, sorted((shapes or {}).items()), depth])
    digest = hashlib.sha256(content + asked.encode()).hexdigest()[:24]
    prepared = cache_folder() / "models" / f"{digest}.onnx"
    if not prepared.exists():
        _keep(model, prepared)
    source = SourceGraph(prepared)
    precision = "int8" if is_quantised(model.graph) else "float32"
    return PreparedModel(
        ModelFile(prepared, digest, tuple(sites), precision=precision), layers_of(source, sites, f"{path.stem}@{digest[:8]}", batch)
    )


def _weights_beside(model: onnx.ModelProto, path: Path) -> list[Path]:
    """The files in which a large model keeps its weights."""
    places = {entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"}
    return [path.parent / place for place in sorted(places)]


def _read_weights_beside(model: onnx.ModelProto, path: Path) -> None:
    """Fill in the weights that stand in other files; as onnx does, but through links, which caches of downloads consist of."""
    for tensor in model.graph.initializer:
        place = next((Path(entry.value) for entry in tensor.external_data if entry.key == "location"), None)
        # Where the model says; what the link beside it leads to is for whoever made the link.
        if place and len(place.parts) == 1 and (path.parent / place).is_symlink() and (file := (path.parent / place).resolve()).is_file():
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = file.name
            load_external_data_for_tensor(tensor, str(file.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    load_external_data_for_model(model, str(path.parent))


def _keep(model: onnx.ModelProto, prepared: Path) -> None:
    """Save ``model`` with the shapes of all its tensors, at once: an interruption leaves no file without them."""
    with tempfile.TemporaryDirectory(dir=make_folder(prepared.parent)) as folder:
        draft = Path(folder) / prepared.name
        _save(model, draft)
        source = SourceGraph(draft)
        missing = [tensor for tensor in source.producer if tensor not in source.shapes]
        if missing:
            _fill_in_shapes(model, source, draft, missing)
            _save(model, draft)
        for file in (weights_file(draft), draft):
            if file.exists():
                file.replace(prepared.with_name(file.name))


def _save(model: onnx.ModelProto, path: Path) -> None:
    large = model.ByteSize() > _LARGEST_BYTES or model.ByteSize() < 0
    location = weights_file(path).name if large else None
    write_atomically(path, lambda draft: onnx.save(model, str(draft), save_as_external_data=large, location=location))


def weights_file(path: Path) -> Path:
    """Where a prepared model keeps its weights if they are too large for one file with the rest."""
    return path.with_name(f"{path.name}.weights")


def _fix_shapes(model: onnx.ModelProto, batch: int, shapes: dict[str, tuple[int, ...]]) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    unknown = sorted(shapes.keys() - {value.name for value in inputs})
    if unknown:
        raise ArgumentError(f"the model has no input {unknown[0]!r}", f"its inputs: {', '.join(value.name for value in inputs)}")
    for number, value in enumerate(inputs):
        kind = str(value.type.WhichOneof("value"))
        if kind != "tensor_type":
            raise ArgumentError(f"input {value.name!r} is no tensor ({kind})", "export the network with tensors as its inputs")
        asked = shapes.get(value.name)
        if not value.type.tensor_type.HasField("shape"):
            if asked is None:
                raise ArgumentError(f"input {value.name!r} tells no shape", f"give it one, for example: --shape {value.name}={batch}x64")
            value.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in asked)
        axes = value.type.tensor_type.shape.dim
        if asked is not None and len(asked) != len(axes):
            raise ArgumentError(f"input {value.name!r} has {len(axes)} axes, not {len(asked)}", "give as many as it has")
        for position, axis in enumerate(axes):
            fixed = axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None
            size = asked[position] if asked else fixed or (batch if position == 0 else None)
            if size is None:
                sizes = [a.dim_value if a.dim_value > 0 else batch if n == 0 else 64 for n, a in enumerate(axes)]
                free = "x".join(str(a.dim_value) if a.dim_value > 0 else a.dim_param or "?" for a in axes)
                hint = f"fix it, for example: --shape {value.name}={'x'.join(map(str, sizes))}"
                if number == 0 and sizes[0] != batch:
                    hint += f" --batch {sizes[0]}"
                raise ArgumentError(f"input {value.name!r} has the free shape {free}", hint)
            if fixed is not None and size != fixed:
                raise ArgumentError(
                    f"axis {position} of input {value.name!r} is {fixed} in the model, not {size}", "export it for that size"
                )
            axis.ClearField("dim_param")
            axis.dim_value = size
    first = inputs[0].type.tensor_type.shape.dim if inputs else []
    if first and first[0].dim_value != batch:
        hint = f"profile it with --batch {first[0].dim_value}"
        if inputs[0].name in shapes:
            hint += f", or give a --shape of batch {batch}"
        raise ArgumentError(f"the model's batch is {first[0].dim_value}, not {batch}", hint)
    # Shapes that other sizes led to would contradict the new ones; they are inferred anew.
    del model.graph.value_info[:]
    for value in model.graph.output:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.ClearField("dim_param")


def _fill_in_shapes(model: onnx.ModelProto, source: SourceGraph, draft: Path, missing: list[str]) -> None:
    """Note the shapes of tensors that onnx cannot infer (exporters compute some with operators), as one run on ONNX Runtime shows them.

    ``source`` is the graph of ``draft``, which holds the model, with its weights in a file beside it if they are large.

    A model with loops or branches is left as it is: it may run for ever.
    """
    if any(node.op_type in _CONTROL_FLOW for node in model.graph.node):
        return
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    present = {value.name for value in model.graph.output}
    extended.graph.output.extend(onnx.ValueInfoProto(name=name) for name in missing if name not in present)
    showing = draft.with_suffix(".shapes.onnx")
    _save(extended, showing)
    try:
        session = onnxruntime.InferenceSession(str(showing), _plain_options(), providers=["CPUExecutionProvider"])
        running = onnxruntime.RunOptions()
        limit = threading.Timer(_LONGEST_S, setattr, (running, "terminate", True))
        limit.start()
        try:
            results = session.run(missing, source.example_inputs(), running)
        finally:
            limit.cancel()
    except Exception:  # the binding raises classes of its own; without shapes, kernels are reported as of unknown shape
        return
    for name, result in zip(missing, results, strict=True):
        if isinstance(result, np.ndarray) and name not in present:
            kind = onnx.helper.np_dtype_to_tensor_dtype(result.dtype)
            model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, result.shape))


def _plain_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def module_path(node: onnx.NodeProto) -> tuple[str, ...]:
    """The path of the module that an operator comes from, from the outside in; empty where the exporter left none."""
    scopes = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
    if scopes:
        longest: str = max(ast.literal_eval(scopes)[:-1], key=len, default="")
        return tuple(filter(None, longest.split(".")))
    parts = [part for part in node.name.split("/")[:-1] if part]
    # TorchScript names a member of a sequence after the sequence: layer1, layer1.0.
    kept = [part for part, after in zip_longest(parts, parts[1:], fillvalue="") if not after.startswith(f"{part}.")]
    return tuple(piece for part in kept for piece in part.split(".") if piece)


def _name_nodes(model: onnx.ModelProto, depth: int) -> list[str]:
    """Name each operator ``<layer>/<operator>``, once only, and return the layers in order."""
    site_of_tensor: dict[str, str] = {}
    used: Counter[str] = Counter()
    sites: dict[str, None] = {}
    paths = any(module_path(node) for node in model.graph.node)
    current = ""
    for number, node in enumerate(model.graph.node):
        path = module_path(node)
        before = next((site_of_tensor[name] for name in node.input if name in site_of_tensor), "")
        if path:
            site = ".".join(path[:depth])
        elif paths:
            site = before or node.op_type
        else:
            if node.op_type in ANCHORS or not current:
                current = f"{node.op_type}_{number}"
            site = current
        sites[site] = None
        name = "/".join([site, *path[depth:], node.op_type])
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"
        _name_inside(node)
        site_of_tensor |= dict.fromkeys(node.output, site)
    return list(sites)


def _name_inside(node: onnx.NodeProto) -> None:
    """Name the operators of a branch or loop after it, as parts of it: a runtime may take it to pieces."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    for number, inner in enumerate(inner for body in bodies for inner in body.node):
        inner.name = f"{node.name}/{inner.op_type}_{number}"
        _name_inside(inner)
