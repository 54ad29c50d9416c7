"""Latency as an objective that is measured, and the front of a search measured again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.plugins import open_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from layerclock.interfaces import SearchSpace
    from layerclock.profiler.sitting import Progress
    from layerclock.space import GenomeArray

__all__ = ["MeasuredLatency", "measure_networks"]

_ROUNDS = 4


def measure_networks(
    device: str, space: SearchSpace, genomes: GenomeArray, folder: Path, progress: Callable[[Progress], None] | None = None
) -> npt.NDArray[np.float64]:
    """End-to-end latency in ms of canonical genomes int64[n, G] on a device, NaN for those that failed: float64[n].

    It is one campaign in ``folder``; networks that it holds already are not measured again.
    Raises what :func:`~layerclock.profiler.campaign.profile` raises.
    """
    from layerclock.profiler.campaign import profile
    from layerclock.profiler.plan import Plan
    from layerclock.profiler.store import CampaignFolder

    store = CampaignFolder(folder)
    begun = store.record().profiled if (folder / "campaign.json").exists() else ()
    every = np.array(list(dict.fromkeys([*begun, *map(tuple, genomes.tolist())])), dtype=np.int64)
    table = profile(open_device(device), space, folder, networks=len(every), rounds=_ROUNDS, plan=Plan(every, every[:0]), progress=progress)
    times = table.networks()
    found = dict(zip(map(tuple, times.genomes.tolist()), times.latency_ms.tolist(), strict=True))
    return np.array([found.get(tuple(genome), np.nan) for genome in genomes.tolist()])


class MeasuredLatency:
    """The objective's function: every network that a search asks for joins one campaign, which an interrupted search finds again."""

    def __init__(self, device: str, space: SearchSpace, folder: Path) -> None:
        self._device, self._space, self._folder = device, space, folder
        self._known: dict[tuple[int, ...], float] = {}

    def __call__(self, genomes: GenomeArray) -> npt.NDArray[np.float64]:
        """Latency in ms, float64[n], of canonical genomes int64[n, G]."""
        asked = list(map(tuple, genomes.tolist()))
        if not set(asked) <= set(self._known):
            every = list(dict.fromkeys([*self._known, *asked]))
            latency_ms = measure_networks(self._device, self._space, np.array(every, dtype=np.int64), self._folder)
            self._known = dict(zip(every, latency_ms.tolist(), strict=True))
        return np.array([self._known[genome] for genome in asked])
