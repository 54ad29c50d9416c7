"""What a campaign has seen, joined by network, layer and kernel.

The runtime's counters cost time themselves. Where the kernels of a network sum to more than its end-to-end time, the
difference is that cost: it is divided evenly over the kernels (the median over all networks) and subtracted from each.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from layerclock.errors import CampaignError, CoverageError
from layerclock.network import Kernel
from layerclock.profiler.correction import Runs, corrected, slowdown
from layerclock.profiler.measurement import Watched
from layerclock.timing import DISTURBED_ABOVE, STEADY_HALF_WIDTH, Timing, disturbance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from layerclock.profiler.measurement import Measurement
    from layerclock.profiler.store import CampaignRecord
    from layerclock.space import SiteIndex

__all__ = ["NetworkSeen", "Observed", "Part", "interval_us"]

FloatArray = npt.NDArray[np.float64]

_NORMAL_90 = NormalDist().inv_cdf(0.95)

# The reference workload's time at rest: low enough to be the fast mode wherever there was one, and no outlier.
_AT_REST_QUANTILE = 0.02
# A layer's time rests on the networks in which it was undisturbed, if there are this many; else on all.
_FEWEST_SETTLED = 3
_DRAWS = 400


@dataclass
class NetworkSeen:
    """All measurements of one network, joined over the rounds."""

    failure: str = ""
    kernels: tuple[Kernel, ...] = ()
    rounds: list[Measurement] = field(default_factory=list)
    # Of each profiled round, samples_ns float64[runs, kernels known by then], in the order of ``kernels``.
    _aligned: list[tuple[FloatArray, Measurement]] = field(default_factory=list)

    def add(self, measurement: Measurement) -> None:
        """Take in one round. Raises :class:`CampaignError` if the runtime executed other kernels than before."""
        if measurement.failure:
            self.failure = measurement.failure
            return
        if measurement.kernels is not None:
            # A kernel that takes less than the runtime's clock can tell may be reported in one round and not in another.
            kernels = tuple(dict.fromkeys((*self.kernels, *measurement.kernels.kernels)))
            position = {kernel.name: number for number, kernel in enumerate(kernels)}
            if len(position) != len(kernels):
                raise CampaignError("the network was executed as other kernels in a later round", "measure it in a fresh folder")
            self.kernels = kernels
            aligned = np.zeros((len(measurement.kernels.samples_ns), len(self.kernels)))
            aligned[:, [position[kernel.name] for kernel in measurement.kernels.kernels]] = measurement.kernels.samples_ns
            self._aligned.append((aligned, measurement))
        self.rounds.append(measurement)

    def end_to_end(self, at_rest_ns: float) -> Timing:
        """The network's wall times, as they were."""
        return _timing([(m.end_to_end_ns, m.watched, m.round) for m in self.rounds], at_rest_ns)

    def summed(self, positions: Sequence[int], at_rest_ns: float, subtract_ns: float = 0.0) -> Timing:
        """The time of some of its kernels together, by their positions in ``kernels``, less ``subtract_ns`` for each."""
        parts = []
        for aligned, measurement in self._aligned:
            reported = [position for position in positions if position < aligned.shape[1]]
            sums = aligned[:, reported].sum(axis=1) - subtract_ns * len(positions)
            if measurement.kernels_watched is not None:
                parts.append((sums, measurement.kernels_watched, measurement.round))
        return _timing(parts, at_rest_ns)

    def runs(self, at_rest_ns: float) -> Runs:
        """The same with what :mod:`layerclock.profiler.correction` asks of each."""
        in_order = [measurement for _, measurement in sorted({measurement.round: measurement for measurement in self.rounds}.items())]
        return Runs(
            self.end_to_end(at_rest_ns),
            slowdown(Watched.join([measurement.watched for measurement in self.rounds]), at_rest_ns),
            np.array([measurement.facts.get("begun_s", np.nan) for measurement in in_order]),
            tuple(measurement.board for measurement in in_order),
        )

    def counter_cost_ns(self, at_rest_ns: float, end_to_end_us: float) -> float:
        """What the counters add to each kernel, as far as this network shows: it may come out negative."""
        with_counters_us = self.summed(range(len(self.kernels)), at_rest_ns).latency_us
        return (with_counters_us - end_to_end_us) * 1e3 / len(self.kernels)

    def facts(self, name: str, join: Callable[[list[float]], float]) -> float | None:
        """One of the measurements' facts over all rounds; None where the machine did not tell."""
        values = [measurement.facts[name] for measurement in self.rounds if name in measurement.facts]
        return join(values) if values else None


