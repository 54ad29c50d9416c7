"""Accuracies that a published search measured, and a surrogate for the networks between them.

Made for the result files of DyNAS-T (IntelLabs/DyNAS-T, ``Sub-network, Date, Model Parameters, Latency (ms), MACs, Top-1 Acc (%)``), whose
sub-networks are once-for-all configurations. Benchmarks of search algorithms replay on it without a data set.
"""

from __future__ import annotations

import ast
import csv
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np

from layerclock.errors import ArgumentError, GenomeError
from layerclock.plugins import load_space
from layerclock.predictors.encoding import masked_one_hot
from layerclock.predictors.regressors import REGRESSORS
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["ResultsSurrogate", "results_csv"]

_CONFIGURATION = "Sub-network"
# Fewer networks than this tell nothing of the others.
_FEWEST = 50


@runtime_checkable
class _HasConfigurations(Protocol):
    def from_ofa(self, config: Mapping[str, Sequence[int]]) -> GenomeArray: ...


class ResultsSurrogate:
    """Support vector regression on measured accuracies; ``error`` is its mean absolute error on a fifth that it did not see.

    What it returns is a prediction for every network, for the measured ones too: their label noise would otherwise make them stand out.
    ``measured`` is the number of networks that it was fitted to, and ``cheap`` says that a search may ask it as often as it likes.
    """

    metric = "top1_percent"
    cheap = False  # it stands for the real evaluation in a replay

    def __init__(self, space: SearchSpace, genomes: GenomeArray, percent: npt.NDArray[np.float64]) -> None:
        self.space = space
        self._index = SiteIndex.of(space)
        self._offset, self._scale = float(percent.mean()), float(percent.std()) or 1.0
        self.measured = len(percent)
        encoded, standard = masked_one_hot(self._index, genomes), (percent - self._offset) / self._scale
        unseen = np.arange(len(percent)) % 5 == 0
        trial = REGRESSORS["svr"]().fit(encoded[~unseen], standard[~unseen])
        self.error = float(np.abs(trial.predict(encoded[unseen]) - standard[unseen]).mean()) * self._scale
        self._fitted: Any = REGRESSORS["svr"]().fit(encoded, standard)

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Accuracy in percent, float64[N], of the networks int64[N, G]; raises :class:`GenomeError` for those of another space."""
        predicted: npt.NDArray[np.float64] = np.ravel(self._fitted.predict(masked_one_hot(self._index, genomes)))
        return predicted * self._scale + self._offset


def results_csv(path: str, space: str = "ofa-mobilenetv3", column: str = "Top-1 Acc (%)") -> ResultsSurrogate:
    """The surrogate of a result file, or of all ``*.csv`` in a folder; of a network that was measured twice the mean counts.

    Raises :class:`ArgumentError` for files that cannot be read, have no such column, or hold networks of another space.
    """
    made = load_space(space)
    if not isinstance(made, _HasConfigurations):
        raise ArgumentError(f"networks of {space!r} cannot be read from a result file", "a space of once-for-all, such as ofa-mobilenetv3")
    files = sorted(Path(path).glob("*.csv")) if Path(path).is_dir() else [Path(path)]
    index = SiteIndex.of(made)
    found: dict[tuple[int, ...], list[float]] = {}
    for file in files:
        for number, row in enumerate(_rows(file, column), start=2):
            try:
                genome = index.canonical(made.from_ofa(ast.literal_eval(row[_CONFIGURATION]))[None])[0]
                percent = float(row[column])
                if not isfinite(percent):
                    raise ValueError(f"{percent} is no accuracy")
                found.setdefault(tuple(genome.tolist()), []).append(percent)
            except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError, GenomeError) as error:
                raise ArgumentError(f"{file}, line {number}: no network of {space} with a number as {column!r}: {error}") from error
    if len(found) < _FEWEST:
        raise ArgumentError(f"{path} holds {len(found)} networks", f"at least {_FEWEST} are needed to tell the others' accuracy")
    genomes = np.array(list(found), dtype=np.int64)
    return ResultsSurrogate(cast("SearchSpace", made), genomes, np.array([np.mean(values) for values in found.values()]))


def _rows(file: Path, column: str) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArgumentError(f"cannot read {file}: {error}", "give a result file of DyNAS-T, or a folder of them") from error
    missing = {_CONFIGURATION, column} - set(columns)
    if missing:
        raise ArgumentError(f"{file} has no column {min(missing)!r}", f"its columns: {', '.join(columns) or 'none'}")
    return rows
