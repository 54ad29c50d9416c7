"""What networks are made of, as sums over their sites: what regressors need to learn a layer's time from others that resemble it.

Everything here has one row for each option of each site; a network's row is the sum of those of the options that stand in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from layerclock.network import Layer

__all__ = ["TOTALS", "LayerSums", "choice_kinds", "option_sizes"]

FloatArray = npt.NDArray[np.float64]

# The first columns of the sizes: MACs, parameters, layers and activations, in units of their means over a space's layers.
TOTALS = 4
# Columns are centred and scaled on so many networks.
_DRAWN = 1000
# Distances over which layers stand for each other, in standard deviations of their logarithmic sizes; 0: each for itself alone.
_LENGTHS = (0.0, 1.0, 4.0)
# In spaces of more distinct layers these are left out: their covariances would take longer than the measurements.
_MOST_LAYERS = 1000
_SMALLEST_EIGENVALUE = 1e-8


@dataclass(frozen=True, eq=False)
class LayerSums:
    """Columns that are sums over sites, in groups; ``of(index)``, then ``sums(genomes)`` gives float64[N, F].

    ``table`` float64[T, F] holds what each option adds; from the sum ``centre`` float64[F] is subtracted, the rest divided by ``scale``
    float64[F]. ``groups`` are the numbers of columns of:

    - multiply-accumulates, parameters, layers and activations of the whole network;
    - every choice of every gene, counted where it matters: a width that twelve layers share counts twelve times;
    - the same, of genes of one kind (names that differ in numbers only), and of one kind in one stage (layers of one output resolution);
    - multiply-accumulates, layers and activations by stage;
    - every distinct layer, alone and with the layers whose sizes resemble its own: the product of two networks' columns is the sum of a
      Gaussian covariance over all pairs of their layers.

    Each group is centred on drawn networks and scaled so that its mean squared length is 1; of the sizes each column counts alike.
    Columns that are the same in all networks come out as zero.
    """

    index: SiteIndex
    table: FloatArray
    centre: FloatArray
    scale: FloatArray
    groups: tuple[int, ...]

    @classmethod
    def of(cls, index: SiteIndex) -> LayerSums:
        """The columns for the space of ``index``."""
        sizes, choices = option_sizes(index), _option_choices(index)
        kinds, staged = choice_kinds(index)
        raw = [sizes[:, :TOTALS], choices, choices @ kinds, choices @ staged, sizes[:, TOTALS:]]
        alike = (0, len(raw) - 1)
        if len(index.vocabulary) <= _MOST_LAYERS:
            raw += [np.vstack([root, np.zeros(root.shape[1])])[index.option_layer] for root in _layer_roots(index)]
        options = index.options(sample(index, _DRAWN, np.random.default_rng(0)))
        centres, scales = [], []
        for number, columns in enumerate(raw):
            drawn = columns[options].sum(axis=1)
            centre, spread = drawn.mean(axis=0), drawn.std(axis=0)
            told = spread > 1e-9 * np.maximum(np.abs(drawn).max(axis=0), 1e-300)
            scale = np.where(told, spread if number in alike else 1.0, np.inf)
            length = float(np.sqrt((((drawn - centre) / scale) ** 2).sum(axis=1).mean()))
            centres.append(centre)
            scales.append(scale * (length if length > 0 else 1.0))
        groups = tuple(columns.shape[1] for columns in raw)
        return cls(index, np.hstack(raw), np.concatenate(centres), np.concatenate(scales), groups)

    def __call__(self, genomes: npt.ArrayLike) -> FloatArray:
        """Columns float64[N, F] of genomes int64[N, G]. Raises :class:`~layerclock.errors.GenomeError` for foreign ones."""
        options = self.index.options(self.index.check(genomes))
        found = np.tile(-self.centre, (len(options), 1))
        for site in options.T:
            found += self.table[site]
        return found / self.scale


def option_sizes(index: SiteIndex) -> FloatArray:
    """What each option adds, float64[T, TOTALS + 3 stages]: the totals; multiply-accumulates, layers and activations by stage.

    A stage is the layers of one output resolution.
    """
    layers = [*index.vocabulary, None]
    sizes = np.array(
        [[0.0] * TOTALS if one is None else [one.macs, one.params, 1, sum(spec.elements for spec in one.outputs)] for one in layers]
    )
    sizes[:, [0, 1, 3]] /= np.maximum(sizes[:-1, [0, 1, 3]].mean(axis=0), 1.0)
    plane = [0 if one is None else _plane(one) for one in layers]
    stages = sorted(set(plane[:-1]), reverse=True)
    staged = [(np.array(plane) == stage)[:, None] * sizes[:, [0, 2, 3]] for stage in stages]
    return np.column_stack([sizes, *staged])[index.option_layer]


def choice_kinds(index: SiteIndex) -> tuple[FloatArray, FloatArray]:
    """Which columns of the one-hot encoding are one choice of genes of one kind, and which are so in one stage: 0 or 1, [columns, K]."""
    names = [re.sub(r"\d+", "#", gene.name) for gene in index.genes]
    stage = [
        tuple(sorted({_plane(layer) for site in index.sites if gene in site.genes for layer in site.layers if layer is not None}))
        for gene in index.genes
    ]
    found = []
    for keys in (names, list(zip(names, stage, strict=True))):
        number: dict[tuple[object, object], int] = {}
        columns = [
            number.setdefault((key, choice), len(number)) for key, gene in zip(keys, index.genes, strict=True) for choice in gene.choices
        ]
        found.append((np.array(columns)[:, None] == np.arange(len(number))).astype(np.float64))
    return found[0], found[1]


def _plane(layer: Layer) -> int:
    """Pixels of a layer's output: layers with equally many are one stage."""
    shape = layer.outputs[0].shape if layer.outputs else ()
    return prod(shape[2:]) if len(shape) > 2 else 1


