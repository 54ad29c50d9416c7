"""BRP-NAS's latency predictor (Dudziak et al., NeurIPS 2020, arXiv:2007.08668): a graph convolutional network of four layers.

The graph has one more vertex, which reads from all others and whose features are the network's. The loss is the mean absolute error of
log latency, standardised. The paper trains on 900 networks of the device alone; here other devices' latencies, where given, come first:
the network learns the mean over source devices of their standardised log latencies, and is then trained on the new device's samples.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from layerclock.errors import ArgumentError
from layerclock.predictors.neural.cells import GraphEncoder
from layerclock.predictors.neural.samples import check_samples
from layerclock.predictors.neural.training import GraphTensors, Schedule, optimise, reproducible
from layerclock.predictors.transfer.problem import LogLatency

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.neural.cells import Graphs
    from layerclock.predictors.transfer.problem import Sources
    from layerclock.space import GenomeArray

__all__ = ["BrpNas", "FittedBrpNas", "GraphConvolutions", "PretrainedBrpNas"]

FloatArray = npt.NDArray[np.float64]
_LAYERS = 4
_PRETRAINING = Schedule(1000, 1e-3, 5e-4)
_TRAINING = Schedule(150, 4e-4, 5e-4)
_CHUNK = 2048


class GraphConvolutions(nn.Module):
    """Four times ``relu(LayerNorm(A X W))``; a line through the last features of the vertex that sees all others."""

    def __init__(self, operations: int, places: npt.NDArray[np.int64], width: int, dropout: float) -> None:
        super().__init__()
        # A product of one-hot codes with a matrix, as in the paper, is a look-up in it; the last row is the vertex that sees all.
        self.code = nn.Embedding(operations + 1, width)
        # In a chain the same code means different layers at different places.
        self.place = nn.Embedding(int(places.max()) + 2, width)
        self.places = nn.Buffer(torch.tensor(np.append(int(places.max()) + 1, places)))
        self.linear = nn.ModuleList(nn.Linear(width, width) for _ in range(_LAYERS - 1))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(_LAYERS))
        self.dropout = nn.Dropout(dropout)
        self.tell = nn.Linear(width, 1)

    def forward(self, graphs: GraphTensors) -> torch.Tensor:
        """Standardised log latency float32[N] of N graphs."""
        codes = functional.pad(graphs.codes, (1, 0), value=self.code.num_embeddings - 1)
        reads = functional.pad(graphs.adjacency, (1, 0, 1, 0))
        reads[:, 0] = 1.0
        reads = reads + torch.diag(torch.tensor([0.0] + [1.0] * graphs.codes.shape[1]))
        features = self.code(codes) + self.place(self.places)
        for number, norm in enumerate(self.norm):
            carried = self.linear[number - 1](features) if number else features
            features = self.dropout(functional.relu(norm(reads @ carried)))
        answer: torch.Tensor = self.tell(features[:, 0])[:, 0]
        return answer


@dataclass(frozen=True, slots=True)
class BrpNas:
    """BRP-NAS's options; everything random follows from ``seed``.

    The paper has a ``width`` of 600, AdamW with a rate of 0.0004 and a weight decay of 0.0005, and 250 epochs of single networks.
    ``pretraining`` takes ``batch`` networks a step, ``training`` on the new device's as well, or all where there are fewer.
    """

    width: int = 128
    dropout: float = 2e-3
    batch: int = 64
    pretraining: Schedule = _PRETRAINING
    training: Schedule = _TRAINING
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width < 1 or self.batch < 1 or not 0 <= self.dropout < 1:
            raise ArgumentError(f"{self} is no network", "width and batch >= 1, 0 <= dropout < 1")

    def pretrain(self, space: SearchSpace, sources: Sources | None) -> PretrainedBrpNas:
        """Learn what the devices of ``sources`` have in common; without sources, only make the network.

        Raises :class:`~layerclock.errors.GenomeError` if a network does not belong to ``space``.
        """
        encoder = GraphEncoder.of(space)
        with reproducible(self.seed) as generator:
            network = GraphConvolutions(encoder.operations, encoder.places, self.width, self.dropout)
            if sources is not None:
                common = _common(sources)
                known = ~np.isnan(common)
                _learn(network, encoder(sources.genomes[known]), common[known], self.pretraining, self.batch, generator)
        return PretrainedBrpNas(self, encoder, network.eval())

    def fit(self, space: SearchSpace, sources: Sources | None, genomes: GenomeArray, latency_ms: FloatArray) -> FittedBrpNas:
        """Pre-train, where there are sources, and train on the new device's samples."""
        return self.pretrain(space, sources).adapt(genomes, latency_ms)


