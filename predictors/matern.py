"""The Matern covariance of smoothness 5/2, in numpy for fitting and as ONNX nodes for predicting.

Rasmussen and Williams 2006, *Gaussian processes for machine learning*, equation 4.17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from layerclock.predictors.graph import GraphBuilder

__all__ = ["add_matern", "matern"]

FloatArray = npt.NDArray[np.float64]


def matern(one: FloatArray, other: FloatArray, length: float) -> FloatArray:
    """Covariances float64[N, M] of rows float64[N, F] and float64[M, F], which fall over distances of ``length``."""
    squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    scaled = np.sqrt(np.maximum(squared, 0.0)) * _factor(length)
    falling: FloatArray = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return falling


def add_matern(graph: GraphBuilder, rows: str, known: FloatArray, length: float, name: str) -> str:
    """Add the same of ``rows`` float32[N, F] and ``known`` float64[M, F] to a graph: float32[N, M]. Names of nodes begin with ``name``."""

    def number(what: str, value: float) -> str:
        return graph.constant(f"{name}_{what}", np.array(value, dtype=np.float32))

    columns = graph.constant(f"{name}_axis", np.array([1], dtype=np.int64))
    products = graph.add("MatMul", [rows, graph.constant(f"{name}_known", known.T.astype(np.float32))], f"{name}_products")
    squares = graph.sum_columns(graph.add("Mul", [rows, rows], f"{name}_own_parts"), f"{name}_own_squares")
    own = graph.add("Unsqueeze", [squares, columns], f"{name}_own_column")
    theirs = graph.add("Add", [own, graph.constant(f"{name}_their_squares", (known**2).sum(axis=1).astype(np.float32))], f"{name}_squares")
    doubled = graph.add("Mul", [products, number("two", 2.0)], f"{name}_doubled")
    squared = graph.add("Max", [graph.add("Sub", [theirs, doubled], f"{name}_differences"), number("zero", 0.0)], f"{name}_squared")
    scaled = graph.add("Mul", [graph.add("Sqrt", [squared], f"{name}_distance"), number("length", _factor(length))], f"{name}_scaled")
    third = graph.add("Mul", [graph.add("Mul", [scaled, scaled], f"{name}_square"), number("third_of", 1 / 3)], f"{name}_third")
    polynomial = graph.add("Add", [graph.add("Add", [scaled, number("one", 1.0)], f"{name}_linear"), third], f"{name}_polynomial")
    falling = graph.add("Exp", [graph.add("Neg", [scaled], f"{name}_minus")], f"{name}_falling")
    return graph.add("Mul", [polynomial, falling], f"{name}_matern")


def _factor(length: float) -> float:
    return float(np.sqrt(5) / length)
