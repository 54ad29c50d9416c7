"""What networks are made of, as sums over their sites: what regressors need to learn a layer's time from others that resemble it.

A table has one row for each option of each site; a network's row is the sum of those of the options that stand in it.
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

# The first columns of the sizes: MACs, parameters, layers, activations; but for the layers in units of their means over a space's layers.
TOTALS = 4
# Columns are centred and scaled on so many networks.
_DRAWN = 1000
# Distances over which layers stand for each other, in standard deviations of their logarithmic sizes; 0: each for itself alone.
_LENGTHS = (0.0, 1.0, 4.0)
# In spaces of more distinct layers these are left out: their covariances would take longer than the measurements.
_MOST_LAYERS = 1000
_SMALLEST_EIGENVALUE = 1e-8
# Cells of a table of choices that are worth its memory, as doubles: 80 MB.
_MOST_CELLS = 10_000_000
# Differences that are smaller in relation to what differs are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class LayerSums:
    """Columns that are sums over sites, in groups; ``of(index)``, then ``sums(genomes)`` gives float64[N, F].

    ``table`` float64[T, F] holds what each option adds; from the sum ``centre`` float64[F] is subtracted, the rest divided by ``scale``
    float64[F]. ``groups`` are the numbers of columns of:

    - multiply-accumulates, parameters, layers and activations of the whole network;
    - every choice of every gene, counted at each site whose layer it makes (a width that twelve layers share counts twelve times), in
      equal parts where several choices make the same layer: genomes of one network have one row;
    - the same, of genes of one kind (names that differ in numbers only), and of one kind in one stage (layers of one output resolution);
    - multiply-accumulates, layers and activations by stage;
    - every distinct layer, alone and with the layers whose sizes resemble its own: the product of two networks' columns is the sum of a
      Gaussian covariance over all pairs of their layers. Spaces of more than 1,000 layers go without.

    Each group is centred on drawn networks and scaled so that its mean squared length is 1; of the sizes each column counts alike.
    Columns that are the same for all options of each site come out as zero.
    """

    index: SiteIndex
    table: FloatArray
    centre: FloatArray
    scale: FloatArray
    groups: tuple[int, ...]

    @staticmethod
    def affordable(index: SiteIndex) -> bool:
        """Whether the table takes some hundred megabytes at most: sites of thousands of options are beyond that."""
        return len(index.option_layer) * int(index.cardinality.sum()) <= _MOST_CELLS

    @classmethod
    def of(cls, index: SiteIndex) -> LayerSums:
        """The columns for the space of ``index``."""
        sizes, choices = option_sizes(index), _option_choices(index)
        kinds, staged = choice_kinds(index)
        raw = [sizes[:, :TOTALS], choices, choices @ kinds, choices @ staged, sizes[:, TOTALS:]]
        alike = (0, len(raw) - 1)
        if 0 < len(index.vocabulary) <= _MOST_LAYERS:
            raw += [np.vstack([root, np.zeros(root.shape[1])])[index.option_layer] for root in _layer_roots(index)]
        options = index.options(sample(index, _DRAWN, np.random.default_rng(0)))
        centres, scales = [], []
        for number, columns in enumerate(raw):
            drawn = columns[options].sum(axis=1)
            centre = drawn.mean(axis=0)
            # What differs between options may not have been drawn: then its deviation is that of independent sites.
            differs, deviation = _differences(index, columns)
            spread = drawn.std(axis=0)
            spread = np.where(spread > _ROUNDING * np.abs(columns).max(axis=0), spread, deviation) if number in alike else 1.0
            scale = np.where(differs, spread, np.inf)
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

    def per_site(self, columns: int) -> FloatArray:
        """What each option adds to the first ``columns``, centred and scaled, float64[T, columns]: numbers whose sums float32 holds."""
        centre = self.centre[:columns] / max(1, len(self.index.sites))
        shares: FloatArray = (self.table[:, :columns] - centre) / self.scale[:columns]
        return shares


def option_sizes(index: SiteIndex) -> FloatArray:
    """What each option adds, float64[T, TOTALS + 3 stages]: the totals; multiply-accumulates, layers and activations by stage.

    A stage is the layers of one output resolution (see :func:`_plane`).
    """
    layers = [*index.vocabulary, None]
    sizes = np.array(
        [[0.0] * TOTALS if one is None else [one.macs, one.params, 1, sum(spec.elements for spec in one.outputs)] for one in layers]
    )
    if index.vocabulary:
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
    """What follows batch and channels in a layer's output, multiplied (pixels of an image): layers with equally many are one stage."""
    shape = layer.outputs[0].shape if layer.outputs else ()
    return prod(shape[2:]) if len(shape) > 2 else 1


def _option_choices(index: SiteIndex) -> FloatArray:
    """The choices that make the layer of each option, float64[T, choices of all genes]; a mean where several options of a site have it."""
    starts = np.concatenate([[0], np.cumsum(index.cardinality)])
    found = np.zeros((len(index.option_layer), starts[-1]))
    for site, options in enumerate(_options_of_sites(index)):
        for gene in np.flatnonzero(index.radix[:, site]):
            chosen = (options - index.offsets[site]) // index.radix[gene, site] % index.cardinality[gene]
            found[options, starts[gene] + chosen] = 1.0
        _, same = np.unique(index.option_layer[options], return_inverse=True)
        for layer in range(int(same.max(initial=-1)) + 1):
            found[options[same == layer]] = found[options[same == layer]].mean(axis=0)
    return found


def _options_of_sites(index: SiteIndex) -> list[npt.NDArray[np.int64]]:
    ends = np.append(index.offsets[1:], len(index.option_layer))
    return [np.arange(first, end) for first, end in zip(index.offsets, ends, strict=True)]


def _differences(index: SiteIndex, columns: FloatArray) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Of columns float64[T, K]: whether the options of some site differ, bool[K], and the deviation of sums of independent options."""
    differs, variance = np.zeros(columns.shape[1], dtype=np.bool_), np.zeros(columns.shape[1])
    least = _ROUNDING * np.abs(columns).max(axis=0, initial=0.0)
    for options in _options_of_sites(index):
        if len(options):
            differs |= np.ptp(columns[options], axis=0) > least
            variance += columns[options].var(axis=0)
    return differs, np.sqrt(variance)


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
