"""The kernel-wise predictor: the sum of a network's kernels as regressors tell them, for networks of no known space.

``latency = constant + per_kernel * number of kernels + scale * sum over kernels of exp(regressor) * roofline``. The three numbers
are fitted to the profiled networks' end-to-end times by non-negative least squares of the relative error.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from layerclock.datasets.kernels import kernel_of
from layerclock.errors import TableError
from layerclock.predictors.fitting import INTERVAL_LEVEL, conformal_quantile
from layerclock.predictors.kernel_features import FAMILIES, family, weight_bytes
from layerclock.predictors.kernel_graph import build_kernel_predictor
from layerclock.predictors.kernel_models import fit_models, left_out
from layerclock.predictors.portable_kernels import Combination, KernelCard
from layerclock.timing import mean_known
from layerclock.version import VERSION

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable
    from layerclock.network import Kernel
    from layerclock.predictors.portable_kernels import KernelPredictor
    from layerclock.target import Target

__all__ = ["KernelRows", "errors_by_gene", "fit_kernelwise", "kernel_rows"]

FloatArray = npt.NDArray[np.float64]

# A kernel faster than the counters can tell still takes some time: half of the smallest that they tell.
_SHORTEST_US = 0.5
_FEWEST_NETWORKS = 20
_FEWEST_KERNELS = 200
# Where a target's caches are not told: sizes that are usual.
_USUAL_CACHES = (32 * 2**10, 2**20, 32 * 2**20)
# What is not known is taken to be this many times as uncertain as the worst family.
_UNKNOWN = 2.0
# A look between two waves of a campaign may be rough, and must be quick.
_ROUGH_FOLDS, _ROUGH_TREES = 3, 50


@dataclass(frozen=True)
class KernelRows:
    """What a table says of kernels: K kernels with their times, and N networks as the numbers of the kernels they are made of."""

    kernels: list[Kernel]
    times_us: FloatArray
    networks: list[npt.NDArray[np.int64]]
    latency_us: FloatArray
    noise_floor: FloatArray
    attributes: list[dict[str, object]]

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """For each kernel the first network where it was met, int64[K]; kernels of no network that could be timed count alone."""
        first = -np.ones(len(self.kernels), dtype=np.int64)
        for number in reversed(range(len(self.networks))):
            first[self.networks[number]] = number
        alone = np.flatnonzero(first < 0)
        first[alone] = len(self.networks) + alone
        return first

    @property
    def network_bytes(self) -> FloatArray:
        """For each kernel the bytes of all weights of the network around it, float64[K]: geometric mean over those where it was met."""
        own = weight_bytes(self.kernels)
        logs, times = np.zeros(len(own)), np.zeros(len(own))
        for kernels in self.networks:
            met = np.unique(kernels)
            logs[met] += np.log1p(own[kernels].sum())
            times[met] += 1
        return np.where(times, np.expm1(logs / np.maximum(1, times)), own)


def kernel_rows(table: LatencyTable) -> KernelRows:
    """The kernels of a table that took measurable time, and the networks all of whose kernels were measured."""
    rows = [row for row in table.level("kernel").to_pylist() if row["latency_us"] is not None]
    number_of = {row["key"]: number for number, row in enumerate(rows)}
    networks, latency, noise, attributes = [], [], [], []
    for row in table.level("network").to_pylist():
        keys = row["kernel_keys"] or []
        if row["latency_us"] is not None and keys and all(key in number_of for key in keys):
            networks.append(np.array([number_of[key] for key in keys], dtype=np.int64))
            latency.append(row["latency_us"])
            noise.append(row["noise_floor"])
            attributes.append(json.loads(row["attributes"]))
    times = np.array([row["latency_us"] for row in rows], dtype=np.float64)
    return KernelRows(
        [kernel_of(row) for row in rows], np.maximum(times, _SHORTEST_US), networks, np.array(latency, dtype=np.float64),
        np.array(noise, dtype=np.float64), attributes,
    )  # fmt: skip


def caches_of(target: Target) -> tuple[float, ...]:
    """Sizes of the machine's data caches in bytes, the smallest first, as its fingerprint tells them."""
    told = re.findall(r"L[0-9]+d?=([0-9]+)([KMG])", dict(target.fingerprint).get("caches", ""))
    sizes = sorted(float(size) * {"K": 2**10, "M": 2**20, "G": 2**30}[unit] for size, unit in told)
    return tuple(sizes) if len(sizes) == len(_USUAL_CACHES) else tuple(map(float, _USUAL_CACHES))


