"""A new device from scratch: measure, trust or not, fit, judge, and ask the predictor.

``python examples/new_device.py onnxruntime:cpu``: five minutes; ``--small`` shows the way in one.
"""

from __future__ import annotations

import argparse

import layerclock as lc
from layerclock.datasets.check import check_table

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("device", help="as `layerclock devices` lists it")
parser.add_argument("--space", default="digits-mobilenetv3")
parser.add_argument("--folder", default="runs/new-device")
parser.add_argument("--small", action="store_true")
arguments = parser.parse_args()

space = lc.load_space(arguments.space)
device = lc.open_device(arguments.device)
print(device.target)
if arguments.small:
    table = lc.profile(device, space, arguments.folder, networks=14, holdout=4, rounds=2, runs=2)
else:
    table = lc.profile(device, space, arguments.folder, networks=40, holdout=10, calibration=20)

for finding in check_table(table):
    print(finding)

predictor = lc.fit(table, space)
predictor.save(f"{arguments.folder}/predictor.onnx")
print(lc.evaluate(predictor, table))

smallest, largest = [0] * len(space.genes), [len(gene.choices) - 1 for gene in space.genes]
told = predictor.predict([smallest, largest])
for name, latency, lower, upper in zip(("smallest", "largest"), told.latency_ms, told.lower_ms, told.upper_ms, strict=True):
    print(f"the {name} network: {latency:.3f} ms (90 % interval {lower:.3f} to {upper:.3f})")
