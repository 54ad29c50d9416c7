"""Published accuracies, looked up by genome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layerclock.errors import ArgumentError, GenomeError, UnknownNameError
from layerclock.interfaces import AccuracyEvaluator
from layerclock.search.accuracy.tables import DATASETS, nb201_results
from layerclock.search.spaces.nasbench201 import nas_bench_201

if TYPE_CHECKING:
    from pathlib import Path


def _write(folder: Path, shift: int = 0, cells: int = 5**6) -> Path:
    """Files of the published form, in an order of their own: cell ``c`` has the index ``(7 c + 3) mod 15625`` and accuracy ``c / 1000``."""
    numbers = np.arange(cells)
    index = (7 * numbers + 3) % 5**6
    codes = {f"op{edge}": (numbers // 5 ** (5 - edge)) % 5 + shift for edge in range(6)}
    pq.write_table(pa.table({"arch_index": index, **codes}), folder / "nb201_archs.parquet")
    order = np.argsort(index)[::-1]
    path = folder / "nb201_accuracy.parquet"
    pq.write_table(pa.table({"arch_index": index[order], "cifar10_test": numbers[order] / 1000}), path)
    return path


def test_every_cell_has_its_own_value_whatever_the_files_order(tmp_path: Path) -> None:
    path = _write(tmp_path)
    numbers = np.random.default_rng(0).permutation(5**6)
    genomes = (numbers[:, None] // 5 ** np.arange(5, -1, -1)) % 5
    for given in (path, tmp_path):
        evaluator = nb201_results(str(given))
        assert isinstance(evaluator, AccuracyEvaluator)
        assert evaluator.metric == "top1_percent"
        assert evaluator.evaluate(genomes).tolist() == (numbers / 1000).tolist()
    assert evaluator.evaluate(np.zeros((0, 6), dtype=np.int64)).shape == (0,)
    with pytest.raises(GenomeError):
        evaluator.evaluate([[0, 0, 0, 0, 5, 0]])


def test_the_published_accuracies(data_folder: Path) -> None:
    space = nas_bench_201()
    evaluator = nb201_results(str(data_folder))
    # The first cell of NATS-Bench's order; the best one on CIFAR-10 reaches 94.37 % (Dong & Yang 2020, table 5: "optimal").
    first = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert evaluator.evaluate([space.from_arch_string(first)])[0] == pytest.approx(85.863, abs=1e-3)
    every = (np.arange(5**6)[:, None] // 5 ** np.arange(5, -1, -1)) % 5
    values = evaluator.evaluate(every)
    assert values.max() == pytest.approx(94.37, abs=0.005)
    assert values[0] == 10.0  # a cell without any operation answers by chance
    for dataset, (_, metric) in DATASETS.items():
        other = nb201_results(str(data_folder / "nb201_accuracy.parquet"), dataset)
        assert other.metric == metric
        assert np.isfinite(other.evaluate(every)).all()


def test_unknown_data_sets_and_files_that_are_none(tmp_path: Path) -> None:
    path = _write(tmp_path)
    with pytest.raises(UnknownNameError, match="cifar100"):
        nb201_results(str(path), "cifar1000")
    with pytest.raises(ArgumentError, match=r"cannot read|no column"):
        nb201_results(str(path), "ninapro")
    with pytest.raises(ArgumentError, match="cannot read"):
        nb201_results(str(tmp_path / "absent.parquet"))
    (tmp_path / "garbage.parquet").write_bytes(b"garbage")
    with pytest.raises(ArgumentError, match="cannot read"):
        nb201_results(str(tmp_path / "garbage.parquet"))
    for shift, cells in ((1, 5**6), (0, 5**6 - 1)):
        _write(tmp_path, shift, cells)
        with pytest.raises(ArgumentError, match="each of the 15625 cells once"):
            nb201_results(str(path))
