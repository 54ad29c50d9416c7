"""Objectives and constraints."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from layerclock.errors import ArgumentError, UnknownNameError
from layerclock.interfaces import Predictions
from layerclock.search.objective import (
    Constraint,
    Objective,
    accuracy_objective,
    hard_violation,
    latency_objective,
    macs_objective,
    params_objective,
)
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3
from layerclock.space import SiteIndex, sample


class HalfMillisecondAGene:
    """A predictor."""

    def predict(self, genomes: npt.ArrayLike) -> Predictions:
        latency = np.asarray(genomes).sum(axis=1) / 2
        return Predictions(latency, latency - 1, latency + 1, np.ones(len(latency)))


class CountOfOnes:
    """An accuracy evaluator."""

    metric = "top1_percent"

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray((np.asarray(genomes) == 1).sum(axis=1), dtype=np.float64)


def test_objectives_from_a_predictor_an_evaluator_and_exact_counts() -> None:
    index = SiteIndex.of(ofa_mobilenetv3())
    genomes = sample(index, 5, np.random.default_rng(0))
    latency, accuracy = latency_objective(HalfMillisecondAGene()), accuracy_objective(CountOfOnes())
    assert (latency.name, latency.column, latency.cheap, latency.maximise) == ("latency_ms", "latency_ms", True, False)
    assert (accuracy.name, accuracy.column, accuracy.cheap, accuracy.maximise) == ("top1_percent", "top1_percent", False, True)
    np.testing.assert_array_equal(latency.evaluate(genomes), genomes.sum(axis=1) / 2)
    np.testing.assert_array_equal(accuracy.evaluate(genomes), (genomes == 1).sum(axis=1))
    for made, exact in ((macs_objective(index), index.macs(genomes)), (params_objective(index), index.params(genomes))):
        assert made.evaluate(genomes).dtype == np.float64
        np.testing.assert_array_equal(made.evaluate(genomes), exact)


def test_the_column_ends_with_the_unit_once() -> None:
    assert Objective("energy", np.sum, unit="mj").column == "energy_mj"
    assert Objective("energy_mj", np.sum, unit="mj").column == "energy_mj"
    assert Objective("mj", np.sum, unit="mj").column == "mj"


@pytest.mark.parametrize("name", ["", "latency ms", "1st", "a<=b"])
def test_a_name_that_no_constraint_could_hold_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="cannot be called"):
        Objective(name, np.sum)


@pytest.mark.parametrize(
    ("text", "operator", "limit"),
    [("latency_ms<=1.5", "<=", 1.5), (" latency_ms  >= -2e3 ", ">=", -2000.0), ("latency_ms<=.5", "<=", 0.5)],
)
def test_constraints_are_parsed_and_written_the_same(text: str, operator: Literal["<=", ">="], limit: float) -> None:
    parsed = Constraint.parse(text, ["latency_ms"])
    assert parsed == Constraint("latency_ms", operator, limit)
    assert Constraint.parse(str(parsed), ["latency_ms"]) == parsed


def test_a_limit_keeps_all_its_digits_in_text() -> None:
    assert Constraint.parse(str(Constraint("a", "<=", 0.1 + 0.2)), ["a"]).limit == 0.1 + 0.2
    assert str(Constraint("macs", "<=", 6e7)) == "macs<=60000000"


@pytest.mark.parametrize(
    "text", ["", "latency_ms", "latency_ms<1", "latency_ms==1", "latency_ms<=fast", "latency_ms<=inf", "1<=latency_ms"]
)
def test_a_text_that_is_no_constraint_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"is not a constraint.*latency_ms<=1\.5|is not a constraint.*finite"):
        Constraint.parse(text, ["latency_ms", "macs"])


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean latency_ms"):
        Constraint.parse("latncy_ms<=1", ["latency_ms", "macs"])


def test_violation_is_relative_zero_at_the_limit_and_infinite_for_nan() -> None:
    values = np.array([1.0, 2.0, 3.0, np.nan])
    np.testing.assert_array_equal(Constraint("a", "<=", 2.0).violation(values), [0, 0, 0.5, np.inf])
    np.testing.assert_array_equal(Constraint("a", ">=", 2.0).violation(values), [0.5, 0, 0, np.inf])
    np.testing.assert_array_equal(Constraint("a", "<=", 0.0).violation(values), [1, 2, 3, np.inf])
    assert Constraint("a", "<=", 1e300).violation(np.array([np.nextafter(1e300, np.inf)]))[0] > 0
    limits = [Constraint("a", "<=", 2.0), Constraint("b", ">=", 4.0), Constraint("b", ">=", 9.0, soft=True)]
    measures = [Objective(name, lambda genomes: np.zeros(len(genomes))) for name in ("a", "b")]
    both = hard_violation(limits, measures, np.zeros((2, 1), dtype=np.int64), np.array([[3.0, 3.0], [1.0, 5.0]]))
    np.testing.assert_array_equal(both, [0.75, 0])


def test_heavy_packages_are_not_imported() -> None:
    code = (
        "import sys, layerclock.search.objective, layerclock.search.loop, layerclock.search.result_files\n"
        "heavy = {'pymoo', 'pyarrow', 'pandas', 'torch', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
