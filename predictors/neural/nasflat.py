"""NASFLAT (Akhauri and Abdelfattah, MLSys 2024, arXiv:2403.02446): a graph network ranks on many devices, then adapts to a new one.

It is pre-trained to rank networks on every source device. The new device begins with the embedding of the source device that orders its
few samples best, and the whole network is then trained on these samples for a few steps. A rising line brings the scores to log latency.

Three things differ from the authors' code (github.com/abdelfattah-lab/nasflat_latency). They compare latencies across devices, brought to
one range, and a random few pairs of a batch; here all pairs of one device count. Their FBNet is operations without order, here a chain
whose vertices know their places. And the source device to begin with is found by what the network thinks of the samples on each source
device, because the samples need not have been measured there.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata

from layerclock.errors import ArgumentError
from layerclock.predictors.neural.cells import GraphEncoder
from layerclock.predictors.neural.nasflat_network import NasflatNetwork
from layerclock.predictors.neural.ranking import LogLine, ranking_loss
from layerclock.predictors.neural.samples import check_samples
from layerclock.predictors.neural.training import GraphTensors, Schedule, optimise, reproducible
from layerclock.predictors.transfer.problem import LogLatency

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.neural.supplements import Supplement
    from layerclock.predictors.transfer.problem import Sources
    from layerclock.space import GenomeArray

__all__ = ["FittedNasflat", "Nasflat", "PretrainedNasflat"]

FloatArray = npt.NDArray[np.float64]
_CHUNK = 2048
_PRETRAINING = Schedule(800, 1e-3)
_ADAPTATION = Schedule(40, 1e-3)


@dataclass(frozen=True, slots=True)
class Nasflat:
    """NASFLAT's options.

    ``width`` of the graph layers and ``head`` of the perceptron; ``embedding``, half for the operation and half for the device.
    ``pretraining`` takes batches of ``batch`` latencies; the authors have width 128 and 150 epochs. ``adaptation`` takes all samples in
    each step; they have a rate of 0.003 and 40 steps on NAS-Bench-201, 0.001 and 30 steps on FBNet. ``seed`` settles all that is random.
    """

    width: int = 64
    embedding: int = 48
    head: int = 200
    dropout: float = 0.1
    margin: float = 0.1
    batch: int = 128
    pretraining: Schedule = _PRETRAINING
    adaptation: Schedule = _ADAPTATION
    supplement: Supplement | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.width, self.head) < 1 or self.embedding < 2 or self.batch < 2 or not 0 <= self.dropout < 1 or self.margin <= 0:
            raise ArgumentError(f"{self} is no network", "width and head >= 1, embedding and batch >= 2, 0 <= dropout < 1, margin > 0")

    def pretrain(self, space: SearchSpace, sources: Sources | None) -> PretrainedNasflat:
        """Learn to rank the networks of ``sources`` on each of their devices; without sources, only make the network.

        Raises :class:`~layerclock.errors.GenomeError` if a network does not belong to ``space``.
        """
        encoder = GraphEncoder.of(space)
        scaling = _Scaling.of(self.supplement, None if sources is None else sources.genomes)
        devices = 0 if sources is None else len(sources.devices)
        with reproducible(self.seed) as generator:
            network = NasflatNetwork(
                encoder.operations, encoder.places, devices + 1, scaling.columns, self.width, self.embedding, self.head, self.dropout
            )
            if sources is not None:
                self._learn(network, encoder, scaling, sources, generator)
        return PretrainedNasflat(self, encoder, scaling, devices, network.eval())

    def fit(self, space: SearchSpace, sources: Sources | None, genomes: GenomeArray, latency_ms: FloatArray) -> FittedNasflat:
        """Pre-train and adapt in one. To adapt to several devices, pre-train once and call the result's ``adapt`` for each."""
        return self.pretrain(space, sources).adapt(genomes, latency_ms)

    def _learn(
        self, network: NasflatNetwork, encoder: GraphEncoder, scaling: _Scaling, sources: Sources, generator: torch.Generator
    ) -> None:
        graphs = GraphTensors.of(encoder(sources.genomes))
        supplement = scaling(sources.genomes)
        rows, columns = np.nonzero(~np.isnan(sources.latency_ms))
        network_of, device_of = torch.tensor(rows), torch.tensor(columns)
        latency = torch.tensor(sources.latency_ms[rows, columns])

        def loss(_: int) -> torch.Tensor:
            drawn = torch.randint(len(latency), (self.batch,), generator=generator)
            which, device = network_of[drawn], device_of[drawn]
            return ranking_loss(network(graphs[which], device, supplement[which]), latency[drawn], device, self.margin)

        optimise(network, self.pretraining, loss)


