"""The cell space of NAS-Bench-201 (Dong & Yang, ICLR 2020, arXiv:2001.00326): genes and sites.

A cell has four nodes and an edge from each node to every later one; each edge chooses one of five operations, and a node is
the sum of what its edges bring. The same cell is repeated in three stages, which double the channels and halve the side
(section 2 and figure 1). Counts of multiply-accumulates cover convolutions and the linear layer, nothing else.

A site's layers tell what an edge *would* compute. An edge that lies on no path from the cell's input to its output is
computed by ``build``'s module as in the reference, but exporters leave it out: :meth:`NasBench201Space.live_operations` gives
the cell without such edges, which is the one to measure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, GenomeError
from layerclock.network import Layer, TensorSpec
from layerclock.space import Gene, GenomeArray, Site, SiteIndex

if TYPE_CHECKING:
    import torch

__all__ = ["EDGES", "OPERATIONS", "EdgeSpec", "NasBench201Space", "ReductionSpec", "nas_bench_201"]

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# (from, to), in the order in which an architecture string names them.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))

_KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
_PREFIX = "nas-bench-201"


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """What one edge of a cell does; ``adds`` tells that another edge has brought something to its node before."""

    operation: str
    channels: int
    adds: bool

    @property
    def kernel(self) -> int:
        """Side of the convolution's kernel, 0 where the operation has none."""
        return _KERNELS.get(self.operation, 0)

    def layer(self, size: int) -> Layer:
        """The layer on ``size`` x ``size`` pixels. Where it adds, the sum so far is its second input."""
        feature = TensorSpec((1, self.channels, size, size))
        weights = (self.channels * self.kernel) ** 2
        return Layer(
            op=self.operation,
            inputs=(feature, feature) if self.adds else (feature,),
            outputs=(feature,),
            attributes=(("adds", self.adds),),
            macs=weights * size**2,
            params=weights + (2 * self.channels if self.kernel else 0),
        )


@dataclass(frozen=True, slots=True)
class ReductionSpec:
    """The residual block between two stages: twice the channels, half the side."""

    in_channels: int

    @property
    def out_channels(self) -> int:
        """Channels that it returns."""
        return 2 * self.in_channels

    def layer(self, size: int) -> Layer:
        """The layer on ``size`` x ``size`` pixels: two 3x3 convolutions, and pooling with a 1x1 convolution beside them."""
        incoming, out, half = self.in_channels, self.out_channels, size // 2
        weights = 9 * incoming * out + 9 * out * out + incoming * out
        return Layer(
            op="reduction",
            inputs=(TensorSpec((1, incoming, size, size)),),
            outputs=(TensorSpec((1, out, half, half)),),
            attributes=(),
            macs=weights * half**2,
            params=weights + 4 * out,
        )


