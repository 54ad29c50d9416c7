"""Loop nests are what the operators of a model compute: the same multiply-accumulates, with the right loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from layerclock.devices.accelerators.space_nests import space_nests
from layerclock.devices.accelerators.workload import LoopNest, NestColumns, model_kernels, model_nests
from layerclock.devices.attribution import SourceGraph
from layerclock.devices.export import Exporter
from layerclock.errors import ArgumentError, DeviceError, SpaceError
from layerclock.plugins import load_space
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layerclock.interfaces import ModelFile, SearchSpace


def model(folder: Path, nodes: list[onnx.NodeProto], given: Mapping[str, tuple[int, ...]], weights: Mapping[str, tuple[int, ...]]) -> Path:
    """A file of these operators, whose last one makes the output."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [helper.make_tensor(name, TensorProto.FLOAT, shape, np.zeros(shape).ravel()) for name, shape in weights.items()],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


def node(op: str, inputs: list[str], name: str, **attributes: int | list[int]) -> onnx.NodeProto:
    made = helper.make_node(op, inputs, [f"{name}_out"], name=f"site/{name}")
    made.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    return made


@pytest.mark.parametrize(
    ("nodes", "given", "weights", "expected"),
    [
        (
            [node("Conv", ["x", "w"], "conv", group=2, strides=[2, 1], pads=[1, 1, 1, 1], kernel_shape=[3, 3])],
            {"x": (2, 4, 9, 7)}, {"w": (8, 2, 3, 3)},
            LoopNest(2, 8, 4, 5, 7, 3, 3, 2, 1, groups=2),
        ),
        (
            [node("Conv", ["x", "w"], "conv", dilations=[2, 2], kernel_shape=[3, 3])],
            {"x": (1, 4, 9, 9)}, {"w": (8, 4, 3, 3)},
            LoopNest(1, 8, 4, 5, 5, 3, 3, dilation_y=2, dilation_x=2),
        ),
        (
            [node("Conv", ["x", "w"], "conv", strides=[2], kernel_shape=[3])],
            {"x": (1, 4, 9)}, {"w": (6, 4, 3)},
            LoopNest(1, 6, 4, 1, 4, 1, 3, 1, 2),
        ),
        ([node("Gemm", ["x", "w"], "gemm", transB=1)], {"x": (3, 16)}, {"w": (10, 16)}, LoopNest(1, 10, 16, 1, 3, 1, 1)),
        ([node("MatMul", ["x", "w"], "product")], {"x": (1, 5, 16)}, {"w": (16, 10)}, LoopNest(1, 10, 16, 1, 5, 1, 1)),
        # Four heads of 7 x 16 times 16 x 9: a grouped convolution.
        ([node("MatMul", ["x", "y"], "heads")], {"x": (1, 4, 7, 16), "y": (1, 4, 16, 9)}, {}, LoopNest(1, 36, 64, 1, 7, 1, 1, groups=4)),
        # Grouped queries: two batches of queries share one of keys.
        ([node("MatMul", ["x", "y"], "shared")], {"x": (2, 7, 16), "y": (1, 16, 9)}, {}, LoopNest(1, 9, 16, 1, 14, 1, 1)),
    ],
)  # fmt: skip
def test_an_operator_has_the_loops_that_it_computes(
    nodes: list[onnx.NodeProto], given: dict[str, tuple[int, ...]], weights: dict[str, tuple[int, ...]], expected: LoopNest, tmp_path: Path
) -> None:
    path = model(tmp_path, nodes, given, weights)
    (placed,) = model_nests(path)
    assert placed.nest == expected
    assert placed.site == "site"
    assert placed.nest.macs == SourceGraph(path).macs(nodes[0].name)


def test_activations_run_with_their_convolution_and_others_alone(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], "conv", kernel_shape=[1, 1]),
        node("Relu", ["conv_out"], "relu"),
        node("GlobalAveragePool", ["relu_out"], "pool"),
        node("Flatten", ["pool_out"], "flat"),
        node("Gemm", ["flat_out", "v"], "gemm"),
    ]
    path = model(tmp_path, nodes, {"x": (1, 4, 5, 5)}, {"w": (8, 4, 1, 1), "v": (8, 3)})
    kernels = model_kernels(SourceGraph(path))
    assert [kernel.fused_ops for kernel in kernels] == [("Conv", "Relu"), ("GlobalAveragePool",), ("Gemm",)]
    assert [placed.nest.macs for placed in model_nests(path)] == [800, 24]


def test_what_is_no_loop_nest_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path, [node("ConvTranspose", ["x", "w"], "up", kernel_shape=[2, 2])], {"x": (1, 4, 5, 5)}, {"w": (4, 8, 2, 2)})
    with pytest.raises(DeviceError, match=r"site/up.*is no convolution or matrix product"):
        model_nests(path)


def test_impossible_loops_are_refused() -> None:
    for wrong in ((0, 1, 1, 1, 1, 1, 1), (1, 3, 4, 1, 1, 1, 1, 1, 1, 1, 1, 2)):
        with pytest.raises(ArgumentError, match="is no operator"):
            LoopNest(*wrong)


def test_columns_are_the_nests() -> None:
    nests = [LoopNest(1, 8, 6, 4, 5, 3, 1, 2, 1), LoopNest(2, 8, 8, 4, 4, 3, 3, groups=8)]
    columns = NestColumns.of(nests)
    assert columns.macs.tolist() == [nest.macs for nest in nests]
    assert columns.depthwise.tolist() == [nest.depthwise for nest in nests] == [False, True]
    assert [LoopNest(*map(int, row)) for row in columns.table] == nests


def refuse(_: object) -> ModelFile:
    raise AssertionError("nothing needs exporting")


def test_a_space_s_layers_are_their_networks_operators(tiny_space: SearchSpace, tiny_index: SiteIndex) -> None:
    nests = space_nests(tiny_space)
    genomes = sample(tiny_index, 20, np.random.default_rng(7))
    assert (tiny_index.counts(genomes) @ nests.counts @ nests.columns.macs == tiny_index.macs(genomes)).all()
    sequences = nests.sequences(tiny_index, genomes)
    exporter = Exporter(tiny_space)
    for genome, numbers in zip(genomes[:3], sequences, strict=False):
        inside = [nests.nests[number] for number in numbers if number >= 0]
        assert inside == [placed.nest for placed in model_nests(exporter(genome).path)]
    assert space_nests(tiny_space, refuse) == nests


def test_cells_of_which_exporters_drop_edges_are_covered_too() -> None:
    space = load_space("nas-bench-201:channels=4,cells=1,resolution=8")
    nests, index = space_nests(space), SiteIndex.of(space)
    genomes = sample(index, 50, np.random.default_rng(0))
    assert (index.counts(genomes) @ nests.counts @ nests.columns.macs == index.macs(genomes)).all()
    assert () in nests.of_layer  # pooling and identity compute no convolution


def test_layers_whose_operators_are_elsewhere_are_named(tiny_model: ModelFile) -> None:
    space = load_space("digits-mobilenetv3:width=0.25,resolution=32,classes=7")
    with pytest.raises(SpaceError, match=r"layer .* were not found in \d+ exported networks"):
        space_nests(space, lambda _: tiny_model)


def test_layers_that_do_not_tell_their_size_are_no_layers_without_work() -> None:
    with pytest.raises(SpaceError, match="do not say what they multiply"):
        space_nests(load_space("composites:seeds=1"), refuse)
