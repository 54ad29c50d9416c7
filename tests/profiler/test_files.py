"""Any ONNX file on the real runtimes: every kernel belongs to a layer, and a network that hangs or is refused harms no other."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layerclock.cli.breakdown import breakdown_json
from layerclock.datasets.check import check_table
from layerclock.datasets.table import read_table
from layerclock.devices.onnx_file import prepare_model
from layerclock.errors import ArgumentError, CampaignError, DeviceError, SpaceError
from layerclock.interfaces import DeviceOptions
from layerclock.network import TensorSpec
from layerclock.plugins import open_device
from layerclock.profiler import files
from layerclock.profiler.campaign import profile
from layerclock.profiler.files import FileSpace, profile_files
from layerclock.profiler.plan import Plan
from layerclock.profiler.store import CampaignFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable

RUNTIMES = ("onnxruntime:cpu", "openvino:CPU")


def _random(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(0).standard_normal(shape, dtype=np.float32), name)


def _save(path: Path, nodes: list[onnx.NodeProto], shape: tuple[int | str, ...], weights: list[onnx.TensorProto]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions with activations, a residual addition, and a classifier."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "/stem/conv/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "/stem/act/Relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "/block/conv/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["d"], "/block/Add"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "/head/pool/GlobalAveragePool"),
        helper.make_node("Flatten", ["e"], ["f"], "/head/Flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], "/head/fc/Gemm"),
    ]
    weights = [_random("w1", 16, 3, 3, 3), _random("w2", 16, 16, 3, 3), _random("w3", 16, 10)]
    return _save(tmp_path_factory.mktemp("cnn") / "cnn.onnx", nodes, (1, 3, 32, 32), weights)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A loop that multiplies for longer than anybody waits."""
    inner = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("MatMul", ["state", "w"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 64]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 64]),
        ],
    )
    weights = [
        numpy_helper.from_array(np.eye(64, dtype=np.float32), "w"),
        numpy_helper.from_array(np.array(2**50, dtype=np.int64), "turns"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    loop = helper.make_node("Loop", ["turns", "yes", "x"], ["y"], "/loop/Loop", body=inner)
    return _save(tmp_path_factory.mktemp("endless") / "endless.onnx", [loop], (1, 64), weights)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_file_is_profiled_layer_by_layer_and_no_kernel_is_lost(name: str, cnn: Path, tmp_path: Path) -> None:
    table = profile_files(open_device(name), [cnn], tmp_path, depth=1, rounds=2, runs=4)
    assert read_table(tmp_path / "table.parquet").content_hash == table.content_hash
    assert read_table(tmp_path / "table.parquet").ceilings == table.ceilings
    assert table.space == "onnx:cnn"
    layers = {json.loads(row["attributes"])["module"]: row for row in table.level("layer").to_pylist()}
    assert set(layers) == {"stem", "block", "head"}
    assert {module: row["macs"] for module, row in layers.items()} == {
        "stem": 16 * 32 * 32 * 3 * 9,
        "block": 16 * 32 * 32 * 16 * 9,
        "head": 16 * 10,
    }
    kernels = table.level("kernel").to_pylist()
    assert sum(row["n_networks"] for row in kernels) == sum(row["kernels"] for row in layers.values())
    fused = [op for row in kernels for op in row["fused_ops"] for _ in range(row["n_networks"])]
    assert fused.count("Conv") == 2
    assert {"Relu", "Add", "GlobalAveragePool", "Gemm"} <= set(fused)
    (network,) = table.level("network").to_pylist()
    assert network["macs"] == sum(row["macs"] for row in layers.values())
    assert network["latency_us"] > 0
    assert network["peak_resident_bytes"] > 2**20
    assert network["n_samples"] >= 8
    assert set(table.ceilings) == {"flops_per_s", "bytes_per_s"}
    assert all(rate > 1e6 for rate in table.ceilings.values())
    assert table.interference["reference_at_rest_ns"] > 0


def test_ceilings_are_measured_while_the_folder_is_the_campaign_s(cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another campaign that begins meanwhile would disturb them, and its table would be written over."""

    def refused(*_: object) -> dict[str, float]:
        with pytest.raises(CampaignError, match="another process is measuring"), CampaignFolder(tmp_path).lock():
            pass
        return {"flops_per_s": 1e12}

    monkeypatch.setattr(files, "measure_ceilings", refused)
    table = profile_files(open_device("fake:cpu"), [cnn], tmp_path, rounds=2, runs=2)
    assert read_table(tmp_path / "table.parquet").ceilings == table.ceilings == {"flops_per_s": 1e12}


def test_a_network_that_really_hangs_or_is_refused_costs_its_own_row(cnn: Path, endless: Path, tmp_path: Path) -> None:
    unknown = _save(tmp_path / "unknown.onnx", [helper.make_node("NoSuchOperator", ["x"], ["y"], "/a/No")], (1, 3), [])
    files = [unknown, endless, cnn]
    table = profile_files(open_device("onnxruntime:cpu"), files, tmp_path / "run", depth=1, rounds=2, runs=2, limit_s=3.0)
    refused, hanging, fine = table.level("network").to_pylist()
    assert (refused["status"], hanging["status"]) == ("failed", "failed")
    assert "ONNX Runtime cannot load" in refused["reason"]
    assert hanging["reason"].startswith("running it did not end within 3 s")
    assert fine["latency_us"] > 0


def test_several_broken_files_cost_the_others_nothing(cnn: Path, tmp_path: Path) -> None:
    """Of a space's networks, which are alike, the first three would tell of all."""
    broken = [_save(tmp_path / f"b{number}.onnx", [helper.make_node("NoSuchOperator", ["x"], ["y"])], (1, 3), []) for number in range(4)]

    def profiled(files: list[Path]) -> LatencyTable:
        space = FileSpace("onnx:some", {file.stem: prepare_model(file, depth=1) for file in files})
        plan = Plan(np.arange(len(files))[:, None], np.zeros((0, 1), dtype=np.int64))
        folder = tmp_path / f"{len(files)}"
        return profile(open_device("onnxruntime:cpu"), space, folder, plan=plan, rounds=2, runs=2, export=space.export)

    assert [row["status"] == "failed" for row in profiled([*broken, cnn]).level("network").to_pylist()] == [True] * 4 + [False]
    with pytest.raises(CampaignError, match=r"no network could be profiled: ONNX Runtime cannot load"):
        profiled(broken)


def _branch(name: str, op: str, condition: str, output: str) -> onnx.NodeProto:
    """Of what ``a`` holds, ``op`` or the negative; operators inside are called as those outside."""
    value = helper.make_tensor_value_info("inside", TensorProto.FLOAT, [1, 64])
    bodies = [helper.make_graph([helper.make_node(one, ["a"], ["inside"], "/body/Relu")], one, [], [value]) for one in (op, "Neg")]
    return helper.make_node("If", [condition], [output], name, then_branch=bodies[0], else_branch=bodies[1])


@pytest.mark.parametrize("name", RUNTIMES)
def test_operators_of_branches_belong_to_the_branch(name: str, tmp_path: Path) -> None:
    """Also where the runtime knows which is taken, and takes the branch to pieces."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "/body/MatMul"),
        helper.make_node("Relu", ["m"], ["a"], "/body/Relu"),
        helper.make_node("ReduceSum", ["a"], ["s"], "/choice/ReduceSum", keepdims=0),
        helper.make_node("Greater", ["s", "least"], ["c"], "/choice/Greater"),
        _branch("/free/If", "Sigmoid", "c", "f"),
        _branch("/known/If", "Tanh", "yes", "k"),
        helper.make_node("Add", ["f", "k"], ["y"], "/end/Add"),
    ]
    weights = [
        _random("w", 64, 64),
        numpy_helper.from_array(np.array(1, dtype=np.float32), "least"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    prepared = prepare_model(_save(tmp_path / "m.onnx", nodes, (1, 64), weights), depth=1)
    layers = {one.site: one.layer for one in prepared.layers}
    assert layers["free"].inputs == (TensorSpec((), "bool"), TensorSpec((1, 64)))
    assert dict(layers["free"].attributes)["unshaped"] == 1
    times = open_device(name).load(prepared.file).kernel_times(3)
    # OpenVINO fuses the branch that is known into what follows it.
    assert {kernel.site for kernel in times.kernels} | {"known"} == {"body", "choice", "free", "known", "end"}
    assert times.samples_ns.shape == (3, len(times.kernels))


def test_files_of_equal_names_or_none_are_refused(cnn: Path, tmp_path: Path) -> None:
    for paths in ([], [cnn, tmp_path / "cnn.onnx"]):
        with pytest.raises(ArgumentError, match="each of another name"):
            profile_files(open_device("fake:cpu"), paths, tmp_path)
    with pytest.raises(DeviceError, match=r"absent\.onnx as an ONNX model"):
        profile_files(open_device("fake:cpu"), [tmp_path / "absent.onnx"], tmp_path)


def test_the_batch_is_that_of_the_device(cnn: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"--batch|is 1 in the model, not 2"):
        profile_files(open_device("fake:cpu", DeviceOptions(batch=2)), [cnn], tmp_path)


@pytest.mark.parametrize("axes", [("N", 16, 32, 32), (32, 16, 32, 32)])
def test_at_a_batch_layers_kernels_and_check_tell_the_same_work(axes: tuple[int | str, ...], tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "/body/Conv", pads=[1, 1, 1, 1])]
    path = _save(tmp_path / "m.onnx", nodes, axes, [_random("w", 16, 16, 3, 3)])
    table = profile_files(open_device("fake:cpu", DeviceOptions(batch=32)), [path], tmp_path / "run", rounds=2, runs=4)
    of_one = 16 * 32 * 32 * 16 * 9
    (layer,), (kernel,), (network,) = (table.level(level).to_pylist() for level in ("layer", "kernel", "network"))
    assert (layer["macs"], network["macs"], kernel["macs"]) == (of_one, of_one, 32 * of_one)
    assert layer["bytes"] == kernel["bytes"] == 4 * (2 * 32 * 16 * 32 * 32 + 16 * 16 * 9)
    told: dict[str, Any] = {**breakdown_json(table)}
    (one,), (other,) = told["layers"], told["kernels"]
    assert one["flops"] == other["flops"] == 2 * 32 * of_one
    assert one["flops_per_byte"] == other["flops_per_byte"]
    assert [found.rule for found in check_table(table) if not found.kept and "faster than" in found.rule] == []


def _whole(name: str, *shape: int, dtype: type = np.int8) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(0).integers(-60, 60, shape).astype(dtype), name)


def _half(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "/body/MatMul")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, (1, 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, (1, 32))],
        [numpy_helper.from_array(np.ones((64, 32), dtype=np.float16), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def _quantised(path: Path, weights_site: str) -> Path:
    """A product of quantised numbers, with a bias; the weights are dequantised at a site of their own or at the product's."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], "/body/q/Q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], "/body/q/DQ"),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], f"/{weights_site}/w/DQ", axis=1),
        helper.make_node("DequantizeLinear", ["b", "sb"], ["bd"], "/body/b/DQ"),
        helper.make_node("Gemm", ["xd", "wd", "bd"], ["y"], "/body/Gemm"),
    ]
    weights = [_whole("w", 64, 32), _whole("b", 32, dtype=np.int32), _whole("zw", 32), _whole("z", dtype=np.uint8)]
    weights += [numpy_helper.from_array(np.full(shape, 0.1, dtype=np.float32), name) for name, shape in _SCALES.items()]
    return _save(path, nodes, (1, 64), weights)


_SCALES: dict[str, tuple[int, ...]] = {"s": (), "sw": (32,), "sb": ()}


@pytest.mark.parametrize(
    ("make", "params", "weight_bytes", "moved"),
    [
        (_half, 64 * 32, 2 * 64 * 32, 2 * (64 + 32)),
        (partial(_quantised, weights_site="body"), 64 * 32 + 32 + 34, 64 * 32 + 4 * 32 + 4 * 34, 4 * (64 + 32)),
        (partial(_quantised, weights_site="elsewhere"), 64 * 32 + 32 + 34, 64 * 32 + 4 * 32 + 4 * 34, 4 * (64 + 32)),
    ],
)
def test_weights_are_counted_in_their_own_type(
    make: Callable[[Path], Path], params: int, weight_bytes: int, moved: int, tmp_path: Path
) -> None:
    """Those that quantised operators read are weights, too, wherever they are dequantised; zero points are none."""
    table = profile_files(open_device("fake:cpu"), [make(tmp_path / "m.onnx")], tmp_path / "run", depth=1, rounds=2, runs=4)
    (layer,) = [row for row in table.level("layer").to_pylist() if json.loads(row["attributes"])["module"] == "body"]
    assert (layer["params"], layer["bytes"]) == (params, weight_bytes + moved)


def test_given_files_are_a_space_of_one_gene(cnn: Path) -> None:
    space = FileSpace("onnx:one,two", {"one": prepare_model(cnn, depth=1), "two": prepare_model(cnn, depth=2)})
    assert [gene.choices for gene in space.genes] == [("one", "two")]
    assert [site.name for site in space.sites][:3] == ["stem", "block", "head"]
    assert space.export([1]) == space.models["two"].file
    with pytest.raises(SpaceError, match="cannot be built"):
        space.build([0])
