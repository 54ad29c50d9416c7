"""Light predictors of a search's measures, fitted anew in every iteration. Needs scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import StackingRegressor
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import Pipeline
from sklearn.svm import SVR
from threadpoolctl import threadpool_limits

from layerclock.predictors.encoding import masked_one_hot
from layerclock.predictors.regressors import REGRESSORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["LightPredictors"]


class LightPredictors:
    """One regressor for each measure that is not cheap, on the masked one-hot encoding; cheap measures are asked themselves.

    ``genomes`` int64[N, G] and ``values`` float64[N, K], to be minimised; networks whose value is NaN are left out for that measure.
    ``model`` names one of :data:`~layerclock.predictors.regressors.REGRESSORS`.
    """

    def __init__(self, task: Task, genomes: GenomeArray, values: FloatArray, model: str) -> None:
        self._task = task
        self._fitted: dict[int, tuple[Callable[[FloatArray], FloatArray], float, float]] = {}
        encoded = masked_one_hot(task.index, genomes)
        with threadpool_limits(1):
            for column in task.dear:
                known = np.isfinite(values[:, column])
                offset, scale = float(values[known, column].mean()), float(values[known, column].std()) or 1.0
                fitted = REGRESSORS[model]().fit(encoded[known], (values[known, column] - offset) / scale)
                self._fitted[int(column)] = _answering(fitted), offset, scale

    def __call__(self, genomes: GenomeArray) -> FloatArray:
        """Values float64[n, K] of genomes int64[n, G], to be minimised."""
        values = self._task.cheap_values(genomes)
        encoded = masked_one_hot(self._task.index, genomes)
        for column, (answer, offset, scale) in self._fitted.items():
            values[:, column] = np.ravel(answer(encoded)) * scale + offset
        return values


def _answering(estimator: Any) -> Callable[[FloatArray], FloatArray]:
    """What ``estimator.predict`` answers; support vectors by one product of matrices, for libsvm goes through them one by one."""
    if isinstance(estimator, StackingRegressor):
        parts = [_answering(part) for part in estimator.estimators_]
        return lambda features: np.asarray(estimator.final_estimator_.predict(np.column_stack([part(features) for part in parts])))
    if isinstance(estimator, Pipeline) and isinstance(estimator[-1], SVR) and isinstance(estimator[-1].gamma, float):
        machine, before = estimator[-1], estimator[:-1]
        if not len(machine.support_vectors_):  # of values that are all the same
            return lambda features: np.full(len(features), float(machine.intercept_[0]))
        weights = np.ravel(machine.dual_coef_)
        return lambda features: np.asarray(
            rbf_kernel(before.transform(features), machine.support_vectors_, machine.gamma) @ weights + machine.intercept_
        )
    return lambda features: np.asarray(estimator.predict(features))
