"""Zero-cost proxies: against their definitions on small networks, and against others' numbers on FBNet's."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from layerclock.errors import ArgumentError, GenomeError, SpaceError, UnknownNameError
from layerclock.plugins import load_space
from layerclock.predictors.proxies.batches import Batch, loss_of, random_batch
from layerclock.predictors.proxies.saliency import fisher, grad_norm, l2_norm, plain, snip, synflow
from layerclock.predictors.proxies.separation import jacov, nwot, zen
from layerclock.predictors.proxies.zero_cost import COUNTS, PROXIES, zero_cost_proxies
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.transfer.problem import Sources

NEED_NUMBERS = ("synflow", "jacov", "zen")


@pytest.fixture
def network() -> nn.Sequential:
    """Two convolutions with normalisation between them, pooling and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch((torch.randn((6, 3, 5, 5), generator=generator),), torch.rand(6, generator=generator))


def _layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def test_sums_of_gradients_are_those_of_the_definitions(network: nn.Sequential, batch: Batch) -> None:
    weights = [layer.weight for layer in _layers(network)]
    loss = functional.cross_entropy(network(batch.inputs[0]), (batch.labels * 3).long())
    gradients = torch.autograd.grad(loss, weights)
    pairs = [(weight.detach(), gradient) for weight, gradient in zip(weights, gradients, strict=True)]
    assert grad_norm(network, batch) == pytest.approx(sum(float(gradient.norm()) for _, gradient in pairs))
    assert snip(network, batch) == pytest.approx(sum(float((weight * gradient).abs().sum()) for weight, gradient in pairs))
    assert plain(network, batch) == pytest.approx(sum(float((weight * gradient).sum()) for weight, gradient in pairs), abs=1e-6)
    assert l2_norm(network, batch) == pytest.approx(sum(float(weight.norm()) for weight, _ in pairs))


def test_fisher_is_the_squared_saliency_of_channels(network: nn.Sequential, batch: Batch) -> None:
    images = batch.inputs[0]
    outputs = []
    for module in network:
        images = module(images)
        if isinstance(module, nn.Conv2d | nn.Linear):
            outputs.append(images)
    loss = functional.cross_entropy(images, (batch.labels * 3).long())
    gradients = torch.autograd.grad(loss, outputs)
    expected = 0.0
    for layer, out, gradient in zip(_layers(network), outputs, gradients, strict=True):
        channels = (out * gradient).flatten(2).sum(2) if out.dim() > 2 else out * gradient
        expected += float((channels.detach() ** 2).mean(0).sum()) / 2 * layer.weight[0].numel()
    assert fisher(network, batch) == pytest.approx(expected, rel=1e-5)


def test_every_layer_of_a_chain_carries_the_same_synaptic_flow(network: nn.Sequential, batch: Batch) -> None:
    """What flows through is conserved (Tanaka et al., theorem 1), up to the biases, which are left out here."""
    for layer in _layers(network)[1:]:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # these have one
    assert synflow(network, batch) == pytest.approx(3 * _flow(network), rel=1e-9)


def _flow(network: nn.Sequential) -> float:
    first, second, last = (layer.weight.detach().double().abs() for layer in _layers(network))
    ones = torch.ones((1, 3, 5, 5), dtype=torch.float64)
    features = functional.conv2d(functional.conv2d(ones, first, padding=1), second).mean((2, 3))
    return float((features @ last.T).sum())


def test_networks_are_left_as_they_were(network: nn.Sequential, batch: Batch) -> None:
    before = copy.deepcopy(network.state_dict())
    for proxy in PROXIES.values():
        proxy(network, batch)
    for name, value in network.state_dict().items():
        assert "running" in name or "tracked" in name or torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_patterns_that_differ_more_have_a_larger_determinant() -> None:
    linear = nn.Linear(4, 4)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    network = nn.Sequential(linear, nn.ReLU())
    alike = torch.tensor([[1.0, 1, 1, -1], [1, 1, 1, 1]])
    apart = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1]])
    # Two patterns of four units that agree in n of them: 16 - n^2.
    assert nwot(network, Batch((alike,), torch.zeros(2))) == pytest.approx(np.log(16 - 9))
    assert nwot(network, Batch((apart,), torch.zeros(2))) == pytest.approx(np.log(16 - 4))
    assert nwot(network, Batch((alike[[0, 0]],), torch.zeros(2))) == -np.inf
    with pytest.raises(SpaceError, match="none as modules"):
        nwot(linear, Batch((alike,), torch.zeros(2)))


def test_gradients_that_are_alike_make_a_small_jacobian_score(network: nn.Sequential, batch: Batch) -> None:
    same = nn.Linear(75, 3)
    flat = Batch((batch.inputs[0].flatten(1),), batch.labels)
    assert jacov(same, flat) < -1e5  # one gradient for all examples: eigenvalues of 0
    assert jacov(network, batch) > jacov(same, flat)
    images = batch.inputs[0].clone().requires_grad_()
    network(images).sum().backward()
    assert images.grad is not None
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(images.grad.flatten(1).double().numpy()))
    assert jacov(network, batch) == pytest.approx(-np.sum(np.log(eigenvalues + 1e-5) + 1 / (eigenvalues + 1e-5)), rel=1e-4)
    nn.init.zeros_(same.weight)
    assert np.isnan(jacov(same, flat))


