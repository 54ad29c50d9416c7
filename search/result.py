"""What a search found: every evaluation, and the Pareto set that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, SearchError
from layerclock.search.objective import Constraint, FloatArray, Objective, hard_violation, penalised
from layerclock.search.pareto import non_dominated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.space import Choice, GenomeArray, SiteIndex

__all__ = ["SearchResult", "Stop"]

Stop = Literal["", "budget", "exhausted", "stalled", "failed"]


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """Every evaluation of a search, in order: ``genomes`` int64[N, G], canonical and distinct; ``values`` float64[N, M].

    ``metric_values`` float64[N, K] belong to ``metrics``, which were recorded beside the objectives. All values are in
    the measure's own unit and direction, and NaN where an evaluation failed; ``failures`` then says why ("" elsewhere).
    ``population`` is the size of a batch; ``begun_with`` is "" or identifies the warm start and the choices that the search was held to.
    ``rejected`` networks violated a constraint on a cheap measure, and are neither recorded nor counted.
    ``stopped`` says why the search ended: ``budget`` (all evaluations made), ``exhausted`` (the space holds no further
    network), ``stalled`` (no proposed network satisfied the cheap constraints any more), ``failed`` (not one of the first evaluations
    succeeded), or "" while it runs.
    What is feasible and what is Pareto-optimal is derived from the values, never stored.
    Raises :class:`SearchError` where genomes are not canonical, not distinct, or of another number than the values.
    """

    space: str
    index: SiteIndex
    objectives: tuple[Objective, ...]
    metrics: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    algorithm: str
    seed: int
    population: int
    begun_with: str
    budget: int
    genomes: GenomeArray
    values: FloatArray
    metric_values: FloatArray
    failures: tuple[str, ...]
    rejected: int
    stopped: Stop

    def __post_init__(self) -> None:
        number = len(self.genomes)
        if self.values.shape != (number, len(self.objectives)) or self.metric_values.shape != (number, len(self.metrics)):
            raise SearchError(f"{number} genomes came with values of shape {self.values.shape} and {self.metric_values.shape}")
        if not np.array_equal(self.index.canonical(self.genomes), self.genomes):
            raise SearchError("a search recorded a genome that is not canonical")
        if len({row.tobytes() for row in self.genomes}) != number or len(self.failures) != number:
            raise SearchError("a search recorded the same network twice")

    def __len__(self) -> int:
        return len(self.genomes)

    @property
    def measures(self) -> tuple[Objective, ...]:
        """The objectives, then the metrics."""
        return (*self.objectives, *self.metrics)

    @property
    def measured(self) -> FloatArray:
        """Values of all ``measures``: float64[N, M + K]."""
        return np.concatenate([self.values, self.metric_values], axis=1)

    @property
    def violation(self) -> FloatArray:
        """Sum of the relative violations of the hard constraints, inf where an evaluation failed: float64[N]."""
        failed = np.array([reason != "" for reason in self.failures], dtype=np.bool_)
        return np.where(failed, np.inf, hard_violation(self.constraints, self.measures, self.genomes, self.measured))

    @property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """Whether an evaluation succeeded and its network satisfies every constraint: bool[N]."""
        return np.asarray(self.violation == 0, dtype=np.bool_)

    @property
    def minimised(self) -> FloatArray:
        """Objective values with the sign that makes smaller better, worse where soft constraints are violated: float64[N, M]."""
        signed = np.where([measured.maximise for measured in self.measures], -self.measured, self.measured)
        return penalised(self.constraints, self.measures, signed)[:, : len(self.objectives)]

    def pareto(self) -> npt.NDArray[np.int64]:
        """Numbers of the evaluations that no other feasible one dominates, by rising first objective: int64[P].

        Computed anew from the values; empty where nothing is feasible. Distinct networks of equal values are all in it.
        """
        rows = np.flatnonzero(self.feasible)
        rows = rows[non_dominated(self.minimised[rows])]
        return rows[np.lexsort(self.values[rows].T[::-1])]

    def hypervolume(self, reference: Sequence[float]) -> float:
        """Volume that the Pareto set dominates up to ``reference``, one number an objective, in the objectives' units.

        Raises :class:`ArgumentError` for another number of coordinates.
        """
        if len(reference) != len(self.objectives):
            raise ArgumentError(f"the reference point has {len(reference)} coordinates for {len(self.objectives)} objectives")
        from layerclock.search.ranking import hypervolume  # here, so that a result can be read without pymoo

        signs = [-1.0 if objective.maximise else 1.0 for objective in self.objectives]
        return hypervolume(self.minimised[self.pareto()], [sign * limit for sign, limit in zip(signs, reference, strict=True)])

    def config(self, number: int) -> dict[str, Choice]:
        """The chosen values of the active genes of evaluation ``number``, by gene name."""
        return self.index.decode(self.genomes[number])

    def write(self, folder: Path | str) -> None:
        """Write ``evaluations.parquet``, ``pareto.csv`` and ``pareto.json``; see :mod:`layerclock.search.result_files`.

        Raises :class:`OutputError` if the folder cannot be written and :class:`MissingExtraError` without pyarrow.
        """
        from layerclock.search.result_files import write_result

        write_result(self, Path(folder))
