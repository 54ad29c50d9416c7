"""From tables of other devices to a predictor for a new one: which networks to measure there, and the fit to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError
from layerclock.interfaces import HasLiveOperations
from layerclock.predictors.fitting import make_card, training_networks
from layerclock.predictors.transfer.gaussian import GaussianPrior
from layerclock.predictors.transfer.gaussian_graph import build_transfer_predictor
from layerclock.predictors.transfer.tables import sources_of
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.portable import OnnxPredictor
    from layerclock.space import GenomeArray

__all__ = ["MISLED", "choose_networks", "fit_transfer", "transfer_prior"]

# Before a measurement the other devices are trusted by 80 %: below this, the measurements speak against them (16 to 1).
MISLED = 0.2
_CANDIDATES = 3000


def transfer_prior(space: SearchSpace, tables: Sequence[LatencyTable], seed: int = 0) -> GaussianPrior:
    """What other devices' tables of ``space`` (there may be none) tell of a new device.

    Raises what :func:`~layerclock.predictors.transfer.tables.sources_of` and :meth:`GaussianPrior.of` raise.
    """
    return GaussianPrior.of(space, sources_of(tables, space) if tables else None, seed)


def choose_networks(prior: GaussianPrior, number: int, seed: int = 0) -> GenomeArray:
    """Genomes int64[number, G] to measure on the new device: those that leave the least expected variance.

    Raises :class:`ArgumentError` for fewer than five, which no fit can be made from, and for more than there are.
    """
    index = prior.views.index
    candidates = sample(index, _CANDIDATES, np.random.default_rng(seed))
    space = prior.views.space
    if isinstance(space, HasLiveOperations):  # a cell that lets nothing through computes nothing that could be measured
        candidates = candidates[(space.live_operations(candidates) != 0).any(axis=1)]
    if not 5 <= number <= len(candidates):
        raise ArgumentError(f"{number} networks cannot be chosen to be measured", f"from 5 to {len(candidates)}")
    return candidates[prior.choose(candidates, number, seed)]


def fit_transfer(table: LatencyTable, prior: GaussianPrior) -> OnnxPredictor:
    """The predictor for the device of ``table``, from its profiled networks and ``prior``.

    The card's parameters tell ``trust_in_sources`` where there are other devices: below :data:`MISLED` they mislead, and the fit rests
    on the device's own measurements (the guard against negative transfer). ``interval_half_width`` is that of a typical network.

    Raises :class:`~layerclock.errors.TableError` if the table belongs to another space or has too few networks, and what
    :func:`build_transfer_predictor` raises.
    """
    index = SiteIndex.of(prior.views.space)
    networks = training_networks(table, prior.views.space, index)
    fitted = prior.adapt(networks.genomes, networks.latency_ms)
    typical = fitted.predict(sample(index, 200, np.random.default_rng(0)))
    half_width = max(float(np.expm1(fitted.interval_factor * np.median(typical.std))), networks.mean_noise)
    parameters = {"source_devices": 0.0}
    if prior.sources is not None:
        parameters = {"source_devices": float(prior.sources.weights.shape[1]), "trust_in_sources": fitted.trust_in_sources}
    card = make_card("transfer", table, index, networks, half_width, parameters, "gaussian-process")
    return build_transfer_predictor(fitted, networks.genomes, card)
