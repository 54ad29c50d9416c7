"""A predictor for a new device from twenty of its networks, with the help of other devices' tables.

``python examples/transfer_20_samples.py onnxruntime:cpu runs/x/table.parquet ...``: the tables are of one space. The networks that tell
most are chosen, measured on the device, and fitted. ``--samples 5`` shows the way in a minute.
"""

from __future__ import annotations

import argparse

import numpy as np

import layerclock as lc
from layerclock.predictors.transfer.fitting import choose_networks, fit_transfer, transfer_prior
from layerclock.profiler.plan import Plan

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("device", help="the new one, as `layerclock devices` lists it")
parser.add_argument("tables", nargs="+", help="of other devices")
parser.add_argument("--samples", type=int, default=20)
parser.add_argument("--folder", default="runs/transfer")
arguments = parser.parse_args()

tables = [lc.read_table(path) for path in arguments.tables]
space = lc.load_space(tables[0].space)
prior = transfer_prior(space, tables, 0)  # what the other devices have in common
chosen = choose_networks(prior, arguments.samples)
plan = Plan(chosen, np.zeros((0, chosen.shape[1]), dtype=np.int64))
device = lc.open_device(arguments.device)
measured = lc.profile(device, space, arguments.folder, networks=arguments.samples, plan=plan)

predictor = fit_transfer(measured, prior)
predictor.save(f"{arguments.folder}/predictor.onnx")
print(f"{predictor.target}: trust in the other devices {predictor.card.parameters['trust_in_sources']:.0%}")
told = predictor.predict(chosen[:3])
for genome, latency, lower, upper in zip(chosen[:3], told.latency_ms, told.lower_ms, told.upper_ms, strict=True):
    print(f"{latency:.3f} ms (90 % interval {lower:.3f} to {upper:.3f})  {''.join(map(str, genome))}")
