"""The regressors of a kernel-wise predictor: one for each family of kernels, one for all, and how far they are off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.predictors.kernel_features import FAMILIES, Roofline, Vocabulary, describe, family, work
from layerclock.predictors.trees import BAGS, TREES, Forest, fit_forest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerclock.network import Kernel

__all__ = ["KernelModels", "fit_models", "fit_roofline", "left_out"]

FloatArray = npt.NDArray[np.float64]

# A family with fewer kernels has no regressor of its own: the one of all kernels stands in.
_FEWEST = 40
# A kernel at this quantile of speed, and not the fastest, sets the roofline: the fastest may owe it to noise.
_FASTEST = 0.98
_FOLDS = 5


@dataclass(frozen=True)
class KernelModels:
    """Fitted regressors of log(time / roofline time), by family; ``general`` was fitted to all kernels."""

    words: Vocabulary
    roofline: Roofline
    caches: tuple[float, ...]
    of_family: Mapping[str, Forest]
    general: Forest

    def predict_us(self, kernels: Sequence[Kernel], network_bytes: FloatArray) -> FloatArray:
        """Times in us, float64[K]; ``network_bytes`` float64[K] as :func:`~layerclock.predictors.kernel_features.describe` has them."""
        features = describe(kernels, self.words, self.roofline, self.caches, network_bytes)
        families = np.array([family(kernel) for kernel in kernels])
        above = np.zeros(len(kernels))
        for name in set(families.tolist()):
            here = families == name
            above[here] = self.of_family.get(name, self.general).predict(features[here])
        times: FloatArray = np.exp(above + features[:, -1])
        return times


def fit_roofline(kernels: Sequence[Kernel], times_us: FloatArray) -> Roofline:
    """The device's best arithmetic, traffic and launch time, as these kernels show them."""
    macs, moved = work(kernels)
    launch_us = float(np.quantile(times_us, 1 - _FASTEST))
    busy_us = np.maximum(times_us - launch_us, 0.1 * times_us)
    rates = [np.quantile(amounts[amounts > 0] / busy_us[amounts > 0], _FASTEST) if amounts.any() else 1.0 for amounts in (macs, moved)]
    return Roofline(float(rates[0]), float(rates[1]), launch_us)


def fit_models(
    kernels: Sequence[Kernel],
    times_us: FloatArray,
    network_bytes: FloatArray,
    caches: Sequence[float],
    *,
    words: Vocabulary | None = None,
    bags: int = BAGS,
    trees: int = TREES,
) -> KernelModels:
    """Fit every family's regressor, and the general one, to kernels, their times and the weights around them, float64[K] each."""
    words = words or Vocabulary.of(kernels)
    roofline = fit_roofline(kernels, times_us)
    features = describe(kernels, words, roofline, caches, network_bytes)
    above = np.log(times_us) - features[:, -1]
    families = np.array([family(kernel) for kernel in kernels])
    of_family = {}
    for name in FAMILIES:
        here = families == name
        if here.sum() >= _FEWEST:
            of_family[name] = fit_forest(features[here], above[here], bags, trees)
    return KernelModels(words, roofline, tuple(caches), of_family, fit_forest(features, above, bags, trees))


def left_out(
    kernels: Sequence[Kernel],
    times_us: FloatArray,
    network_bytes: FloatArray,
    groups: npt.NDArray[np.int64],
    caches: Sequence[float],
    *,
    folds: int = _FOLDS,
    trees: int = TREES,
) -> FloatArray:
    """Times in us, float64[K], each predicted by regressors that saw no kernel of its group (the network where it was met)."""
    predicted = np.zeros(len(kernels))
    words = Vocabulary.of(kernels)
    for fold in range(folds):
        out = groups % folds == fold
        if out.any() and not out.all():
            seen, unseen = np.flatnonzero(~out).tolist(), np.flatnonzero(out).tolist()
            models = fit_models(
                [kernels[one] for one in seen], times_us[seen], network_bytes[seen], caches, words=words, bags=1, trees=trees
            )
            predicted[unseen] = models.predict_us([kernels[one] for one in unseen], network_bytes[unseen])
    return predicted