def _timing(parts: Sequence[tuple[FloatArray, Watched, int]], at_rest_ns: float) -> Timing:
    watched = Watched.join([part[1] for part in parts])
    rounds = np.concatenate([np.full(len(part[0]), part[2]) for part in parts]).astype(np.int64)
    disturbed = disturbance(watched.reference_ns, watched.switches, at_rest_ns)
    return Timing(np.concatenate([part[0] for part in parts]), rounds, disturbed)


@dataclass
class Part:
    """A layer or kernel as it was seen: a timing for each network and place where it ran."""

    timings: list[Timing] = field(default_factory=list)
    kernels: list[int] = field(default_factory=list)

    def pooled(self) -> Timing:
        """All samples together."""
        rounds = [timing.rounds for timing in self.timings if timing.rounds is not None]
        disturbed = [timing.disturbed for timing in self.timings if timing.disturbed is not None]
        return Timing(np.concatenate([timing.samples_ns for timing in self.timings]), np.concatenate(rounds), np.concatenate(disturbed))

    @cached_property
    def estimate_us(self) -> tuple[float, float, float]:
        """The latency, median over networks of each one's latency, with the ends of its 90 % interval."""
        settled = [timing for timing in self.timings if timing.settled]
        timings = settled if len(settled) >= _FEWEST_SETTLED else self.timings
        values = np.array([timing.latency_us for timing in timings])
        latency = float(np.median(values))
        low, high = _median_interval(values, np.array([_deviation_us(timing) for timing in timings]))
        return latency, min(low, latency), max(high, latency)

    def half_width(self) -> float:
        """Half the 90 % interval, relative to the estimate; infinite if that is not above zero, or was always disturbed."""
        latency, low, high = self.estimate_us
        return (high - low) / 2 / latency if latency > 0 and any(timing.settled for timing in self.timings) else float("inf")


def _deviation_us(timing: Timing) -> float:
    """How far one network's latency may be off: the larger of what its samples and what the difference of its rounds tell."""
    low, high = timing.interval_us()
    between_rounds = timing.noise_floor * abs(timing.latency_us)
    return max((high - low) / 2 / _NORMAL_90, between_rounds if np.isfinite(between_rounds) else 0.0)


def interval_us(timing: Timing) -> tuple[float, float]:
    """90 % interval of one network's latency: what its samples say, and no narrower than the difference of its rounds."""
    low, high = timing.interval_us()
    reach = _NORMAL_90 * _deviation_us(timing)
    return min(low, timing.latency_us - reach), max(high, timing.latency_us + reach)


def _median_interval(values: FloatArray, deviations: FloatArray) -> tuple[float, float]:
    """90 % interval of the median over networks, each of which is itself uncertain.

    Bootstrap over networks by the percentile method (Efron and Tibshirani 1993, chapter 13), with each draw moved by its
    network's own normal deviation.
    """
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(values), (_DRAWS, len(values)))
    moved = values[draws] + generator.standard_normal(draws.shape) * deviations[draws]
    medians = np.median(moved, axis=1)
    return float(np.quantile(medians, 0.05)), float(np.quantile(medians, 0.95))


