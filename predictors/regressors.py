"""Regressors from features to one positive number, and choosing among them by cross-validation. Needs scikit-learn."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor, StackingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["REGRESSORS", "Candidate", "Chosen", "choose_regressor", "fitted_regressor_tags"]

FloatArray = npt.NDArray[np.float64]
Estimator = Any  # scikit-learn's own estimators share no type that tells fit() and predict()

_FOLDS = 5
# One that costs more to ask must be better by this share of the error, and by this much of the values, to be chosen.
_CLEARLY_BETTER, _WORTH = 0.02, 0.0005


def _ridge() -> Estimator:
    return RidgeCV(alphas=np.logspace(-4, 3, 15))


def _support_vectors() -> Estimator:
    return make_pipeline(StandardScaler(), SVR(C=30.0, epsilon=0.02, gamma=0.003))


def _boosting() -> Estimator:
    return GradientBoostingRegressor(n_estimators=300, learning_rate=0.05, max_depth=3, subsample=0.7, max_features=0.3, random_state=0)


def _gaussian_process() -> Estimator:
    kernel = ConstantKernel(1.0) * RBF(10.0, (1.0, 1e3)) + ConstantKernel(0.1) * DotProduct() + WhiteKernel(1e-3, (1e-6, 1e-1))
    return make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=0))


# In order of what an answer costs, the cheapest first. The stack is that of the second paper on dynamic NAS (Cummings et al. 2022,
# *A hardware-aware framework for accelerating neural architecture search across modalities*): linear and kernel models under a ridge.
REGRESSORS: dict[str, Callable[[], Estimator]] = {
    "ridge": _ridge,
    "mlp": lambda: make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(64,), solver="lbfgs", alpha=1.0, max_iter=500, tol=1e-5, random_state=0)
    ),
    "boosting": _boosting,
    "svr": _support_vectors,
    "stacked": lambda: StackingRegressor([("ridge", _ridge()), ("svr", _support_vectors())], RidgeCV(np.logspace(-4, 3, 15)), cv=_FOLDS),
    "forest": lambda: RandomForestRegressor(200, max_features=0.4, random_state=0),
    "gaussian-process": _gaussian_process,
}  # fmt: skip


def fitted_regressor_tags() -> Tags:
    """What scikit-learn asks of an estimator, for one that is a regressor and needs no fit."""
    return Tags("regressor", TargetTags(required=False), regressor_tags=RegressorTags(), input_tags=InputTags(), requires_fit=False)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A regressor, and the features float64[N, F] that it sees of the networks, which count as float32 numbers, as in an ONNX file."""

    make: Callable[[], Estimator]
    features: FloatArray


@dataclass(frozen=True)
class Chosen:
    """A fitted regressor of ``(values - offset) / scale``; ``left_out`` float64[N] are its cross-validated predictions of the values.

    ``errors``: mean relative error of each candidate in the cross-validation.
    """

    name: str
    estimator: Estimator
    offset: float
    scale: float
    left_out: FloatArray
    errors: dict[str, float]

    def predict(self, features: FloatArray) -> FloatArray:
        """float64[N] of features float64[N, F], which count as float32 numbers, as in an ONNX file."""
        values: FloatArray = np.ravel(self.estimator.predict(_as_float32(features))) * self.scale + self.offset
        return values


def choose_regressor(candidates: Mapping[str, Candidate], values: FloatArray, seed: int = 0) -> Chosen:
    """The candidate with the smallest mean relative error of ``values`` float64[N] in 5-fold cross-validation, fitted to all of them.

    Of those hardly worse the first is taken: name the ones first that cost least to ask. The regressors see the values with mean 0 and
    standard deviation 1. Raises what the regressors raise.
    """
    offset, scale = float(values.mean()), float(values.std()) or 1.0
    standard = (values - offset) / scale
    folds = list(KFold(min(_FOLDS, len(values)), shuffle=True, random_state=seed).split(values))
    left_out, errors = {}, {}
    with threadpool_limits(1), warnings.catch_warnings():
        # A candidate that did not converge is judged by its errors, as all are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name, candidate in candidates.items():
            given, predicted = _as_float32(candidate.features), np.zeros(len(values))
            for seen, unseen in folds:
                fitted = clone(candidate.make()).fit(given[seen], standard[seen])
                predicted[unseen] = np.ravel(fitted.predict(given[unseen])) * scale + offset
            error = float(np.abs(predicted / values - 1).mean())
            left_out[name], errors[name] = predicted, error if np.isfinite(error) else np.inf
        best = min(errors.values())
        name = next(name for name, error in errors.items() if error <= max(best * (1 + _CLEARLY_BETTER), best + _WORTH))
        fitted = clone(candidates[name].make()).fit(_as_float32(candidates[name].features), standard)
    return Chosen(name, fitted, offset, scale, left_out[name], errors)


def _as_float32(features: FloatArray) -> FloatArray:
    return np.asarray(features, dtype=np.float32).astype(np.float64)
