"""Published accuracies of tabular benchmarks: a network's metric is looked up, not trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from pyarrow import ArrowException

from layerclock.errors import ArgumentError, UnknownNameError
from layerclock.search.spaces.nasbench201 import EDGES, OPERATIONS, nas_bench_201
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DATASETS", "CellTable", "nb201_results"]

# Column of the file and metric of each data set; all are better when larger.
DATASETS = {
    "cifar10": ("cifar10_test", "top1_percent"),
    "cifar100": ("cifar100_test", "top1_percent"),
    "imagenet16-120": ("imagenet16_120_test", "top1_percent"),
    "ninapro": ("ninapro_eval", "top1_percent"),
    "darcy": ("darcy_eval", "darcy_score"),
}

_ACCURACIES = "nb201_accuracy.parquet"
_CELLS = "nb201_archs.parquet"
_REMEDY = f"give the folder that holds {_ACCURACIES} and {_CELLS}, or the path of the first with the second beside it"


class CellTable:
    """The metric of every cell of NAS-Bench-201: an :class:`~layerclock.interfaces.AccuracyEvaluator`.

    ``values`` float64[15625] is in the order of the genomes as numbers of base 5, the first edge's digit first.
    """

    def __init__(self, values: npt.NDArray[np.float64], metric: str) -> None:
        self.space = nas_bench_201()
        self.metric = metric
        self._values = values
        self._index = SiteIndex(self.space.genes, ())

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The published metric of the cells int64[N, 6], float64[N].

        Raises :class:`~layerclock.errors.GenomeError` for genomes of another space.
        """
        return self._values[_number(self._index.check(genomes))]


def nb201_results(path: str, dataset: str = "cifar10") -> CellTable:
    """The evaluator ``nb201-results``: test accuracies of all NAS-Bench-201 cells on ``dataset``.

    ``path`` is ``nb201_accuracy.parquet`` (column ``arch_index`` and one a data set) or its folder; ``nb201_archs.parquet``
    beside it says which cell has which ``arch_index`` (columns ``op0`` to ``op5``, numbered as in
    :data:`~layerclock.search.spaces.nasbench201.OPERATIONS`). Raises :class:`UnknownNameError` for another data set and
    :class:`ArgumentError` if the files cannot be read or do not tell every cell once.
    """
    if dataset not in DATASETS:
        raise UnknownNameError("data set", str(dataset), DATASETS)
    column, metric = DATASETS[dataset]
    given = Path(path)
    accuracies = given / _ACCURACIES if given.is_dir() else given
    results = _read(accuracies, ["arch_index", column])
    cells = _read(accuracies.with_name(_CELLS), ["arch_index", *(f"op{edge}" for edge in range(len(EDGES)))])
    operations = cells[:, 1:].astype(np.int64)
    number = len(OPERATIONS) ** len(EDGES)
    ours = _number(operations) if operations.min() >= 0 and operations.max() < len(OPERATIONS) else np.zeros(0, dtype=np.int64)
    theirs = [table[:, 0].astype(np.int64) for table in (results, cells)]
    if not all(np.array_equal(np.sort(numbers), np.arange(number)) for numbers in (ours, *theirs)):
        raise ArgumentError(f"{accuracies} and {_CELLS} do not hold each of the {number} cells once", _REMEDY)
    by_index = np.empty(number)
    by_index[theirs[0]] = results[:, 1]
    values = np.empty(number)
    values[ours] = by_index[theirs[1]]
    return CellTable(values, metric)


def _number(genomes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Genomes int64[N, 6] read as numbers of base 5: int64[N]."""
    numbers: npt.NDArray[np.int64] = genomes @ (len(OPERATIONS) ** np.arange(len(EDGES))[::-1])
    return numbers


def _read(path: Path, columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """float64[rows, columns] of a Parquet file."""
    try:
        table = pq.read_table(path, columns=list(columns))
    except (OSError, ArrowException) as error:
        raise ArgumentError(f"cannot read {path}: {str(error).splitlines()[0]}", _REMEDY) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ArgumentError(f"{path} has no column {missing[0]!r}", _REMEDY)
    return np.stack([table[name].to_numpy().astype(np.float64) for name in columns], axis=1)