class Observed:
    """Everything seen so far; grows by :meth:`add`."""

    def __init__(self, record: CampaignRecord, index: SiteIndex) -> None:
        self.networks: dict[int, NetworkSeen] = defaultdict(NetworkSeen)
        self._record = record
        self._index = index
        self._column = {site.name: position for position, site in enumerate(index.sites)}
        self._covered = np.zeros(len(index.vocabulary), dtype=np.bool_)
        self._references: list[FloatArray] = []

    def rest(self, readings_ns: FloatArray) -> None:
        """Take in what the reference workload took while nothing was measured."""
        self._references.append(readings_ns[np.isfinite(readings_ns)])

    def add(self, measurement: Measurement) -> None:
        """Take in one measurement."""
        self.networks[measurement.network].add(measurement)
        self.rest(measurement.rest_ns)
        watched = [measurement.watched, *([measurement.kernels_watched] if measurement.kernels_watched else [])]
        self._references += [one.reference_ns[np.isfinite(one.reference_ns)] for one in watched]
        if measurement.kernels is not None:
            self._covered |= self._index.counts(np.array([self._record.genomes[measurement.network]]))[0] > 0

    @property
    def covered(self) -> int:
        """How many distinct layers of the space were measured."""
        return int(self._covered.sum())

    @property
    def at_rest_ns(self) -> float:
        """The reference workload's time on the machine at rest; NaN where nobody looked."""
        references = np.concatenate([np.array([]), *self._references])
        return float(np.quantile(references, _AT_REST_QUANTILE)) if len(references) else float("nan")

    def end_to_end(self) -> dict[int, Timing]:
        """Of each network that ran: its wall times as they would be on the machine at rest."""
        at_rest = self.at_rest_ns
        return corrected({number: network.runs(at_rest) for number, network in self.networks.items() if network.rounds})

    def counter_cost_ns(self) -> float:
        """What the counters add to each kernel; NaN if nothing was profiled."""
        at_rest, timings = self.at_rest_ns, self.end_to_end()
        costs = [
            network.counter_cost_ns(at_rest, timings[number].latency_us) for number, network in self.networks.items() if network.kernels
        ]
        return max(0.0, float(np.median(costs))) if costs else float("nan")

    def layers(self, counter_cost_ns: float) -> dict[int, Part]:
        """By number in the space's vocabulary. Raises :class:`CoverageError` for kernels where the space has no layer."""
        at_rest = self.at_rest_ns
        layers: dict[int, Part] = defaultdict(Part)
        for number, network in self.networks.items():
            if not network.kernels:
                continue
            here = self._index.layers(np.array([self._record.genomes[number]]))[0]
            of_site: dict[str, list[int]] = defaultdict(list)
            for position, kernel in enumerate(network.kernels):
                of_site[kernel.site].append(position)
            for site, positions in of_site.items():
                # A layer's time in a run is the sum of its kernels' in that run: its quantiles are those of whole layers.
                layer = layers[int(here[self._column[site]]) if site in self._column else -1]
                layer.timings.append(network.summed(positions, at_rest, counter_cost_ns))
                layer.kernels.append(len(positions))
        if -1 in layers:
            raise CoverageError("kernels ran at a site where the space has no layer", "build() and the sites of the space disagree")
        return layers

    def kernels(self, counter_cost_ns: float) -> dict[Kernel, Part]:
        """By what the kernel is: the same one at several places is one thing, so that its name and site are left out."""
        at_rest = self.at_rest_ns
        kernels: dict[Kernel, Part] = defaultdict(Part)
        for network in self.networks.values():
            for position, kernel in enumerate(network.kernels):
                same = kernels[Kernel("", kernel.op, "", *_identity(kernel))]
                same.timings.append(network.summed([position], at_rest, counter_cost_ns))
                same.kernels.append(1)
        return kernels

    def half_widths(self) -> FloatArray:
        """Of the 90 % interval of every layer that was measured, relative."""
        cost = self.counter_cost_ns()
        return np.array([part.half_width() for part in self.layers(cost).values()]) if np.isfinite(cost) else np.array([])

    def noise(self) -> float:
        """Median half width over the layers; NaN before anything was measured."""
        widths = self.half_widths()
        return float(np.median(widths)) if len(widths) else float("nan")

    def steady(self) -> bool:
        """Whether every layer of the space was measured and its interval is narrow enough."""
        return bool(self._covered.all()) and bool((self.half_widths() <= STEADY_HALF_WIDTH).all())

    def interference(self) -> dict[str, float]:
        """What disturbed the campaign, as numbers for the table's footer; what the machine does not tell is left out.

        undisturbed_share (of all runs), switches_per_run, reference_drift (largest slowdown of the reference workload's
        10 % quantile in a round), measured_s, steal_s, steal_share (of measured_s), throttled_s, frequency_mhz_min,
        temperature_c_max.
        """
        measurements = [measurement for network in self.networks.values() for measurement in network.rounds]
        watched = Watched.join(
            [one for m in measurements for one in (m.watched, m.kernels_watched) if one is not None and np.isfinite(one.reference_ns).any()]
        )
        found: dict[str, float] = {}
        if len(watched):
            at_rest = self.at_rest_ns
            disturbed = disturbance(watched.reference_ns, watched.switches, at_rest)
            by_round = [
                float(np.quantile(np.concatenate([m.watched.reference_ns for m in measurements if m.round == number]), 0.1))
                for number in {measurement.round for measurement in measurements}
            ]
            found = {
                "undisturbed_share": float((disturbed <= DISTURBED_ABOVE).mean()),
                "switches_per_run": float(watched.switches.mean()),
                "reference_at_rest_ns": at_rest,
                "reference_drift": max(by_round) / at_rest - 1,
            }
        joins: tuple[tuple[str, str, Callable[[list[float]], float]], ...] = (
            ("measured_s", "measured_s", sum), ("steal_s", "steal_s", sum), ("throttled_s", "throttled_s", sum),
            ("frequency_mhz", "frequency_mhz_min", min), ("temperature_c", "temperature_c_max", max),
        )  # fmt: skip
        for name, joined, join in joins:
            values = [measurement.facts[name] for measurement in measurements if name in measurement.facts]
            if values:
                found[joined] = join(values)
        if found.get("measured_s") and "steal_s" in found:
            found["steal_share"] = found["steal_s"] / found["measured_s"]
        return found


def _identity(kernel: Kernel) -> tuple[Any, ...]:
    shapes = kernel.inputs, kernel.outputs, kernel.weights
    return kernel.fused_ops, *shapes, kernel.attributes, kernel.layout, kernel.implementation, kernel.macs
