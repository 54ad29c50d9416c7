"""Batch-normalisation statistics of one network, measured anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["recalibrate"]


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Replace the running means and variances by averages over ``batches``, and leave the network in evaluation mode.

    A sub-network inherits statistics that are a mixture over all widths; its own are needed before its accuracy means
    anything (Yu & Huang, ICCV 2019, arXiv:1903.05134; once-for-all does the same).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    network.train()
    for batch in batches:
        network(batch)
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
