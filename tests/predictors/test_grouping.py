"""Sites looked up together give the same sums."""

from __future__ import annotations

import numpy as np
import pytest

from layerclock.plugins import load_space
from layerclock.predictors.grouping import GroupedSites
from layerclock.space import SiteIndex


@pytest.mark.parametrize("name", ["digits-mobilenetv3:width=0.25,resolution=32", "ofa-mobilenetv3", "composites:seeds=3"])
def test_the_sums_are_those_of_the_sites(name: str) -> None:
    index = SiteIndex.of(load_space(name))
    rng = np.random.default_rng(0)
    values = rng.uniform(size=(len(index.option_layer), 2))
    grouped = GroupedSites.of(index, values)
    genomes = rng.integers(0, index.cardinality, (100, len(index.genes)))
    expected = values[index.options(genomes)].sum(axis=1)
    assert grouped.constant + grouped.table[genomes @ grouped.radix + grouped.offsets].sum(axis=1) == pytest.approx(expected)
    assert grouped.radix.shape[1] <= 7
    assert len(grouped.table) <= 7 * 32_768
