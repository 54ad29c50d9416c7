"""The end-to-end predictor: ridge regression from the masked one-hot encoding and exact sizes to whole-network latency.

It needs no kernel times, only end-to-end ones: what can be had from any device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import RidgeCV

from layerclock.predictors.encoding import add_features, features
from layerclock.predictors.fitting import conformal_half_width, make_card, training_networks
from layerclock.predictors.graph import GraphBuilder
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.portable import OnnxPredictor

__all__ = ["fit_endtoend"]

_PENALTIES = np.logspace(-4, 3, 15)


def fit_endtoend(table: LatencyTable, space: SearchSpace) -> OnnxPredictor:
    """Fit to the profiled networks of ``table``, the penalty by leave-one-out; held-out networks are never looked at.

    Raises :class:`~layerclock.errors.TableError` if the table belongs to another space or has too few networks.
    """
    index = SiteIndex.of(space)
    networks = training_networks(table, space, index)
    known = features(index, networks.genomes)
    model = RidgeCV(alphas=_PENALTIES, store_cv_results=True).fit(known, networks.latency_ms)
    position = int(np.flatnonzero(model.alpha_ == _PENALTIES)[0])
    left_out_error_ms = np.sqrt(model.cv_results_[:, position])
    half_width = conformal_half_width(left_out_error_ms / networks.latency_ms, float(np.nanmean(networks.noise_floor)))
    card = make_card("endtoend", table, index, networks, half_width, {"penalty": float(model.alpha_)})
    graph = GraphBuilder()
    encoded, one_hot = add_features(graph, index)
    product = graph.add("MatMul", [encoded, graph.constant("weights_ms", model.coef_.astype(np.float32))], "weighted_ms")
    latency = graph.add("Add", [product, graph.constant("intercept_ms", np.array(model.intercept_, dtype=np.float32))], "total_ms")
    # Coverage: the share of a network's active choices that the fit has seen.
    seen = np.asarray(known[:, :-2].any(axis=0), dtype=np.float32)
    seen_choices = graph.add("MatMul", [one_hot, graph.constant("seen", seen)], "seen_choices")
    coverage = graph.add("Div", [seen_choices, graph.sum_columns(one_hot, "choices")], "share_seen")
    return graph.finish(latency, coverage, card)
