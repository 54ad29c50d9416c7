"""The space of neural collaborative filtering against the network that it builds, and on real runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from layerclock.devices.export import Exporter, export_network
from layerclock.errors import ArgumentError, GenomeError
from layerclock.interfaces import DeviceOptions, ModelFile
from layerclock.plugins import load_space, open_device
from layerclock.search.spaces.ncf import ncf
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from pathlib import Path

SPACE = ncf()
INDEX = SiteIndex.of(SPACE)
TINY = ncf(users=20, items=30, candidates=6)
LARGEST = INDEX.cardinality - 1


def test_the_sizes_are_those_of_a_count_by_hand() -> None:
    """NeuMF with 6,040 users and 3,706 items, embeddings of 8, and a perceptron of 32 and 64."""
    genome = INDEX.encode({"gmf.dimension": 8, "mlp.dimension": 8, "mlp.depth": 2, "mlp.layer1.width": 32, "mlp.layer2.width": 64})
    embeddings = 2 * (6040 + 3706) * 8
    assert INDEX.params(genome[None])[0] == embeddings + 17 * 32 + 33 * 64 + (8 + 64 + 1)
    assert INDEX.macs(genome[None])[0] == 100 * (16 * 32 + 32 * 64 + 8 + 64)


def test_widths_beyond_the_depth_are_inactive() -> None:
    active = {"gmf.dimension", "mlp.dimension", "mlp.depth", "mlp.layer1.width"}
    shallow = INDEX.encode({"mlp.layer3.width": 128, "mlp.depth": 1})
    assert set(INDEX.decode(shallow)) == active
    assert INDEX.canonical(shallow[None])[0].tolist() == INDEX.encode({}).tolist()
    every = INDEX.canonical(np.random.default_rng(0).integers(0, INDEX.cardinality, (20_000, len(INDEX.genes))))
    assert np.array_equal(INDEX.canonical(every), every)
    # Two embeddings of four sizes; one to four layers of four widths.
    assert len(np.unique(every, axis=0)) <= 16 * sum(4**depth for depth in (1, 2, 3, 4))
    assert all(site.layers for site in SPACE.sites)


@pytest.mark.parametrize("name", ["ncf", "ncf:users=5,items=7,candidates=3"])
@torch.no_grad()
def test_the_built_network_is_what_the_sites_say(name: str) -> None:
    space = load_space(name)
    index = SiteIndex.of(space)
    for genome in (LARGEST, *sample(index, 4, np.random.default_rng(0))):
        network = space.build(genome).eval()
        placed = {one.site: one.layer for one in index.network(genome).layers}
        seen: dict[str, tuple[list[tuple[int, ...]], tuple[int, ...]]] = {}
        macs: list[int] = []

        def remember(site: str, into: dict[str, Any] = seen) -> Any:
            def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
                into[site] = ([tuple(one.shape) for one in inputs], tuple(output.shape))

            return hook

        def multiply(module: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor, into: list[int] = macs) -> None:
            if isinstance(module, nn.Linear):
                into.append(module.in_features * output.numel())

        for site in placed:
            network.get_submodule(site).register_forward_hook(remember(site))
        for module in network.modules():
            module.register_forward_hook(multiply)
        network(*(torch.ones(spec.shape, dtype=torch.int64) for spec in space.inputs))
        assert seen == {site: ([spec.shape for spec in layer.inputs], layer.outputs[0].shape) for site, layer in placed.items()}
        for site, layer in placed.items():
            assert sum(weights.numel() for weights in network.get_submodule(site).parameters()) == layer.params, site
        assert sum(weights.numel() for weights in network.parameters()) == int(index.params(genome[None])[0])
        assert sum(macs) == int(index.macs(genome[None])[0])


@torch.no_grad()
def test_a_score_is_that_of_neumf() -> None:
    """He et al. (2017), equation 12, for one user and one item, written out."""
    torch.manual_seed(0)
    network = TINY.build(INDEX.encode({"gmf.dimension": 16, "mlp.dimension": 32, "mlp.depth": 2}))
    weights = network.state_dict()
    product = weights["gmf.users.weight"][4] * weights["gmf.items.weight"][9]
    hidden = torch.cat([weights["embedding.users.weight"][4], weights["embedding.items.weight"][9]])
    for layer in ("layer1", "layer2"):
        hidden = torch.relu(weights[f"mlp.{layer}.0.weight"] @ hidden + weights[f"mlp.{layer}.0.bias"])
    expected = weights["fusion.linear.weight"][0] @ torch.cat([product, hidden]) + weights["fusion.linear.bias"][0]
    scores = network(torch.tensor([[2], [4]]), torch.tensor([[9, 1], [1, 9]]))
    torch.testing.assert_close(scores[1, 1], expected)


@pytest.mark.parametrize("dynamo", [False, True])
@torch.no_grad()
def test_runtimes_compute_what_torch_does_and_time_every_layer(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    for number, genome in enumerate((LARGEST, np.array([1, 0, 1, 2, 0, 0, 0]))):
        network, sites = TINY.build(genome).eval(), tuple(one.site for one in INDEX.network(genome).layers)
        user, candidates = torch.tensor([[7]]), torch.randint(0, 30, (1, 6))
        expected = network(user, candidates).numpy()
        path = tmp_path / f"model{number}.onnx"
        export_network(network, path, (user, candidates), sites, dynamo)
        for name in ("onnxruntime:cpu", "openvino:CPU"):
            session = open_device(name).load(ModelFile(path, "0" * 24, sites))
            found = session.infer({"input0": user.numpy(), "input1": candidates.numpy()})["output"]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
            assert {kernel.site for kernel in session.kernel_times(2).kernels} == set(sites), name


def test_several_users_at_once() -> None:
    model = Exporter(TINY, batch=3)(LARGEST)
    for name in ("onnxruntime:cpu", "openvino:CPU"):
        session = open_device(name, DeviceOptions(batch=3)).load(model)
        inputs = {"input0": np.array([[1], [2], [3]]), "input1": np.arange(18).reshape(3, 6)}
        assert session.infer(inputs)["output"].shape == (3, 6)
        assert {kernel.site for kernel in session.kernel_times(2).kernels} == set(model.sites)


def test_parameters_stand_in_the_name_and_impossible_ones_are_refused() -> None:
    assert SPACE.name == "ncf"
    assert load_space("ncf:candidates=10,users=50").name == "ncf:users=50,candidates=10"
    for text in ("users=1", "items=1", "candidates=0", "users=10.5", "items=many"):
        with pytest.raises(ArgumentError):
            load_space(f"ncf:{text}")
    with pytest.raises(GenomeError):
        SPACE.build([0] * 6)
