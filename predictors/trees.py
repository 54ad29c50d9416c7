"""Boosted trees, fitted by scikit-learn and written as ONNX. Fitting needs scikit-learn, writing onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BAGS", "TREES", "Forest", "fit_forest"]

FloatArray = npt.NDArray[np.float64]

# Several fits that each see other features at every split, averaged: steadier between the training points than one.
BAGS, TREES = 3, 200
_BOOSTING: dict[str, Any] = {
    "learning_rate": 0.08,
    "max_leaf_nodes": 24,
    "min_samples_leaf": 4,
    "l2_regularization": 1.0,
    "max_features": 0.4,
    "early_stopping": False,
}


class Forest:
    """The mean of several boosted ensembles."""

    def __init__(self, members: Sequence[HistGradientBoostingRegressor]) -> None:
        self._members = list(members)

    def predict(self, features: FloatArray) -> FloatArray:
        """float64[N] of features float64[N, F], which count as float32 numbers, as in the ONNX file."""
        rounded = np.asarray(features, dtype=np.float32)
        with threadpool_limits(1):
            mean: FloatArray = np.mean([member.predict(rounded) for member in self._members], axis=0)
        return mean

    def attributes(self) -> dict[str, Any]:
        """Attributes of an ``ai.onnx.ml.TreeEnsembleRegressor`` that computes the same."""
        found: dict[str, list[Any]] = {name: [] for name in (*_NODES, *_TARGETS)}
        tree = 0
        for member in self._members:
            # What scikit-learn keeps of a fitted ensemble: one array of nodes a tree. A test holds this against predict().
            for (grown,) in member._predictors:
                _add_tree(found, grown.nodes, tree, 1 / len(self._members))
                tree += 1
        base = float(np.mean([float(np.ravel(member._baseline_prediction)[0]) for member in self._members]))
        return {**found, "base_values": [base], "n_targets": 1, "aggregate_function": "SUM", "post_transform": "NONE"}


_NODES = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values", "nodes_truenodeids", "nodes_falsenodeids",
    "nodes_missing_value_tracks_true", "nodes_hitrates",
)  # fmt: skip
_TARGETS = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _add_tree(found: dict[str, list[Any]], nodes: npt.NDArray[np.void], tree: int, share: float) -> None:
    leaf = nodes["is_leaf"].astype(bool)
    count = len(nodes)
    # The greatest float32 that is no greater: x <= threshold means the same for every float32 x.
    thresholds = nodes["num_threshold"].astype(np.float32)
    above = thresholds.astype(np.float64) > nodes["num_threshold"]
    thresholds[above] = np.nextafter(thresholds[above], np.float32(-np.inf))
    found["nodes_treeids"] += [tree] * count
    found["nodes_nodeids"] += list(range(count))
    found["nodes_featureids"] += np.where(leaf, 0, nodes["feature_idx"]).tolist()
    found["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
    found["nodes_values"] += np.where(leaf, 0.0, thresholds).tolist()
    found["nodes_truenodeids"] += np.where(leaf, 0, nodes["left"]).tolist()
    found["nodes_falsenodeids"] += np.where(leaf, 0, nodes["right"]).tolist()
    found["nodes_missing_value_tracks_true"] += np.where(leaf, 0, nodes["missing_go_to_left"]).tolist()
    found["nodes_hitrates"] += [1.0] * count
    leaves = np.flatnonzero(leaf)
    found["target_treeids"] += [tree] * len(leaves)
    found["target_nodeids"] += leaves.tolist()
    found["target_ids"] += [0] * len(leaves)
    found["target_weights"] += (nodes["value"][leaves] * share).tolist()


def fit_forest(features: FloatArray, values: FloatArray, bags: int = BAGS, trees: int = TREES) -> Forest:
    """Fit ``bags`` times ``trees`` trees to features float64[N, F] and values float64[N], on one thread.

    One thread: beside another busy process the fit's own threads wait for each other most of the time.
    """
    rounded = np.asarray(features, dtype=np.float32)
    with threadpool_limits(1):
        return Forest(
            [HistGradientBoostingRegressor(random_state=seed, max_iter=trees, **_BOOSTING).fit(rounded, values) for seed in range(bags)]
        )
