"""A search under a latency budget with an accuracy function of your own.

``python examples/constrained_search.py runs/new-device/predictor.onnx --budget-ms 0.5``. The function here trusts size: put
your training, your checkpoint or your table in its place.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

import layerclock as lc

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("predictor")
parser.add_argument("--budget-ms", type=float, required=True)
parser.add_argument("--folder", default="runs/constrained")
parser.add_argument("--evaluations", type=int, default=100)
arguments = parser.parse_args()

predictor = lc.load(arguments.predictor)
space = lc.load_space(predictor.card.space)
index = lc.SiteIndex.of(space)


def accuracy_percent(genomes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """float64[N] for genomes int64[N, G]; larger is better. Asked once for each network."""
    return 100 - 20 * np.exp(-index.params(genomes) / 1e5)


result = lc.pareto_search(
    space,
    [lc.Objective("accuracy_percent", accuracy_percent, maximise=True), lc.latency_objective(predictor)],
    constraints=[f"latency_ms<={arguments.budget_ms}"],
    evaluations=arguments.evaluations,
)
for number in result.pareto():
    accuracy, latency = result.values[number]
    print(f"{accuracy:6.2f} %  {latency:.3f} ms  {result.config(number)}")
result.write(arguments.folder)