def fit_kernelwise(table: LatencyTable) -> KernelPredictor:
    """Fit to the kernels of ``table``; from what space its networks come does not matter.

    Intervals are conformal: the residuals of networks, each of whose kernels is predicted by regressors that did not see it, relative
    to what the families of their kernels let expect (Papadopoulos et al. 2008, normalised conformal regression).

    Raises :class:`TableError` if the table has too few kernels or networks.
    """
    rows = kernel_rows(table)
    if len(rows.networks) < _FEWEST_NETWORKS or len(rows.kernels) < _FEWEST_KERNELS:
        raise TableError(
            f"the table has {len(rows.kernels)} kernels in {len(rows.networks)} networks, a kernel-wise fit needs {_FEWEST_KERNELS} in "
            f"{_FEWEST_NETWORKS}",
            "layerclock profile --composites measures networks made for this",
        )
    caches = caches_of(table.target)
    unseen_us = left_out(rows.kernels, rows.times_us, rows.network_bytes, rows.groups, caches)
    if not (unseen_us > 0).all():
        raise TableError("all kernels of the table were met in one and the same network", "profile networks of different kernels")
    lacking = float(np.median([rows.times_us[kernels].sum() / unseen_us[kernels].sum() for kernels in rows.networks]))
    unseen_us = unseen_us * lacking
    errors = _family_errors(rows, unseen_us)
    unknown_error = _UNKNOWN * max(errors.values())
    combination = _combine(rows)
    scores = []
    for kernels, latency_us in zip(rows.networks, rows.latency_us, strict=True):
        expected = np.average([errors[family(rows.kernels[one])] for one in kernels], weights=unseen_us[kernels])
        scores.append(abs(latency_us / combination.total_us(unseen_us[kernels]) - 1) / float(expected))
    models = fit_models(rows.kernels, rows.times_us, rows.network_bytes, caches)
    card = KernelCard(
        kind="kernelwise",
        target=table.target,
        words=models.words,
        roofline=models.roofline,
        caches=models.caches,
        combination=combination,
        lacking=lacking,
        family_errors={name: errors.get(name, unknown_error) for name in FAMILIES},
        unknown_error=unknown_error,
        interval_level=INTERVAL_LEVEL,
        interval_factor=conformal_quantile(np.array(scores)),
        noise_floor=mean_known(rows.noise_floor),
        fitted_on_kernels=len(rows.kernels),
        fitted_on_networks=len(rows.networks),
        fusions=_fusions(rows),
        table_hash=table.content_hash,
        tool=f"layerclock {VERSION}",
    )
    return build_kernel_predictor(models, card)


def _family_errors(rows: KernelRows, unseen_us: FloatArray) -> dict[str, float]:
    """Mean relative error of each family's left-out kernels, weighted by their time; of the families that were seen."""
    families = np.array([family(kernel) for kernel in rows.kernels])
    relative = np.abs(unseen_us / rows.times_us - 1)
    weights = rows.times_us
    return {name: float(np.average(relative[families == name], weights=weights[families == name])) for name in set(families.tolist())}


def _combine(rows: KernelRows) -> Combination:
    measured = np.array([rows.times_us[kernels].sum() for kernels in rows.networks])
    counts = np.array([len(kernels) for kernels in rows.networks], dtype=np.float64)
    design = np.column_stack([np.ones(len(measured)), counts, measured]) / rows.latency_us[:, None]
    (constant_us, per_kernel_us, scale), _ = nnls(design, np.ones(len(design)))
    return Combination(float(constant_us), float(per_kernel_us), float(scale))


def _fusions(rows: KernelRows) -> dict[str, tuple[str, str, str]]:
    """For each sequence of operators that was one kernel: the kind, implementation and layout that it had most often."""
    seen: dict[str, dict[tuple[str, str, str], int]] = {}
    for kernels in rows.networks:
        for one in kernels:
            kernel = rows.kernels[one]
            if kernel.fused_ops:
                counts = seen.setdefault("+".join(kernel.fused_ops), {})
                what = (kernel.op, kernel.implementation, kernel.layout)
                counts[what] = counts.get(what, 0) + 1
    return {operators: max(counts, key=counts.__getitem__) for operators, counts in sorted(seen.items())}


def errors_by_gene(table: LatencyTable, gene: str) -> dict[str, float]:
    """How wrong regressors are on left-out kernels, by the choice of one gene: for a campaign that measures next where they err.

    Mean over a choice's networks of the relative error of the kernels' times, weighted by time.
    """
    rows = kernel_rows(table)
    if len(rows.networks) < _FEWEST_NETWORKS:
        return {}
    unseen_us = left_out(
        rows.kernels, rows.times_us, rows.network_bytes, rows.groups, caches_of(table.target), folds=_ROUGH_FOLDS, trees=_ROUGH_TREES
    )
    found: dict[str, list[float]] = {}
    for kernels, attributes in zip(rows.networks, rows.attributes, strict=True):
        error = float(np.abs(unseen_us[kernels] - rows.times_us[kernels]).sum() / rows.times_us[kernels].sum())
        found.setdefault(str(attributes[gene]), []).append(error)
    return {choice: float(np.mean(errors)) for choice, errors in found.items()}