def _option_choices(index: SiteIndex) -> FloatArray:
    """The choices that each option makes and that matter there: 0 or 1, float64[T, choices of all genes]."""
    starts = np.concatenate([[0], np.cumsum(index.cardinality)])
    ends = np.append(index.offsets[1:], len(index.option_layer))
    found = np.zeros((len(index.option_layer), starts[-1]))
    for site, gene, start in zip(index.pair_site, index.pair_gene, index.pair_start, strict=True):
        options = np.arange(index.offsets[site], ends[site])
        chosen = (options - index.offsets[site]) // index.radix[gene, site] % index.cardinality[gene]
        found[options, starts[gene] + chosen] = index.relevance[start + options]
    return found


def _layer_roots(index: SiteIndex) -> list[FloatArray]:
    """For each length columns float64[V, K], the products of whose rows are the covariances of the layers."""
    sizes = np.array([_sizes(layer) for layer in index.vocabulary])
    spread = sizes.std(axis=0)
    standard = sizes / np.where(spread > 0, spread, np.inf)
    squared = ((standard[:, None] - standard) ** 2).sum(axis=2)
    ops = np.array([layer.op for layer in index.vocabulary])
    same = ops[:, None] == ops
    roots = []
    for length in _LENGTHS:
        covariance = np.exp(-squared / (2 * length**2)) * same if length else np.eye(len(sizes))
        values, vectors = np.linalg.eigh(covariance)
        kept = values > _SMALLEST_EIGENVALUE * values[-1]
        roots.append(vectors[:, kept] * np.sqrt(values[kept]))
    return roots


def _sizes(layer: Layer) -> tuple[float, ...]:
    elements = (sum(spec.elements for spec in specs) for specs in (layer.inputs, layer.outputs))
    macs, params, read, written = np.log1p([layer.macs, layer.params, *elements]).tolist()
    return macs, params, read, written
