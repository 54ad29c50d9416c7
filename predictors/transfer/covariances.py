"""Covariances between networks, one a view and shape, and what a weighted sum of them says. Plain numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Component", "components_of", "covariances", "length_factor", "own_variances"]

FloatArray = npt.NDArray[np.float64]

# Lengths over which a Matern covariance falls, in units of a view's usual distance from its centre.
_LENGTH = 1.5


@dataclass(frozen=True, slots=True)
class Component:
    """One covariance over one view: ``linear`` (the product of the vectors) or ``matern`` of smoothness 5/2.

    Matern: Rasmussen and Williams 2006, *Gaussian processes for machine learning*, equation 4.17.
    """

    view: str
    shape: str

    def between(self, one: FloatArray, other: FloatArray) -> FloatArray:
        """float64[N, M] of views float64[N, F] and float64[M, F]."""
        products: FloatArray = one @ other.T
        if self.shape == "linear":
            return products
        squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * products
        scaled = np.sqrt(np.maximum(squared, 0.0)) * length_factor()
        falling: FloatArray = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
        return falling


def length_factor() -> float:
    """What a distance between views is multiplied by before its Matern covariance is taken."""
    return float(np.sqrt(5) / _LENGTH)


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
