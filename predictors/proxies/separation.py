"""Proxies that look at how differently a network treats different inputs. Needs torch."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from layerclock.errors import ArgumentError, SpaceError

if TYPE_CHECKING:
    from layerclock.predictors.proxies.batches import Batch

__all__ = ["jacov", "nwot", "zen"]

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardswish, nn.SiLU, nn.GELU)
_SMALL = 1e-5
_STEP = 0.01


def jacov(network: nn.Module, batch: Batch) -> float:
    """How little correlated the examples' gradients by the inputs are: ``-sum(log(v + k) + 1 / (v + k))`` over the eigenvalues v.

    The first version of Mellor et al. 2021 (*Neural architecture search without training*, arXiv:2006.04647), with k = 1e-5. NaN where an
    example's gradient does not vary. Raises :class:`ArgumentError` where inputs are positions in a vocabulary.
    """
    _require_continuous(batch, "jacov")
    network.zero_grad()
    inputs = tuple(one.clone().requires_grad_() for one in batch.inputs)
    network(*inputs).sum().backward()
    network.zero_grad()
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in inputs]
    jacobian = torch.cat([one.reshape(batch.size, -1) for one in gradients], dim=1).double().numpy()
    if (jacobian.std(axis=1) == 0).any():
        return np.nan
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(jacobian))
    return float(-np.sum(np.log(np.maximum(eigenvalues, 0) + _SMALL) + 1 / (np.maximum(eigenvalues, 0) + _SMALL)))


def nwot(network: nn.Module, batch: Batch) -> float:
    """Logarithm of the determinant of the kernel of activation patterns: for each two examples, the units that are on or off in both.

    Mellor et al. 2021, the later version. Minus infinity where two examples have the same pattern. Raises :class:`SpaceError` for a
    network without modules that turn units off.
    """
    kernel = np.zeros((batch.size, batch.size))

    def count(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        on = (given[0] > 0).reshape(batch.size, -1).float()
        off = 1 - on
        nonlocal kernel
        kernel = kernel + (on @ on.T + off @ off.T).double().numpy()

    hooks = [module.register_forward_pre_hook(count) for module in network.modules() if isinstance(module, _ACTIVATIONS)]
    if not hooks:
        raise SpaceError("nwot needs activations that turn units off, and the network has none as modules", "leave nwot out")
    try:
        with torch.no_grad():
            network(*batch.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return float(np.linalg.slogdet(kernel)[1])


def zen(network: nn.Module, batch: Batch) -> float:
    """Logarithm of how far the last feature map moves with the inputs, with normal weights, and what normalisation took out added back.

    Lin et al. 2021 (*Zen-NAS: a zero-shot NAS for high-performance image recognition*, arXiv:2102.01063, algorithm 1): inputs move by 0.01
    of other normal numbers. The last feature map is what the last pooling over whole maps reads, or else the last linear layer. Raises
    :class:`ArgumentError` where inputs are positions in a vocabulary, and :class:`SpaceError` for a network without such a layer.
    """
    _require_continuous(batch, "zen")
    random = torch.Generator().manual_seed(int(batch.labels.view(torch.int32).sum().item()) % 2**31)
    normal = _with_normal_weights(copy.deepcopy(network), random)
    moved = tuple(one + _STEP * torch.randn(one.shape, generator=random, dtype=one.dtype) for one in batch.inputs)
    with torch.no_grad():
        here, there = _last_features(normal, batch.inputs), _last_features(normal, moved)
        distance = (here - there).abs().flatten(1).sum(dim=1).mean().log()
        variances = [one.running_var for one in normal.modules() if isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d)]
        scales = [variance.mean().sqrt().log() for variance in variances if variance is not None]
        return float(sum(scales, distance))


def _require_continuous(batch: Batch, name: str) -> None:
    if not batch.continuous:
        raise ArgumentError(f"{name} needs inputs that are real numbers; this space's are positions in a vocabulary", f"leave {name} out")


def _with_normal_weights(network: nn.Module, random: torch.Generator) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            with torch.no_grad():
                module.weight.normal_(generator=random)
                if module.bias is not None:
                    module.bias.zero_()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics are those of the last batch
    return network


def _last_features(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    read: dict[type[nn.Module], torch.Tensor] = {}

    def note(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        # Pooling within blocks (squeeze and excitation) comes before the last one, which stays.
        read[type(module)] = given[0]

    hooks = [one.register_forward_pre_hook(note) for one in network.modules() if isinstance(one, nn.AdaptiveAvgPool2d | nn.Linear)]
    try:
        network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    found = read.get(nn.AdaptiveAvgPool2d, read.get(nn.Linear))
    if found is None:
        raise SpaceError("zen needs a network that ends in pooling or in a linear layer", "leave zen out")
    return found
