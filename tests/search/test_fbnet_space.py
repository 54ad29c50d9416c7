"""FBNet's space against published sizes, against the network that it builds, and on real runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from layerclock.devices.export import calibrate_normalisation, export_network
from layerclock.errors import ArgumentError, GenomeError, LayerclockError
from layerclock.interfaces import ModelFile
from layerclock.plugins import load_space, open_device
from layerclock.search.networks.fbnet import Shuffle
from layerclock.search.spaces.fbnet import CANDIDATES, fbnet
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.space import GenomeArray

MEASURED = "fbnet:layout=cifar,resolution=32,classes=100"
SPACE = load_space(MEASURED)
INDEX = SiteIndex.of(SPACE)


@pytest.fixture(scope="module")
def published(data_folder: Path) -> tuple[GenomeArray, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Genomes int64[5000, 22], FLOPs and parameters of HW-NAS-Bench's networks."""
    sizes = pq.read_table(data_folder / "fbnet_zcp.parquet", columns=["arch_index", "flops", "params"])
    codes = pq.read_table(data_folder / "fbnet_latency.parquet", columns=["arch_index", "arch"])
    assert sizes["arch_index"].to_pylist() == codes["arch_index"].to_pylist()
    space = fbnet(32, 100, "cifar")
    genomes = np.array([space.from_op_codes(row) for row in codes["arch"].to_pylist()])
    return genomes, sizes["flops"].to_numpy(), sizes["params"].to_numpy()


def test_params_are_the_published_ones(published: tuple[GenomeArray, np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> None:
    genomes, _, params = published
    assert len(genomes) == 5000
    assert np.array_equal(INDEX.params(genomes), params)


def test_macs_and_the_prices_of_other_operations_give_the_published_flops(
    published: tuple[GenomeArray, np.ndarray[Any, Any], np.ndarray[Any, Any]],
) -> None:
    """Theirs are the same multiply-accumulates, and 2 for each normalised number, 1 for each number that goes through a
    block's activation (once a block, though a block activates twice) and 1 for each number that the last pooling reads."""
    genomes, flops, _ = published
    others = {}
    for layer in INDEX.vocabulary:
        _, incoming, side, _ = layer.inputs[0].shape
        if layer.op == "pool_linear":
            others[layer.key] = incoming * side**2
            continue
        _, out, out_side, _ = layer.outputs[0].shape
        returned = out * out_side**2
        if layer.op == "conv":
            others[layer.key] = 3 * returned
        else:
            mid = incoming * int(dict(layer.attributes)["e"])
            others[layer.key] = 2 * (mid * side**2 + mid * out_side**2 + returned) + mid * out_side**2
    prices = np.array([others[layer.key] for layer in INDEX.vocabulary])
    assert np.array_equal(INDEX.macs(genomes) + INDEX.counts(genomes) @ prices, flops)


def test_the_usual_space_is_the_papers() -> None:
    space = load_space("fbnet")
    index = SiteIndex.of(space)
    assert len(space.genes) == 22
    assert list(space.genes[0].choices) == list(CANDIDATES)
    shapes = {site.name: site.layers[0].outputs[0].shape[1:] for site in space.sites if site.layers[0] is not None}
    # Table 1 of the paper: what goes into the next stage.
    assert shapes["stem"] == (16, 112, 112)
    assert [shapes[f"stage{stage}.block1"] for stage in range(1, 8)] == [
        (16, 112, 112), (24, 56, 56), (32, 28, 28), (64, 14, 14), (112, 14, 14), (184, 7, 7), (352, 7, 7)
    ]  # fmt: skip
    genomes = sample(index, 50, np.random.default_rng(0))
    assert np.array_equal(index.canonical(genomes), genomes)
    # Table 3: FBNets have 249 to 375 million multiply-accumulates.
    assert index.macs(genomes).min() < 249e6
    assert index.macs(np.full((1, 22), 7))[0] > 375e6


def test_channels_are_dealt_out_in_turn() -> None:
    channels = torch.arange(6.0).view(1, 6, 1, 1)
    assert Shuffle(2)(channels).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("name", [MEASURED, "fbnet:resolution=65,classes=7"])
@torch.no_grad()
def test_the_built_network_is_what_the_sites_say(name: str) -> None:
    space = load_space(name)
    index = SiteIndex.of(space)
    for genome in (np.arange(22) % 9, np.full(22, 8)):
        network = space.build(genome).eval()
        placed = {one.site: one.layer for one in index.network(genome).layers}
        seen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        macs: list[int] = []

        def remember(site: str, into: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = seen) -> Any:
            def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
                into[site] = (tuple(inputs[0].shape), tuple(output.shape))

            return hook

        def multiply(module: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor, into: list[int] = macs) -> None:
            if isinstance(module, nn.Conv2d | nn.Linear):
                into.append(module.weight[0].numel() * output.numel())

        for site in placed:
            network.get_submodule(site).register_forward_hook(remember(site))
        for module in network.modules():
            module.register_forward_hook(multiply)
        network(torch.zeros(space.inputs[0].shape))
        assert seen == {site: (layer.inputs[0].shape, layer.outputs[0].shape) for site, layer in placed.items()}
        for site, layer in placed.items():
            assert sum(weights.numel() for weights in network.get_submodule(site).parameters()) == layer.params, site
        assert sum(weights.numel() for weights in network.parameters()) == int(index.params(genome[None])[0])
        assert sum(macs) == int(index.macs(genome[None])[0])


@pytest.mark.parametrize("dynamo", [False, True])
@torch.no_grad()
def test_runtimes_compute_what_torch_does_and_time_every_layer(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    # Both grouped candidates among others, skipped blocks with and without a change of shape.
    genome = np.array([1, 8, 5, 8, 0, 8, 1, 8, 8, 2, 8, 8, 8, 5, 8, 8, 8, 6, 8, 8, 8, 1])
    network, sites = SPACE.build(genome), tuple(one.site for one in INDEX.network(genome).layers)
    calibrate_normalisation(network, [(torch.randn(8, 3, 32, 32),)])
    images = torch.randn(1, 3, 32, 32)
    expected = network(images).numpy()
    export_network(network, tmp_path / "model.onnx", (images,), sites, dynamo)
    for name in ("onnxruntime:cpu", "openvino:CPU"):
        session = open_device(name).load(ModelFile(tmp_path / "model.onnx", "0" * 24, sites))
        found = session.infer({"input": images.numpy()})["output"]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        assert {kernel.site for kernel in session.kernel_times(2).kernels} == set(sites), name


def test_parameters_stand_in_the_name() -> None:
    assert load_space("fbnet").name == "fbnet"
    assert SPACE.name == MEASURED
    assert load_space("fbnet:resolution=192").name == "fbnet:resolution=192"


def test_impossible_parameters_and_codes() -> None:
    for text in ("resolution=4", "resolution=40.5", "classes=1", "layout=mnist", "layout=3"):
        with pytest.raises(LayerclockError):
            load_space(f"fbnet:{text}")
    with pytest.raises(ArgumentError, match="resolution=4"):
        fbnet(resolution=4)
    space = fbnet()
    for codes in ([0] * 21, [9] * 22, [[0] * 22], [0.5] * 22):
        with pytest.raises(GenomeError):
            space.from_op_codes(codes)
