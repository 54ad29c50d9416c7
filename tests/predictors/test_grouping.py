"""Sites looked up together give the same sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.plugins import load_space
from layerclock.predictors.encoding import features
from layerclock.predictors.grouping import GroupedSites
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    import numpy.typing as npt


@pytest.mark.parametrize("name", ["digits-mobilenetv3:width=0.25,resolution=32", "ofa-mobilenetv3", "composites:seeds=3"])
def test_the_sums_are_those_of_the_sites(name: str) -> None:
    index = SiteIndex.of(load_space(name))
    rng = np.random.default_rng(0)
    values = rng.uniform(size=(len(index.option_layer), 2))
    grouped = GroupedSites.of_sites(index, values)
    genomes = rng.integers(0, index.cardinality, (100, len(index.genes)))
    assert grouped(genomes) == pytest.approx(values[index.options(genomes)].sum(axis=1))
    assert grouped.radix.shape[1] <= 7
    assert len(grouped.table) <= 7 * 32_768 + 1


def test_a_linear_function_of_the_features_is_such_a_sum_and_its_square_is_not() -> None:
    index = SiteIndex.of(load_space("ofa-mobilenetv3"))
    weights = np.random.default_rng(1).standard_normal(features(index, np.zeros((1, len(index.genes)), dtype=np.int64)).shape[1])

    def linear(genomes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return 3.0 + (features(index, genomes) @ weights)[:, None]

    grouped = GroupedSites.of_function(index, linear)
    assert grouped is not None
    genomes = np.random.default_rng(0).integers(0, index.cardinality, (200, len(index.genes)))
    assert grouped(genomes) == pytest.approx(linear(genomes))
    assert GroupedSites.of_function(index, lambda genomes: linear(genomes) ** 2) is None