@dataclass(frozen=True, slots=True, eq=False)
class PretrainedBrpNas:
    """What :meth:`BrpNas.pretrain` learned; :meth:`adapt` leaves it as it is."""

    options: BrpNas
    encoder: GraphEncoder
    network: GraphConvolutions

    def adapt(self, genomes: GenomeArray, latency_ms: FloatArray) -> FittedBrpNas:
        """Train on a device on which genomes int64[K, G] took latencies float64[K].

        Raises :class:`ArgumentError` unless there are two networks at least, each with a positive latency, and
        :class:`~layerclock.errors.GenomeError` for foreign genomes.
        """
        check_samples(genomes, latency_ms)
        log_latency = np.log(latency_ms)
        centre, spread = float(log_latency.mean()), max(float(log_latency.std()), 1e-6)
        with reproducible(self.options.seed) as generator:
            network = copy.deepcopy(self.network)
            labels = (log_latency - centre) / spread
            _learn(network, self.encoder(genomes), labels, self.options.training, self.options.batch, generator)
        return FittedBrpNas(self.encoder, network, centre, spread)


@dataclass(frozen=True, slots=True, eq=False)
class FittedBrpNas:
    """A trained network, and what brings its standardised answers back to log latency."""

    encoder: GraphEncoder
    network: GraphConvolutions
    centre: float
    spread: float

    def predict(self, genomes: GenomeArray) -> LogLatency:
        """Log latency of genomes int64[M, G]; the network does not tell its doubt."""
        with reproducible(0), torch.no_grad():
            parts = [
                self.network(GraphTensors.of(self.encoder(genomes[start : start + _CHUNK]))).double().numpy()
                for start in range(0, len(genomes), _CHUNK)
            ]
        mean = self.centre + self.spread * (np.concatenate(parts) if parts else np.zeros(0))
        return LogLatency(mean, np.full(len(mean), np.nan))


def _common(sources: Sources) -> FloatArray:
    """The mean over devices of log latency with mean 0 and deviation 1 on each: float64[N], NaN where nobody measured a network."""
    log_latency = np.log(sources.latency_ms)
    known = ~np.isnan(log_latency)
    mean = np.nansum(log_latency, axis=0) / np.maximum(known.sum(axis=0), 1)
    spread = np.sqrt(np.nansum((log_latency - mean) ** 2, axis=0) / np.maximum(known.sum(axis=0), 1))
    total = np.nansum((log_latency - mean) / np.maximum(spread, 1e-6), axis=1)
    times = known.sum(axis=1)
    common = np.where(times > 0, total / np.maximum(times, 1), np.nan)
    centred: FloatArray = (common - np.nanmean(common)) / max(float(np.nanstd(common)), 1e-6)
    return centred


def _learn(
    network: GraphConvolutions, encoded: Graphs, labels: FloatArray, schedule: Schedule, batch: int, generator: torch.Generator
) -> None:
    graphs, wanted = GraphTensors.of(encoded), torch.tensor(labels, dtype=torch.float32)

    def loss(_: int) -> torch.Tensor:
        drawn = torch.randperm(len(wanted), generator=generator)[:batch]
        return functional.l1_loss(network(graphs[drawn]), wanted[drawn])

    optimise(network, schedule, loss)
