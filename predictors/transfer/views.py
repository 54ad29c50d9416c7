"""What a Gaussian process compares networks by: several views of a genome, in numpy for fitting and as ONNX nodes for predicting.

No single view serves every device: one that counts kernels launched wants depths and choices, one that is bound by arithmetic wants sizes,
one with caches wants stages. Views of a space's own graphs (edges that lead nowhere taken away, paths through a cell) need its
code; they are used where every network of the space can be listed in the predictor's file, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.interfaces import HasLiveOperations
from layerclock.predictors.encoding import add_masked_one_hot, masked_one_hot
from layerclock.predictors.layer_sums import TOTALS, choice_kinds, option_sizes
from layerclock.predictors.transfer.encodings import encode
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.graph import GraphBuilder
    from layerclock.space import GenomeArray

__all__ = ["MOST_LISTED", "Views", "every_genome"]

FloatArray = npt.NDArray[np.float64]

# Spaces of at most so many genomes are listed whole in a predictor's file.
MOST_LISTED = 100_000
# Views are centred and scaled on so many networks.
_DRAWN = 2000


def every_genome(index: SiteIndex) -> GenomeArray | None:
    """All genomes of a space in the order of their mixed radix, int64[N, G]; None if there are more than :data:`MOST_LISTED`."""
    sizes = [int(size) for size in index.cardinality]
    if prod(sizes) > MOST_LISTED:
        return None
    return np.indices(sizes).reshape(len(sizes), -1).T.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Views:
    """The views of one space: ``of(space)``, then ``views(genomes)`` gives float64[N, F] by name.

    Each is centred, and scaled so that its mean squared length is 1. ``portable`` says whether they are all written as ONNX.

    - ``one-hot``: the masked one-hot encoding; ``choices``: how often genes of one kind (names that differ in numbers only) took each
      choice, with multiply-accumulates, parameters and depth; ``staged-choices``: how often they did in each stage, the layers of one
      output resolution; ``sizes``: logarithms of all sizes; ``stages``: multiply-accumulates, layers and activations by stage.
    - of cells that the space can simplify, where all its genomes can be listed: ``live-one-hot``, ``live-choices``, ``live-sizes``,
      ``paths``.
    """

    space: SearchSpace
    index: SiteIndex
    sums: FloatArray
    kinds: FloatArray
    staged: FloatArray
    portable: bool
    centre: Mapping[str, FloatArray]
    scale: Mapping[str, FloatArray]

    @classmethod
    def of(cls, space: SearchSpace) -> Views:
        """The views of ``space``, centred on networks drawn from it."""
        index = SiteIndex.of(space)
        listed = every_genome(index)
        own_graphs = isinstance(space, HasLiveOperations) and listed is not None
        bare = cls(space, index, option_sizes(index), *choice_kinds(index), not own_graphs, {}, {})
        drawn = sample(index, _DRAWN, np.random.default_rng(0)) if listed is None or len(listed) > _DRAWN else listed
        centre, scale = {}, {}
        for name, raw in bare._raw(drawn).items():
            spread = np.ones(raw.shape[1]) if name.endswith("one-hot") else raw.std(axis=0)
            spread = np.where(spread > 1e-9 * np.maximum(np.abs(raw).max(axis=0), 1e-300), spread, np.inf)
            centre[name] = raw.mean(axis=0)
            length = float(np.sqrt(np.mean((((raw - centre[name]) / spread) ** 2).sum(axis=1))))
            scale[name] = spread * (length if length > 0 else 1.0)
        return replace(bare, centre=centre, scale=scale)

    @property
    def names(self) -> tuple[str, ...]:
        """The views' names."""
        return tuple(self.centre)

    def __call__(self, genomes: npt.ArrayLike) -> dict[str, FloatArray]:
        """Views float64[N, F] by name of genomes int64[N, G]. Raises :class:`~layerclock.errors.GenomeError` for foreign ones."""
        return {name: (raw - self.centre[name]) / self.scale[name] for name, raw in self._raw(self.index.check(genomes)).items()}

    def _raw(self, genomes: GenomeArray) -> dict[str, FloatArray]:
        found = self._of(genomes)
        if not self.portable and isinstance(self.space, HasLiveOperations):
            live = self.space.live_operations(genomes)
            found |= {f"live-{name}": raw for name, raw in self._of(live).items() if "stage" not in name}
            found["paths"] = encode("canonical-graph", self.space, genomes)
        return found

    def _of(self, genomes: GenomeArray) -> dict[str, FloatArray]:
        hot = masked_one_hot(self.index, genomes)
        sums = self.sums[self.index.options(genomes)].sum(axis=1)
        totals = sums[:, :TOTALS]
        return {
            "one-hot": hot,
            "choices": np.column_stack([hot @ self.kinds, totals[:, :3]]),
            "staged-choices": hot @ self.staged,
            "sizes": np.column_stack([np.log1p(totals), totals[:, 2]]),
            "stages": sums[:, TOTALS:],
        }

    def add_to(self, graph: GraphBuilder) -> dict[str, str]:
        """Add the views to a graph: by name, the names of tensors float32[N, F]. Only where they are ``portable``."""
        hot = add_masked_one_hot(graph, self.index)
        options = graph.options(self.index.radix, self.index.offsets, "options")
        table = graph.constant("option_sums", self.sums.astype(np.float32))
        axis = graph.constant("sites_axis", np.array([1], dtype=np.int64))
        sums = graph.add("ReduceSum", [graph.add("Gather", [table, options], "option_rows", axis=0), axis], "sums", keepdims=0)

        def columns(name: str, first: int, last: int) -> str:
            chosen = graph.constant(f"{name}_columns", np.arange(first, last, dtype=np.int64))
            return graph.add("Gather", [sums, chosen], name, axis=1)

        totals = columns("totals", 0, TOTALS)
        one = graph.constant("unit", np.array(1, dtype=np.float32))
        logarithms = graph.add("Log", [graph.add("Add", [totals, one], "totals_and_one")], "log_totals")
        counts = graph.add("MatMul", [hot, graph.constant("kinds", self.kinds.astype(np.float32))], "choice_counts")
        raw = {
            "one-hot": hot,
            "choices": graph.add("Concat", [counts, columns("leading", 0, 3)], "choices_raw", axis=1),
            "staged-choices": graph.add("MatMul", [hot, graph.constant("staged", self.staged.astype(np.float32))], "staged_counts"),
            "sizes": graph.add("Concat", [logarithms, columns("depth", 2, 3)], "sizes_raw", axis=1),
            "stages": columns("stages_raw", TOTALS, self.sums.shape[1]),
        }
        found = {}
        for name, tensor in raw.items():
            centre = graph.constant(f"{name}_centre", self.centre[name].astype(np.float32))
            factor = graph.constant(f"{name}_factor", (1 / self.scale[name]).astype(np.float32))
            found[name] = graph.add("Mul", [graph.add("Sub", [tensor, centre], f"{name}_centred"), factor], f"{name}_view")
        return found
