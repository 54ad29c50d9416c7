"""NAS-Bench-201's space against its published sizes, against the network that it builds, and on real runtimes."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from layerclock.devices.export import calibrate_normalisation, export_network
from layerclock.errors import ArgumentError, GenomeError
from layerclock.interfaces import ModelFile
from layerclock.plugins import load_space, open_device
from layerclock.search.spaces.nasbench201 import EDGES, OPERATIONS, nas_bench_201
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.space import GenomeArray

SPACE = nas_bench_201()
INDEX = SiteIndex.of(SPACE)
TINY = nas_bench_201(channels=4, cells=1, resolution=8)
EVERY = np.array(list(product(range(len(OPERATIONS)), repeat=len(EDGES))), dtype=np.int64)
# Every operation, each on a path from the input to the output, and additions of all kinds.
MIXED = SPACE.from_arch_string("|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|")


def _columns(path: Path, *names: str) -> list[Any]:
    table = pq.read_table(path, columns=list(names))
    return [table[name].to_pylist() for name in names]


def _published(data_folder: Path) -> tuple[GenomeArray, list[str]]:
    path = data_folder / "nb201_archs.parquet"
    codes = _columns(path, *(f"op{edge}" for edge in range(6)))
    return np.array(codes, dtype=np.int64).T.copy(), _columns(path, "arch_str")[0]


def test_params_of_every_cell_are_the_published_ones(data_folder: Path) -> None:
    genomes, _ = _published(data_folder)
    assert len(np.unique(genomes, axis=0)) == 5**6
    millions = np.array(_columns(data_folder / "nb201_archs.parquet", "params_m_cifar10")[0])
    assert np.array_equal(INDEX.params(genomes), np.round(millions * 1e6))


def test_macs_of_every_cell_stand_in_one_relation_to_the_published_flops(data_folder: Path) -> None:
    """Their count has the same multiply-accumulates, and more: 3 for each number that a convolution's edge returns
    (normalisation 2, activation 1) and 9 for each that a pooling edge returns. The rest is one constant, 160,832, for the
    fixed parts: 159,744 by the same prices (with 4 for a number of the 2x2 pooling and 1 for each that the last pooling
    reads), and 1,088 for which we know no reason."""
    genomes, _ = _published(data_folder)
    flops = np.array(_columns(data_folder / "nb201_archs.parquet", "flops_m_cifar10")[0]) * 1e6
    returned = 5 * (16 * 32**2 + 32 * 16**2 + 64 * 8**2)  # by one edge of all cells together
    convolutions = np.isin(genomes, [OPERATIONS.index("nor_conv_1x1"), OPERATIONS.index("nor_conv_3x3")]).sum(1)
    poolings = (genomes == OPERATIONS.index("avg_pool_3x3")).sum(1)
    assert np.array_equal(np.round(flops), INDEX.macs(genomes) + returned * (3 * convolutions + 9 * poolings) + 160_832)
    stem, last = 2 * 16 * 32**2, 3 * 64 * 8**2 + 64 * 8**2
    reductions = sum(
        2 * 2 * out * side**2 + out // 2 * (2 * side) ** 2 + out * side**2 + 4 * out // 2 * side**2 for out, side in ((32, 16), (64, 8))
    )
    assert stem + last + reductions == 159_744


def test_strings_and_genomes_tell_the_same_cells(data_folder: Path) -> None:
    genomes, strings = _published(data_folder)
    for genome, text in list(zip(genomes, strings, strict=True))[::25]:
        assert SPACE.arch_string(genome) == text
        assert SPACE.from_arch_string(text).tolist() == genome.tolist()


def test_cells_that_let_nothing_through_are_those_that_latbench_could_not_measure(data_folder: Path) -> None:
    path = data_folder / "nb201_latency.parquet"
    index, latency = (np.array(column, dtype=np.float64) for column in _columns(path, "arch_index", "desktop_cpu_core_i7_7820x_fp32"))
    assert np.array_equal(index, np.arange(5**6))
    live = SPACE.live_operations(_published(data_folder)[0])
    assert np.array_equal((live == 0).all(1), np.isnan(latency))


def test_live_operations_are_those_on_a_path() -> None:
    live = SPACE.live_operations(EVERY)
    # The paths from node 0 to node 3, as positions in EDGES, written out by hand.
    paths = [(3,), (0, 4), (1, 5), (0, 2, 5)]
    expected = np.zeros_like(EVERY)
    for path in paths:
        whole = (EVERY[:, path] != 0).all(1)
        for edge in path:
            expected[whole, edge] = EVERY[whole, edge]
    assert np.array_equal(live, expected)
    assert np.array_equal(SPACE.live_operations(live), live)
    assert SPACE.live_operations(np.zeros((0, 6), dtype=np.int64)).shape == (0, 6)


@torch.no_grad()
def test_an_edge_on_no_path_changes_nothing() -> None:
    torch.manual_seed(0)
    genome = SPACE.from_arch_string("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|none~2|")
    whole, live = (TINY.build(one).eval() for one in (genome, TINY.live_operations(genome[None])[0]))
    live.load_state_dict({name: whole.state_dict()[name] for name in live.state_dict()})
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(whole(images), live(images))
    blocked = TINY.build([0, 3, 0, 0, 2, 0]).eval()
    assert torch.equal(blocked(images), blocked(torch.zeros_like(images)))
    assert blocked(images).shape == (2, 10)


def test_every_genome_is_canonical_and_layers_tell_whether_they_add() -> None:
    assert np.array_equal(INDEX.canonical(EVERY), EVERY)
    # Three stages of four operations, with and without an addition; stem, two reductions, head and classifier.
    assert len(INDEX.vocabulary) == 3 * 4 * 2 + 5
    adds = {one.site: dict(one.layer.attributes).get("adds") for one in INDEX.network(MIXED).layers}
    assert [adds[f"stage1.cell1.edge{start}{end}"] for start, end in EDGES] == [False, False, True, False, True, True]


@pytest.mark.parametrize("name", ["nas-bench-201:cells=1", "nas-bench-201:channels=6,cells=2,resolution=12,in_channels=1,classes=7"])
@torch.no_grad()
def test_the_built_network_is_what_the_sites_say(name: str) -> None:
    space = load_space(name)
    index = SiteIndex.of(space)
    for genome in (MIXED, *sample(index, 3, np.random.default_rng(0))):
        network = space.build(genome).eval()
        placed = {one.site: one.layer for one in index.network(genome).layers}
        seen: dict[str, tuple[list[tuple[int, ...]], tuple[int, ...]]] = {}
        macs: list[int] = []

        def remember(site: str, into: dict[str, Any] = seen) -> Any:
            def hook(_: nn.Module, inputs: tuple[torch.Tensor | None, ...], output: torch.Tensor) -> None:
                into[site] = ([tuple(one.shape) for one in inputs if one is not None], tuple(output.shape))

            return hook

        def multiply(module: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor, into: list[int] = macs) -> None:
            if isinstance(module, nn.Conv2d | nn.Linear):
                into.append(module.weight[0].numel() * output.numel())

        for site in placed:
            network.get_submodule(site).register_forward_hook(remember(site))
        for module in network.modules():
            module.register_forward_hook(multiply)
        network(torch.zeros(space.inputs[0].shape))
        for site, layer in placed.items():
            assert seen[site] == ([spec.shape for spec in layer.inputs], layer.outputs[0].shape), site
            assert sum(weights.numel() for weights in network.get_submodule(site).parameters()) == layer.params, site
        assert sum(weights.numel() for weights in network.parameters()) == int(index.params(genome[None])[0])
        assert sum(macs) == int(index.macs(genome[None])[0])


@pytest.mark.parametrize("dynamo", [False, True])
@torch.no_grad()
def test_runtimes_compute_what_torch_does_and_time_every_layer(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    # Pooling stands behind a convolution here. Right behind an addition that ONNX Runtime has fused with a convolution, the
    # kernel is taken for the addition's too, and its time goes to the addition's layer.
    genome = TINY.from_arch_string("|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|")
    network, sites = TINY.build(genome), tuple(one.site for one in SiteIndex.of(TINY).network(genome).layers)
    calibrate_normalisation(network, [(torch.randn(8, 3, 8, 8),)])
    images = torch.randn(1, 3, 8, 8)
    expected = network(images).numpy()
    export_network(network, tmp_path / "model.onnx", (images,), sites, dynamo)
    # Where an edge leaves its input as it is and adds nothing, there is nothing to compute.
    computing = set(sites) - {site for site in sites if site.endswith("edge03")}
    for name in ("onnxruntime:cpu", "openvino:CPU"):
        session = open_device(name).load(ModelFile(tmp_path / "model.onnx", "0" * 24, sites))
        found = session.infer({"input": images.numpy()})["output"]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        assert {kernel.site for kernel in session.kernel_times(2).kernels} == computing, name


def test_parameters_stand_in_the_name() -> None:
    assert load_space("nas-bench-201").name == "nas-bench-201"
    assert load_space("nas-bench-201:classes=100,cells=3").name == "nas-bench-201:cells=3,classes=100"


def test_impossible_parameters_and_strings() -> None:
    for text in ("channels=0", "cells=0", "resolution=30", "classes=1", "cells=1.5", "channels=many"):
        with pytest.raises(ArgumentError):
            load_space(f"nas-bench-201:{text}")
    with pytest.raises(GenomeError, match="dil_conv"):
        SPACE.from_arch_string(SPACE.arch_string(MIXED).replace("avg_pool_3x3", "dil_conv"))
    for text in ("", "|none~0|", SPACE.arch_string(MIXED)[:-1], SPACE.arch_string(MIXED).replace("~2", "~1")):
        with pytest.raises(GenomeError, match="no cell of NAS-Bench-201"):
            SPACE.from_arch_string(text)
    with pytest.raises(GenomeError):
        SPACE.live_operations([[0, 0, 0, 0, 0, 5]])