def test_zen_adds_back_what_normalisation_took_out(network: nn.Sequential, batch: Batch) -> None:
    """With normalisation, features are of one size whatever the first weights are; their variance is what is left of these."""
    linear = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1))
    normalised = nn.Sequential(linear[0], nn.BatchNorm2d(4), linear[1])
    assert zen(normalised, batch) == pytest.approx(zen(linear, batch), abs=0.3)
    assert zen(network, batch) == zen(network, batch)
    with pytest.raises(SpaceError, match="ends in pooling or in a linear layer"):
        zen(linear[0], batch)


def test_losses_of_sequences_count_every_place() -> None:
    network = nn.Linear(4, 7)
    batch = Batch((torch.randn((3, 5, 4), generator=torch.Generator().manual_seed(0)),), torch.tensor([0.0, 0.5, 0.99]))
    labels = torch.tensor([0, 3, 6])
    each = [functional.cross_entropy(network(batch.inputs[0][:, place]), labels) for place in range(5)]
    assert float(loss_of(network, batch).detach()) == pytest.approx(float(torch.stack(each).mean().detach()))


@pytest.fixture(scope="module")
def values(tiny_space: SearchSpace, tiny_index: SiteIndex) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """All proxies of four networks."""
    return zero_cost_proxies(tiny_space, _four(tiny_index), batch=8)


def _four(index: SiteIndex) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.random.default_rng(0).integers(0, index.cardinality, (4, len(index.genes)))


def test_values_follow_from_the_network_and_the_seed(
    values: np.ndarray[tuple[int, int], np.dtype[np.float64]], tiny_space: SearchSpace, tiny_index: SiteIndex
) -> None:
    assert values.shape == (4, len(COUNTS) + len(PROXIES))
    assert np.isfinite(values).all()
    genomes, names = _four(tiny_index), ("zen", "snip", "params", "flops")
    torch.manual_seed(7)
    expected_next = torch.rand(1)
    torch.manual_seed(7)
    again = zero_cost_proxies(tiny_space, tiny_index.canonical(genomes)[2:], names, batch=8)
    assert torch.equal(torch.rand(1), expected_next), "the caller's random numbers go on"
    every = [*COUNTS, *PROXIES]
    assert again == pytest.approx(values[2:, [every.index(name) for name in names]])
    assert again[:, 2:].tolist() == np.stack([tiny_index.params(genomes[2:]), tiny_index.macs(genomes[2:])], axis=1).tolist()
    assert not np.isclose(zero_cost_proxies(tiny_space, genomes[:1], ["snip"], seed=1, batch=8), values[0, every.index("snip")]).any()


def test_positions_in_a_vocabulary_are_taken_or_refused() -> None:
    space = load_space("ncf:users=20,items=30")
    index = SiteIndex.of(space)
    genomes = sample(index, 2, np.random.default_rng(0))
    assert np.isfinite(zero_cost_proxies(space, genomes, [name for name in PROXIES if name not in (*NEED_NUMBERS, "nwot")], batch=4)).all()
    for name in NEED_NUMBERS:
        with pytest.raises(ArgumentError, match=f"{name} needs inputs that are real numbers"):
            zero_cost_proxies(space, genomes, [name], batch=4)


def test_what_cannot_be_asked_for_is_refused(tiny_space: SearchSpace, tiny_index: SiteIndex) -> None:
    genomes = _four(tiny_index)
    with pytest.raises(UnknownNameError, match="did you mean synflow"):
        zero_cost_proxies(tiny_space, genomes, ["synflo"])
    with pytest.raises(ArgumentError, match="no proxy is named"):
        zero_cost_proxies(tiny_space, genomes, [])
    with pytest.raises(GenomeError):
        zero_cost_proxies(tiny_space, genomes + 99, ["params"])
    with pytest.raises(ArgumentError, match="a batch of 1 cannot be normalised"):
        random_batch(tiny_space, 1, 0)


def test_networks_are_ranked_as_others_rank_them(data_folder: Path, fbnet: Sources) -> None:
    """FBNet's, by the proxies that random weights and inputs hardly move; 12 networks."""
    rows = np.random.default_rng(0).permutation(5000)[:12]
    least = {"params": 1.0, "flops": 0.98, "l2_norm": 0.9, "nwot": 0.95, "synflow": 0.7}
    space = load_space("fbnet:layout=cifar,resolution=32,classes=100")
    found = zero_cost_proxies(space, fbnet.genomes[rows], list(least), batch=8)
    published = pq.read_table(data_folder / "fbnet_zcp.parquet", columns=list(least))
    for column, name in enumerate(least):
        assert spearmanr(found[:, column], published[name].to_numpy()[rows]).statistic >= least[name] - 1e-9, name
