"""Proxies that sum over single weights: after Abdelfattah et al. 2021 (*Zero-cost proxies for lightweight NAS*, arXiv:2101.08134).

Sums run over convolutions and linear layers, without their biases. Needs torch.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from layerclock.errors import ArgumentError
from layerclock.predictors.proxies.batches import loss_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from layerclock.predictors.proxies.batches import Batch

__all__ = ["fisher", "grad_norm", "l2_norm", "plain", "snip", "synflow"]

_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)


def _weighted(network: nn.Module) -> Iterator[nn.Conv1d | nn.Conv2d | nn.Linear]:
    yield from (module for module in network.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear))


def l2_norm(network: nn.Module, _: Batch) -> float:
    """Sum of the layers' norms of weights."""
    return sum(float(layer.weight.detach().norm()) for layer in _weighted(network))


def grad_norm(network: nn.Module, batch: Batch) -> float:
    """Sum of the layers' norms of the loss's gradient."""
    return _of_gradients(network, batch, lambda _, gradient: gradient.norm())


def snip(network: nn.Module, batch: Batch) -> float:
    """Sum of ``|w dL/dw|`` (Lee et al. 2019, *SNIP: single-shot network pruning based on connection sensitivity*)."""
    return _of_gradients(network, batch, lambda weight, gradient: (weight * gradient).abs().sum())


def plain(network: nn.Module, batch: Batch) -> float:
    """Sum of ``w dL/dw``: as :func:`snip` with signs."""
    return _of_gradients(network, batch, lambda weight, gradient: (weight * gradient).sum())


def _of_gradients(network: nn.Module, batch: Batch, score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
    network.zero_grad()
    loss_of(network, batch).backward()
    found = [(layer.weight.detach(), layer.weight.grad) for layer in _weighted(network)]
    total = sum(float(score(weight, gradient)) for weight, gradient in found if gradient is not None)
    network.zero_grad()
    return total


def fisher(network: nn.Module, batch: Batch) -> float:
    """Sum over channels of ``(a dL/da)^2 / 2`` (Theis et al. 2018; Turner et al. 2020), times the weights that make the channel.

    ``a`` is what a layer returns, summed over places; the mean runs over the examples.
    """
    total = 0.0

    def watch(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        def add(gradient: torch.Tensor) -> None:
            nonlocal total
            product = out.detach() * gradient
            # Linear layers have their channels last, convolutions have them second.
            places = range(1, product.dim() - 1) if isinstance(layer, nn.Linear) else range(2, product.dim())
            channels = product.sum(dim=list(places)) if places else product
            weights = layer.weight[0].numel() if isinstance(layer.weight, torch.Tensor) else 0
            total += float(channels.square().mean(dim=0).sum()) / 2 * weights

        if out.requires_grad:
            out.register_hook(add)

    hooks = [layer.register_forward_hook(watch) for layer in _weighted(network)]
    try:
        network.zero_grad()
        loss_of(network, batch).backward()
    finally:
        for hook in hooks:
            hook.remove()
    network.zero_grad()
    return total


def synflow(network: nn.Module, batch: Batch) -> float:
    """Sum of ``|w dR/dw|``, where R is the sum of outputs for inputs of ones with all weights positive and no normalisation.

    After Tanaka et al. 2020 (*Pruning neural networks without any data by iteratively conserving synaptic flow*). It grows exponentially
    with the depth: compare logarithms. Raises :class:`ArgumentError` where inputs are positions in a vocabulary, which cannot be ones.
    """
    if not batch.continuous:
        raise ArgumentError("synflow needs inputs that are real numbers; this space's are positions in a vocabulary", "leave synflow out")
    linear = _without_normalisation(copy.deepcopy(network)).double()
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.abs_()
    linear(*(torch.ones_like(one[:1], dtype=torch.float64) for one in batch.inputs)).sum().backward()
    found = [(layer.weight.detach(), layer.weight.grad) for layer in _weighted(linear)]
    return sum(float((weight * gradient).abs().sum()) for weight, gradient in found if gradient is not None)


def _without_normalisation(network: nn.Module) -> nn.Module:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _NORMALISATIONS):
                setattr(parent, name, nn.Identity())
    return network
