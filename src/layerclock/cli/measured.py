"""Latency as an objective that is measured, and the front of a search measured again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from layerclock.interfaces import DeviceOptions
from layerclock.plugins import open_device, options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from layerclock.interfaces import Device, SearchSpace
    from layerclock.profiler.progress import Progress
    from layerclock.space import GenomeArray
    from layerclock.target import Target

__all__ = ["AS_USUAL", "MeasuredLatency", "Wishes", "measure_networks", "open_for_front"]

_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a device is to measure, as far as the user says."""

    threads: int | None = None
    batch: int | None = None
    precision: str | None = None

    def over(self, options: DeviceOptions) -> DeviceOptions:
        """These settings in place of those of ``options``. Raises what :class:`DeviceOptions` raises."""
        return replace(
            options,
            threads=self.threads or options.threads,
            batch=self.batch or options.batch,
            precision=self.precision or options.precision,
        )


AS_USUAL = Wishes()


def open_for_front(name: str, wishes: Wishes, predicted: Sequence[Target]) -> Device:
    """The device that a front is measured on: set as the first of ``predicted`` that is of this device, but for what is wished."""
    own = next((target for target in predicted if target.device == name), None)
    return open_device(name, wishes.over(options_of(own) if own else DeviceOptions()))


def measure_networks(
    device: Device, space: SearchSpace, genomes: GenomeArray, folder: Path, progress: Callable[[Progress], None] | None = None
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
    table = profile(device, space, folder, networks=len(every), rounds=_ROUNDS, plan=Plan(every, every[:0]), progress=progress)
    times = table.networks()
    found = dict(zip(map(tuple, times.genomes.tolist()), times.latency_ms.tolist(), strict=True))
    return np.array([found.get(tuple(genome), np.nan) for genome in genomes.tolist()])


class MeasuredLatency:
    """The objective's function: every network that a search asks for joins one campaign, which an interrupted search finds again."""

    def __init__(self, device: Device, space: SearchSpace, folder: Path) -> None:
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
