"""A device of a third party: hold its adapter against every rule, then profile it like any other.

The adapter comes in a package of its own, found by its entry point. For the one that the tests use:
``pip install ./tests/example_plugin && python examples/third_party_device.py example:board``.
"""

from __future__ import annotations

import argparse

import layerclock as lc
from layerclock.devices.conformance import check_device
from layerclock.devices.export import Exporter

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("device")
parser.add_argument("--space", default="digits-mobilenetv3:width=0.25,resolution=32")
parser.add_argument("--folder", default="runs/third-party")
arguments = parser.parse_args()

space = lc.load_space(arguments.space)
device = lc.open_device(arguments.device)
smallest = Exporter(space)([0] * len(space.genes))
for finding in check_device(device, smallest):
    print("kept  " if finding.kept else "BROKEN", finding.rule)

table = lc.profile(device, space, arguments.folder, networks=14, holdout=4, rounds=2, runs=2)
predictor = lc.fit(table, space)
print(lc.evaluate(predictor, table))
