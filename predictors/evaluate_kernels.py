"""How good a kernel-wise predictor is: on whole networks, by their family, and by family of kernel. Needs scipy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import TableError
from layerclock.interfaces import Predictions
from layerclock.predictors.evaluate import Evaluation, agreement
from layerclock.predictors.kernel_features import family
from layerclock.predictors.kernelwise import kernel_rows
from layerclock.target import require_same_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.datasets.table import LatencyTable
    from layerclock.predictors.portable_kernels import KernelPredictor

__all__ = ["KernelEvaluation", "evaluate_kernelwise", "network_family"]


@dataclass(frozen=True, slots=True)
class KernelEvaluation:
    """Agreement on N networks and on the kernels that they are made of.

    ``networks``: as for any predictor. ``own_kernels``: the same if the networks' own measured kernels stood in for the predicted
    ones: what is lost between kernels and end-to-end time. ``by_network_family``: mean signed and mean absolute error and number.
    ``by_kernel_family``: the same of kernels, weighted by their time, and their share of all time. ``names``, ``predicted_ms`` with
    ``lower_ms`` and ``upper_ms``, and ``measured_ms`` with ``noise_floor`` tell the networks one by one, float64[N] each.
    """

    networks: Evaluation
    own_kernels: Evaluation
    coverage: float
    by_network_family: Mapping[str, tuple[float, float, int]]
    by_kernel_family: Mapping[str, tuple[float, float, int, float]]
    names: tuple[str, ...]
    predicted_ms: npt.NDArray[np.float64]
    lower_ms: npt.NDArray[np.float64]
    upper_ms: npt.NDArray[np.float64]
    measured_ms: npt.NDArray[np.float64]
    noise_floor: npt.NDArray[np.float64]

    def to_dict(self) -> dict[str, object]:
        """By name, for JSON."""
        return {
            **self.networks.to_dict(),
            "own_kernels": self.own_kernels.to_dict(),
            "coverage": self.coverage,
            "by_network_family": {
                name: {"signed": signed, "error": error, "networks": number}
                for name, (signed, error, number) in self.by_network_family.items()
            },
            "by_kernel_family": {
                name: {"signed": signed, "error": error, "kernels": number, "share_of_time": share}
                for name, (signed, error, number, share) in self.by_kernel_family.items()
            },
            "each": [
                {"network": name, "predicted_ms": predicted, "measured_ms": measured}
                for name, predicted, measured in zip(self.names, self.predicted_ms.tolist(), self.measured_ms.tolist(), strict=True)
            ],
        }


def network_family(name: str) -> str:
    """The family that a network's name tells: its letters up to the first digit or separator (``resnet50`` -> ``resnet``)."""
    found = re.match(r"[A-Za-z]+", name)
    return found[0].lower() if found else name


def evaluate_kernelwise(predictor: KernelPredictor, table: LatencyTable, *, other_target: bool = False) -> KernelEvaluation:
    """Hold ``predictor`` against the networks of ``table`` that were profiled kernel by kernel.

    With ``other_target`` even if the table was measured on another target.

    Raises :class:`~layerclock.errors.TargetMismatchError` if the table was measured on another target, and :class:`TableError`
    if it has fewer than two such networks.
    """
    if not other_target:
        require_same_target(predictor.target, [table.target], "the predictor and the table")
    rows = kernel_rows(table)
    if len(rows.networks) < 2:
        raise TableError(f"the table has {len(rows.networks)} networks with kernels", "profile networks: layerclock profile a.onnx b.onnx")
    predictions = [predictor.predict([rows.kernels[one] for one in kernels]) for kernels in rows.networks]
    columns = [np.array([getattr(one, name) for one in predictions]) for name in ("latency_ms", "lower_ms", "upper_ms", "coverage")]
    predicted = Predictions(columns[0], columns[1], columns[2], columns[3])
    measured_ms = rows.latency_us / 1e3
    combination = predictor.card.combination
    own_us = np.array([combination.total_us(rows.times_us[kernels]) for kernels in rows.networks])
    own = Predictions(own_us / 1e3, own_us / 1e3, own_us / 1e3, np.ones(len(own_us)))
    names = tuple(_name(attributes) for attributes in rows.attributes)
    relative = predicted.latency_ms / measured_ms - 1
    families = np.array([network_family(name) for name in names])
    kernel_us = predictor.kernel_us(rows.kernels, rows.network_bytes)
    runs = np.bincount(np.concatenate(rows.networks), minlength=len(rows.kernels))
    return KernelEvaluation(
        networks=agreement(predicted, measured_ms, rows.noise_floor, predictor.card.interval_level),
        own_kernels=agreement(own, measured_ms, rows.noise_floor, predictor.card.interval_level),
        coverage=float(predicted.coverage.mean()),
        by_network_family={
            name: (float(relative[here].mean()), float(np.abs(relative[here]).mean()), int(here.sum()))
            for name in sorted(set(families.tolist()))
            for here in (families == name,)
        },
        by_kernel_family=_by_kernel_family([family(kernel) for kernel in rows.kernels], kernel_us, rows.times_us, runs),
        names=names,
        predicted_ms=predicted.latency_ms,
        lower_ms=predicted.lower_ms,
        upper_ms=predicted.upper_ms,
        measured_ms=measured_ms,
        noise_floor=rows.noise_floor,
    )


def _name(attributes: Mapping[str, object]) -> str:
    """A file's name, a composite's theme, or what else the network's first gene says."""
    return str(attributes.get("model", attributes.get("theme", next(iter(attributes.values()), ""))))


def _by_kernel_family(
    families: list[str], predicted_us: npt.NDArray[np.float64], measured_us: npt.NDArray[np.float64], runs: npt.NDArray[np.int64]
) -> dict[str, tuple[float, float, int, float]]:
    found = {}
    spent = measured_us * runs
    for name in sorted(set(families)):
        here = np.array([one == name for one in families]) & (runs > 0)
        if here.any():
            off = (predicted_us - measured_us)[here] * runs[here]
            total = float(spent[here].sum())
            found[name] = (float(off.sum()) / total, float(np.abs(off).sum()) / total, int(here.sum()), total / float(spent.sum()))
    return found
