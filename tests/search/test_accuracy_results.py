"""Accuracies from a search's published result files: read from files of the published form, and a surrogate between them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from layerclock.errors import ArgumentError
from layerclock.plugins import load_evaluator, load_space
from layerclock.search.accuracy.results import results_csv
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = ["Sub-network", "Date", "Model Parameters", "Latency (ms)", "MACs", "Top-1 Acc (%)"]


def _configs(number: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "wid": None,
            "ks": rng.choice([3, 5, 7], 20).tolist(),
            "e": rng.choice([3, 4, 6], 20).tolist(),
            "d": rng.choice([2, 3, 4], 5).tolist(),
            "r": [224],
        }
        for _ in range(number)
    ]


def _percent(config: dict[str, Any]) -> float:
    """Deeper networks are better, and nothing else counts."""
    return float(70.0 + 0.4 * sum(config["d"]))


def _write(path: Path, rows: list[tuple[str, str]], columns: list[str] = COLUMNS) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows([config, "2022-11-01", 5000000, 0, 250000000, percent] for config, percent in rows)
    return path


def test_the_surrogate_learns_what_the_files_say(tmp_path: Path) -> None:
    configs = _configs(160)
    rows = [(str(config), str(_percent(config))) for config in configs]
    # A network that stands in two files, half a percent too good and half a percent too bad, counts once, with its mean.
    twice = [(str(configs[0]), str(_percent(configs[0]) + shift)) for shift in (0.5, -0.5)]
    _write(tmp_path / "a.csv", rows[1:80] + twice[:1])
    _write(tmp_path / "b.csv", rows[80:120] + twice[1:])
    surrogate = load_evaluator(f"results-csv:path={tmp_path}")
    assert surrogate.metric == "top1_percent"
    assert surrogate.measured == 120  # type: ignore[attr-defined]
    assert surrogate.error < 0.25  # type: ignore[attr-defined]
    unseen = np.array([load_space("ofa-mobilenetv3").from_ofa(config) for config in configs[120:]])  # type: ignore[attr-defined]
    truth = np.array([_percent(config) for config in configs[120:]])
    assert np.abs(surrogate.evaluate(unseen) - truth).mean() < 0.4 * np.abs(truth - truth.mean()).mean()


def test_a_real_result_file(data_folder: Path) -> None:
    path = data_folder / "dynast" / "mbnv3w10_linasnsga2_acc_macs.csv"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    surrogate = results_csv(str(path))
    assert surrogate.measured > 200
    index = SiteIndex.of(surrogate.space)
    values = surrogate.evaluate(index.canonical(np.zeros((1, len(index.genes)), dtype=np.int64)))
    assert 60 < values[0] < 80


@pytest.mark.parametrize(
    ("percent", "message"),
    [("nan", "line 61: no network of ofa-mobilenetv3 with a number as .*nan is no accuracy"), ("good", "could not convert")],
)
def test_a_row_without_a_number_is_named(percent: str, message: str, tmp_path: Path) -> None:
    rows = [(str(config), str(_percent(config))) for config in _configs(60)]
    file = _write(tmp_path / "a.csv", [*rows[:59], (rows[59][0], percent)])
    with pytest.raises(ArgumentError, match=message):
        results_csv(str(file))


@pytest.mark.parametrize("config", ["__import__('os').getcwd()", "(" * 5000 + ")" * 5000, "{'ks': [3]}", "{'ks': 3, 'e': 3, 'd': 2}", "7"])
def test_what_is_no_configuration_is_refused(config: str, tmp_path: Path) -> None:
    file = _write(tmp_path / "a.csv", [(config, "75.0")])
    with pytest.raises(ArgumentError, match="line 2: no network of ofa-mobilenetv3"):
        results_csv(str(file))


def test_files_that_tell_too_little_are_refused(tmp_path: Path) -> None:
    rows = [(str(config), str(_percent(config))) for config in _configs(10)]
    with pytest.raises(ArgumentError, match="holds 10 networks"):
        results_csv(str(_write(tmp_path / "few.csv", rows)))
    with pytest.raises(ArgumentError, match="has no column 'Top-5'"):
        results_csv(str(_write(tmp_path / "few.csv", rows)), column="Top-5")
    with pytest.raises(ArgumentError, match="cannot read"):
        results_csv(str(tmp_path / "absent.csv"))
    with pytest.raises(ArgumentError, match="cannot be read from a result file"):
        results_csv(str(tmp_path / "few.csv"), space="ncf")
