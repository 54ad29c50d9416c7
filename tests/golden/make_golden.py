"""Wrote the golden files beside it, with the version that first had each format. Never run again for a released format.

``table-schema-1``: one row of each level and role of a campaign on ``fake:cpu``, and a failed network; as Parquet, and the
same content as JSON that no code of this project reads back. ``predictor-format-1``: a layer-wise predictor, and what it
answered; ``kernelwise-format-3``: the same of a kernel-wise one, as formats 1 and 2 were written before. A new
schema or format gets files of its own: add them here, keep the old ones.

    LAYERCLOCK_CACHE=FOLDER python tests/golden/make_golden.py
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from layerclock.datasets.kernels import kernel_columns
from layerclock.datasets.schema import SCHEMA
from layerclock.plugins import load_space, open_device
from layerclock.predictors.fitting import fit
from layerclock.predictors.kernel_graph import build_kernel_predictor
from layerclock.predictors.kernel_models import fit_models
from layerclock.predictors.kernelwise import caches_of, fit_kernelwise, kernel_rows
from layerclock.profiler.campaign import profile
from layerclock.profiler.composites import THEMES, CompositeSpace
from layerclock.profiler.plan import Plan
from layerclock.space import SiteIndex, sample

HERE = Path(__file__).parent


def main() -> None:
    """Write the golden files of table schema 1, predictor format 1 and kernel-wise format 3."""
    space = load_space("digits-mobilenetv3:width=0.25,resolution=32")
    with tempfile.TemporaryDirectory() as folder:
        table = profile(open_device("fake:cpu"), space, folder, networks=14, holdout=2, rounds=2, runs=5)
    predictor = fit(table)

    rows = table.rows.to_pylist()
    layer = next(row for row in rows if row["level"] == "layer")
    kernels = [row for row in rows if row["level"] == "kernel"]
    kernel = next(row for row in kernels if len(row["fused_ops"]) > 1)
    profiled, held_out = (
        next(row for row in rows if row["level"] == "network" and row["role"] == role) for role in ("profiled", "holdout")
    )
    failed = {name: value for name, value in held_out.items() if not name.endswith("_us") and name != "noise_floor"}
    failed |= {"status": "failed", "reason": "the runtime could not load it", "n_samples": 0}
    provenance = replace(
        table.provenance, command="layerclock profile", licence="CC0-1.0", parents=("parent",), conditions={"affinity": "0,1"}
    )
    small = replace(
        table, rows=pa.Table.from_pylist([layer, kernel, profiled, held_out, failed], schema=SCHEMA), provenance=provenance,
        interference={"steal_s": 0.5}, ceilings={"flops_per_s": 1e9, "bytes_per_s": 1e10},
    )  # fmt: skip
    small.write(HERE / "table-schema-1.parquet")
    content = {
        "rows": small.rows.to_pylist(),
        "targets": [asdict(target) for target in small.targets.values()],
        "space": small.space,
        "space_digest": small.space_digest,
        "provenance": asdict(small.provenance),
        "additivity": dict(small.additivity),
        "interference": dict(small.interference),
        "coverage": dict(small.coverage),
        "ceilings": dict(small.ceilings),
        "content_hash": small.content_hash,
    }
    (HERE / "table-schema-1.json").write_text(json.dumps(content, indent=1) + "\n")

    predictor.save(HERE / "predictor-format-1.onnx")
    genomes = sample(SiteIndex.of(space), 5, np.random.default_rng(0))
    predictions = {name: values.tolist() for name, values in asdict(predictor.predict(genomes)).items()}
    answers = {"card": json.loads(predictor.card.to_json()), "genomes": genomes.tolist(), **predictions}
    (HERE / "predictor-format-1.json").write_text(json.dumps(answers, indent=1) + "\n")
    _kernelwise()


def _kernelwise() -> None:
    """A kernel-wise predictor with a few small trees, and what it answered about three kernels."""
    composites = CompositeSpace()
    genomes = np.array([(theme, seed) for seed in range(2) for theme in range(len(THEMES))])
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(genomes, np.zeros((0, 2), dtype=np.int64))
        table = profile(open_device("fake:cpu"), composites, folder, plan=plan, rounds=2, runs=3, export=composites.export)
    rows = kernel_rows(table)
    models = fit_models(rows.kernels, rows.times_us, rows.network_bytes, caches_of(table.target), bags=1, trees=3)
    card = replace(fit_kernelwise(table).card, words=models.words, roofline=models.roofline)
    predictor = build_kernel_predictor(models, card)
    predictor.save(HERE / "kernelwise-format-3.onnx")
    kernels = rows.kernels[:3]
    prediction = predictor.predict(kernels)
    answers = {
        "card": json.loads(card.to_json()),
        "kernels": [kernel_columns(kernel) for kernel in kernels],
        "kernel_us": prediction.kernel_us.tolist(),
        "latency_ms": prediction.latency_ms,
        "lower_ms": prediction.lower_ms,
        "upper_ms": prediction.upper_ms,
        "coverage": prediction.coverage,
    }
    (HERE / "kernelwise-format-3.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
