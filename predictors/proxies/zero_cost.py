"""Zero-cost proxies of a space's networks, by name. Needs torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import nn

from layerclock.errors import ArgumentError, UnknownNameError
from layerclock.predictors.proxies.batches import Batch, built, random_batch
from layerclock.predictors.proxies.saliency import fisher, grad_norm, l2_norm, plain, snip, synflow
from layerclock.predictors.proxies.separation import jacov, nwot, zen
from layerclock.space import GenomeArray, SiteIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.interfaces import SearchSpace

__all__ = ["COUNTS", "PROXIES", "zero_cost_proxies"]

# Of one network with random weights, in training mode, which they leave as it was but for its running statistics.
Proxy = Callable[[nn.Module, Batch], float]

PROXIES: dict[str, Proxy] = {
    "grad_norm": grad_norm,
    "snip": snip,
    "synflow": synflow,
    "fisher": fisher,
    "l2_norm": l2_norm,
    "plain": plain,
    "jacov": jacov,
    "nwot": nwot,
    "zen": zen,
}
# What follows from the sites, without a network; flops are multiply-accumulates.
COUNTS: dict[str, Callable[[SiteIndex, GenomeArray], GenomeArray]] = {"params": SiteIndex.params, "flops": SiteIndex.macs}


def zero_cost_proxies(
    space: SearchSpace,
    genomes: npt.ArrayLike,
    names: Sequence[str] = (*COUNTS, *PROXIES),
    seed: int = 0,
    batch: int = 16,
) -> npt.NDArray[np.float64]:
    """Proxies float64[N, P] of genomes int64[N, G], a column a name of :data:`COUNTS` or :data:`PROXIES`.

    All networks see one batch of ``batch`` random inputs; a network's weights follow from ``seed`` and the network alone. What cannot be
    computed (of a network through which nothing passes) is not finite. Raises :class:`UnknownNameError` for an unknown name,
    :class:`ArgumentError` without a name or for a proxy that needs other inputs than the space's, :class:`~layerclock.errors.GenomeError`
    for genomes of another space.
    """
    for name in names:
        if name not in PROXIES and name not in COUNTS:
            raise UnknownNameError("proxy", name, [*COUNTS, *PROXIES])
    if not names:
        raise ArgumentError("no proxy is named", f"proxies: {', '.join([*COUNTS, *PROXIES])}")
    index = SiteIndex.of(space)
    canonical = index.canonical(genomes)
    values = np.empty((len(canonical), len(names)))
    for column, name in enumerate(names):
        if name in COUNTS:
            values[:, column] = COUNTS[name](index, canonical)
    of_network = [(column, PROXIES[name]) for column, name in enumerate(names) if name in PROXIES]
    if of_network:
        examples = random_batch(space, batch, seed)
        for row, genome in enumerate(canonical):
            network = built(space, genome, seed)
            for column, proxy in of_network:
                values[row, column] = proxy(network, examples)
    return values