@dataclass(frozen=True, slots=True, eq=False)
class PretrainedNasflat:
    """What :meth:`Nasflat.pretrain` learned; :meth:`adapt` leaves it as it is."""

    options: Nasflat
    encoder: GraphEncoder
    scaling: _Scaling
    devices: int
    network: NasflatNetwork

    def adapt(self, genomes: GenomeArray, latency_ms: FloatArray) -> FittedNasflat:
        """Adapt to a device on which genomes int64[K, G] took latencies float64[K].

        Raises :class:`ArgumentError` unless there are two networks at least, each with a positive latency, and
        :class:`~layerclock.errors.GenomeError` for foreign genomes.
        """
        check_samples(genomes, latency_ms)
        graphs, supplement = GraphTensors.of(self.encoder(genomes)), self.scaling(genomes)
        latency = torch.tensor(latency_ms)
        with reproducible(self.options.seed):
            network = copy.deepcopy(self.network)
            self._begin_like_nearest(network, graphs, supplement, latency_ms)
            target = torch.full((len(genomes),), self.devices)
            optimise(
                network,
                self.options.adaptation,
                lambda _: ranking_loss(network(graphs, target, supplement), latency, target, self.options.margin),
            )
            fitted = FittedNasflat(self, network, LogLine(0.0, 1.0))
            line = LogLine.fit(fitted.scores(genomes), np.log(latency_ms))
        return FittedNasflat(self, network, line)

    def _begin_like_nearest(self, network: NasflatNetwork, graphs: GraphTensors, supplement: torch.Tensor, latency_ms: FloatArray) -> None:
        """Give the new device the embedding of the source device whose predicted order correlates best with the samples'."""
        if not self.devices:
            return
        true = rankdata(latency_ms) - (len(latency_ms) + 1) / 2
        with torch.no_grad():
            agreement = [
                float(true @ rankdata(network(graphs, torch.full((len(graphs),), device), supplement).numpy()))
                for device in range(self.devices)
            ]
            network.device.weight[self.devices] = network.device.weight[int(np.argmax(agreement))]


@dataclass(frozen=True, slots=True, eq=False)
class FittedNasflat:
    """An adapted network and the line from its scores to log latency."""

    pretrained: PretrainedNasflat
    network: NasflatNetwork
    line: LogLine

    def scores(self, genomes: GenomeArray) -> FloatArray:
        """What the network orders by: float64[M], the slower, the higher."""
        with reproducible(self.pretrained.options.seed), torch.no_grad():
            parts = [self._chunk(genomes[start : start + _CHUNK]) for start in range(0, len(genomes), _CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def predict(self, genomes: GenomeArray) -> LogLatency:
        """Log latency of genomes int64[M, G]; a ranking does not tell its doubt."""
        mean = self.line(self.scores(genomes))
        return LogLatency(mean, np.full(len(mean), np.nan))

    def _chunk(self, genomes: GenomeArray) -> FloatArray:
        own = self.pretrained
        graphs = GraphTensors.of(own.encoder(genomes))
        answer = self.network(graphs, torch.full((len(genomes),), own.devices), own.scaling(genomes))
        return np.asarray(answer.double().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class _Scaling:
    """The supplement's columns with mean 0 and deviation 1 over the source networks; no columns where there is no supplement."""

    supplement: Supplement | None
    mean: FloatArray
    spread: FloatArray

    @property
    def columns(self) -> int:
        return len(self.mean)

    @classmethod
    def of(cls, supplement: Supplement | None, genomes: GenomeArray | None) -> _Scaling:
        if supplement is None:
            return cls(None, np.zeros(0), np.ones(0))
        if genomes is None:
            raise ArgumentError("a supplementary encoding is scaled by the source networks, and there are none", "give sources")
        vectors = supplement(genomes)
        if vectors.ndim != 2 or len(vectors) != len(genomes) or not np.isfinite(vectors).all():
            raise ArgumentError(
                f"the supplementary encoding of {len(genomes)} networks is {vectors.shape}", "finite numbers: one row a network"
            )
        spread = vectors.std(axis=0)
        return cls(supplement, vectors.mean(axis=0), np.where(spread > 1e-12, spread, 1.0))

    def __call__(self, genomes: GenomeArray) -> torch.Tensor:
        vectors = np.zeros((len(genomes), 0)) if self.supplement is None else (self.supplement(genomes) - self.mean) / self.spread
        return torch.tensor(vectors, dtype=torch.float32)
