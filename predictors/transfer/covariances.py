"""Covariances between networks, one a view and shape, and what a weighted sum of them says. Plain numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.predictors.matern import matern

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LENGTH", "Component", "components_of", "covariances", "own_variances"]

FloatArray = npt.NDArray[np.float64]

# Lengths over which a Matern covariance falls, in units of a view's usual distance from its centre.
LENGTH = 1.5


@dataclass(frozen=True, slots=True)
class Component:
    """One covariance over one view: ``linear`` (the product of the vectors) or ``matern`` of smoothness 5/2."""

    view: str
    shape: str

    def between(self, one: FloatArray, other: FloatArray) -> FloatArray:
        """float64[N, M] of views float64[N, F] and float64[M, F]."""
        return one @ other.T if self.shape == "linear" else matern(one, other, LENGTH)


def components_of(views: Sequence[str]) -> tuple[Component, ...]:
    """Both shapes of every view."""
    return tuple(Component(view, shape) for view in views for shape in ("linear", "matern"))


def covariances(components: Sequence[Component], one: Mapping[str, FloatArray], other: Mapping[str, FloatArray]) -> FloatArray:
    """float64[C, N, M] of two sets of networks, given by their views."""
    return np.array([component.between(one[component.view], other[component.view]) for component in components])


def own_variances(components: Sequence[Component], views: Mapping[str, FloatArray]) -> FloatArray:
    """Covariance of each network with itself, float64[C, N]."""
    return np.array(
        [
            (views[component.view] ** 2).sum(axis=1) if component.shape == "linear" else np.ones(len(views[component.view]))
            for component in components
        ]
    )
