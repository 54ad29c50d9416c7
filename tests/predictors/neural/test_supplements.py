"""Vectors beside the graph: exact sizes of any space, and tables of what was computed elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_space import EVERY_TINY, TINY, TINY_INDEX

from layerclock.errors import ArgumentError, GenomeError
from layerclock.predictors.neural.supplements import VectorTable, exact_sizes


def test_exact_sizes_are_logarithms_of_what_the_space_counts() -> None:
    sizes = exact_sizes(TINY)(EVERY_TINY)
    assert np.expm1(sizes[:, 0]) == pytest.approx(TINY_INDEX.macs(EVERY_TINY))
    assert np.expm1(sizes[:, 1]) == pytest.approx(TINY_INDEX.params(EVERY_TINY))


def test_a_table_finds_the_row_of_each_genome() -> None:
    vectors = np.random.default_rng(0).normal(size=(len(EVERY_TINY), 3))
    table = VectorTable(EVERY_TINY[::2], vectors[::2])
    order = np.array([4, 0, 2, 2])
    assert table(EVERY_TINY[order]).tolist() == vectors[order].tolist()
    assert table(EVERY_TINY[:0]).shape == (0, 3)
    with pytest.raises(GenomeError, match="lacks the network"):
        table(EVERY_TINY[:2])
    with pytest.raises(ArgumentError, match="one row a network"):
        VectorTable(EVERY_TINY, vectors[:2])