@dataclass(frozen=True, slots=True)
class NasBench201Space:
    """All networks of one skeleton: a :class:`~layerclock.interfaces.SearchSpace`.

    Raises :class:`ArgumentError` for parameters of which no network can be made.
    """

    name: str
    channels: int = 16
    cells: int = 5
    resolution: int = 32
    in_channels: int = 3
    classes: int = 10

    def __post_init__(self) -> None:
        numbers = (self.channels, self.cells, self.resolution, self.in_channels, self.classes)
        whole = all(isinstance(number, int) for number in numbers)
        if not (whole and min(numbers) > 0 and self.resolution % 4 == 0 and self.classes > 1):
            raise ArgumentError(
                f"space {self.name!r}: channels={self.channels}, cells={self.cells}, resolution={self.resolution}, "
                f"in_channels={self.in_channels}, classes={self.classes} is not a network",
                "whole numbers: channels, cells and in_channels >= 1, resolution a multiple of 4, classes >= 2",
            )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Shape and type of the one input, for batch 1."""
        return (TensorSpec((1, self.in_channels, self.resolution, self.resolution)),)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The operation of each edge, in the order of :data:`EDGES`."""
        return tuple(Gene(f"edge{start}{end}", OPERATIONS) for start, end in EDGES)

    @property
    def cell_edges(self) -> tuple[tuple[int, int], ...]:
        """The nodes that each gene's edge joins: :data:`EDGES`."""
        return EDGES

    @property
    def stage_channels(self) -> tuple[int, int, int]:
        """Channels of the cells of the three stages."""
        return self.channels, 2 * self.channels, 4 * self.channels

    @property
    def sites(self) -> tuple[Site, ...]:
        """Stem, the edges of every cell, the reductions between the stages, and the head, in order of execution."""
        size, last = self.resolution, self.stage_channels[-1]
        sites = [Site("stem", (), (self._stem_layer(),))]
        for stage, channels in enumerate(self.stage_channels):
            if stage:
                sites.append(Site(f"reduction{stage}", (), (ReductionSpec(channels // 2).layer(size),)))
                size //= 2
            for cell in range(self.cells):
                sites += [self._edge_site(f"stage{stage + 1}.cell{cell + 1}", edge, channels, size) for edge in range(len(EDGES))]
        pooled = TensorSpec((1, last, 1, 1))
        head = Layer("norm_pool", (TensorSpec((1, last, size, size)),), (pooled,), (), 0, 2 * last)
        logits = TensorSpec((1, self.classes))
        classifier = Layer("linear", (TensorSpec((1, last)),), (logits,), (), last * self.classes, (last + 1) * self.classes)
        return (*sites, Site("head", (), (head,)), Site("classifier", (), (classifier,)))

    def _stem_layer(self) -> Layer:
        weights = 9 * self.in_channels * self.channels
        out = TensorSpec((1, self.channels, self.resolution, self.resolution))
        return Layer("conv_norm", self.inputs, (out,), (("k", 3),), weights * self.resolution**2, weights + 2 * self.channels)

    def _edge_site(self, cell: str, edge: int, channels: int, size: int) -> Site:
        """The edge's own gene decides the operation; those of the edges that come before it into its node, whether it adds."""
        before = [number for number in range(edge) if EDGES[number][1] == EDGES[edge][1]]

        def layer(*operations: str) -> Layer | None:
            *earlier, own = operations
            adds = any(operation != "none" for operation in earlier)
            return EdgeSpec(own, channels, adds).layer(size) if own != "none" else None

        return Site.of(f"{cell}.{self.genes[edge].name}", [self.genes[number] for number in (*before, edge)], layer)

    def edges(self, genome: npt.ArrayLike, channels: int) -> dict[tuple[int, int], EdgeSpec]:
        """The edges that stand in a cell of ``channels`` channels, in order of execution."""
        chosen = [OPERATIONS[code] for code in self._checked(np.asarray(genome)[None])[0]]
        found: dict[tuple[int, int], EdgeSpec] = {}
        for (start, end), operation in zip(EDGES, chosen, strict=True):
            if operation != "none":
                found[start, end] = EdgeSpec(operation, channels, any(reached == end for _, reached in found))
        return found

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.nasbench201 import NasBench201

        return NasBench201(self, genome)

    def arch_string(self, genome: npt.ArrayLike) -> str:
        """The architecture string of one genome int64[6], such as ``|skip_connect~0|+|none~0|...|``."""
        codes = self._checked(np.asarray(genome)[None])[0]
        nodes = ["", "", ""]
        for (start, end), code in zip(EDGES, codes, strict=True):
            nodes[end - 1] += f"{OPERATIONS[code]}~{start}|"
        return "+".join(f"|{node}" for node in nodes)

    def from_arch_string(self, text: str) -> GenomeArray:
        """Genome int64[6] of an architecture string. Raises :class:`GenomeError` if it is none."""
        found = re.findall(r"(\w+)~(\d)\|", text)
        if not all(operation in OPERATIONS for operation, _ in found):
            unknown = next(operation for operation, _ in found if operation not in OPERATIONS)
            raise GenomeError(f"{text!r} names the operation {unknown!r}", f"operations: {', '.join(OPERATIONS)}")
        genome = np.array([OPERATIONS.index(operation) for operation, _ in found], dtype=np.int64)
        if len(genome) != len(EDGES) or self.arch_string(genome) != text:
            raise GenomeError(f"{text!r} is no cell of NAS-Bench-201", f"such as {self.arch_string([1] * len(EDGES))}")
        return genome

    def live_operations(self, genomes: npt.ArrayLike) -> GenomeArray:
        """``genomes`` int64[N, 6] with "none" (0) on every edge that lies on no path from the cell's input to its output.

        A cell that lets nothing through comes back as zeros alone. Raises :class:`GenomeError` for a foreign genome.
        """
        checked = self._checked(genomes)
        stands = {edge: checked[:, column] != 0 for column, edge in enumerate(EDGES)}
        # Every edge leads to a later node: each node is settled before the nodes that need it.
        reached = {0: np.ones(len(checked), dtype=np.bool_)}
        for node in (1, 2, 3):
            reached[node] = np.any([stands[start, end] & reached[start] for start, end in EDGES if end == node], axis=0)
        reaches = {3: np.ones(len(checked), dtype=np.bool_)}
        for node in (2, 1, 0):
            reaches[node] = np.any([stands[start, end] & reaches[end] for start, end in EDGES if start == node], axis=0)
        live = np.stack([reached[start] & reaches[end] for start, end in EDGES], axis=1)
        return np.where(live, checked, 0)

    def _checked(self, genomes: npt.ArrayLike) -> GenomeArray:
        return SiteIndex(self.genes, ()).check(genomes)


def nas_bench_201(channels: int = 16, cells: int = 5, resolution: int = 32, in_channels: int = 3, classes: int = 10) -> NasBench201Space:
    """NAS-Bench-201's space (``nas-bench-201``); the usual parameters are those of its CIFAR-10 networks."""
    usual = {"channels": 16, "cells": 5, "resolution": 32, "in_channels": 3, "classes": 10}
    given = {"channels": channels, "cells": cells, "resolution": resolution, "in_channels": in_channels, "classes": classes}
    # The name says every parameter that differs from the usual, so that tables of variants never share a name.
    changed = ",".join(f"{key}={value}" for key, value in given.items() if value != usual[key])
    return NasBench201Space(f"{_PREFIX}:{changed}" if changed else _PREFIX, channels, cells, resolution, in_channels, classes)
