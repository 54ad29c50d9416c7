"""A dataset of many devices: asking for one device and operator, appending and compacting, beside plain pandas on one file.

Synthetic rows in the true schema: layers and kernels of 200 devices, 50 million in all (--quick: 400,000), appended as tables of
25,000 rows.
Queries run in fresh processes, which report their time from opening the dataset and their largest resident size. Linear means that a row
costs the same at the end as at the start, and in large as in small. pandas reads one file of as many rows as memory allows, which is said.

``python benchmarks/dataset_scale.py [--quick] [--folder EMPTY_FOLDER]``
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from report import finish

from layerclock.datasets.partitioned import LatencyDataset
from layerclock.datasets.schema import SCHEMA
from layerclock.datasets.table import LatencyTable, Provenance
from layerclock.target import Target

DEVICES = 200
TABLE_ROWS = 25_000
OPERATORS = 40
MOST_PANDAS_ROWS = 5_000_000

_QUERY = """
import json, resource, sys
from time import perf_counter
from layerclock.datasets.partitioned import LatencyDataset, Selection
start = perf_counter()
rows = LatencyDataset(sys.argv[1]).query(Selection(device="board:7", op="op3"))
print(json.dumps([perf_counter() - start, rows.num_rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
_PANDAS = """
import json, resource, sys
from time import perf_counter
import pandas as pd
start = perf_counter()
frame = pd.read_parquet(sys.argv[1])
rows = frame[(frame.device == "board:7") & (frame.op == "op3")]
print(json.dumps([perf_counter() - start, len(rows), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="400,000 rows in tables of 1,000")
    parser.add_argument("--folder", type=Path, help="where the dataset is written; else a temporary folder")
    arguments = parser.parse_args()
    rows, table_rows = (400_000, 1_000) if arguments.quick else (50_000_000, TABLE_ROWS)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        figures = _measure(Path(temporary), rows, table_rows)
    targets = {
        "query_s": ("<", 1.0),
        "query_resident_mb": ("<", 500.0),
        "append_cost_a_row_last_over_first": ("<=", 1.5),
        "compaction_cost_a_row_large_over_small": ("<=", 1.5),
        "rows_lost_or_doubled": ("<=", 0.0),
    }
    return finish("dataset_scale", figures, targets, arguments.quick)


def _measure(folder: Path, rows: int, table_rows: int) -> dict[str, float]:
    dataset = LatencyDataset(str(folder / "dataset"))
    rounds = rows // table_rows // DEVICES
    seconds = []
    for turn in range(rounds):
        for device in range(DEVICES):
            table = _table(device, turn, table_rows)
            start = perf_counter()
            dataset.append(table)
            seconds.append(perf_counter() - start)
        print(f"appended {(turn + 1) * DEVICES * table_rows:,} of {rows:,} rows", file=sys.stderr, flush=True)
    tenth = max(1, len(seconds) // 10)
    figures = {
        "rows": float(rows),
        "devices": float(DEVICES),
        "append_us_a_row": 1e6 * sum(seconds) / rows,
        "append_cost_a_row_last_over_first": float(np.median(seconds[-tenth:]) / np.median(seconds[:tenth])),
        "parts_query_s": _fresh(_QUERY, folder / "dataset")[0],
    }
    start = perf_counter()
    done = dataset.compact()
    figures |= {"parts_before": float(done.parts_before), "parts_after": float(done.parts_after)}
    large = (perf_counter() - start) / rows
    figures["compact_us_a_row"] = 1e6 * large
    figures["compaction_cost_a_row_large_over_small"] = large / _small_compaction(folder, rounds, table_rows)
    found = min(_fresh(_QUERY, folder / "dataset") for _ in range(5))
    figures |= {"query_s": found[0], "query_rows": found[1], "query_resident_mb": found[2]}
    figures["rows_lost_or_doubled"] = abs(dataset.count() - rows)
    in_pandas = min(rows, MOST_PANDAS_ROWS)
    _one_file(dataset, folder / "one.parquet", in_pandas)
    plain = _fresh(_PANDAS, folder / "one.parquet")
    figures |= {"pandas_file_rows": float(in_pandas), "pandas_query_s": plain[0], "pandas_resident_mb": plain[2]}
    return figures


def _small_compaction(folder: Path, rounds: int, table_rows: int) -> float:
    """Seconds a row of compacting a tenth of the devices."""
    small = LatencyDataset(str(folder / "small"))
    devices = DEVICES // 10
    for turn in range(rounds):
        for device in range(devices):
            small.append(_table(device, turn, table_rows))
    start = perf_counter()
    small.compact()
    return (perf_counter() - start) / (rounds * devices * table_rows)


def _fresh(code: str, path: Path) -> list[float]:
    """Seconds, rows and resident megabytes of a query in a fresh process."""
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    found: list[float] = json.loads(done.stdout)
    return found


def _one_file(dataset: LatencyDataset, path: Path, most: int) -> None:
    written = 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for part in sorted(Path(dataset.storage.root).rglob("*.parquet")):
            rows = pq.read_table(part, partitioning=None).slice(0, most - written)
            writer.write_table(rows.replace_schema_metadata(SCHEMA.metadata).cast(SCHEMA))
            written += len(rows)
            if written == most:
                return


def _table(device: int, turn: int, rows: int) -> LatencyTable:
    """A table of a device: layers and kernels in halves, plausible times, keys of their own each turn."""
    rng = np.random.default_rng([device, turn])
    target = Target(f"board:{device}", "synthetic", "1", "float32", 1, 1)
    operator = rng.integers(0, OPERATORS, rows)
    level = np.where(np.arange(rows) % 2 == 0, "layer", "kernel")
    latency = rng.lognormal(4, 1, rows)
    width = rng.integers(1, 2000, rows)
    columns: dict[str, pa.Array] = {
        "schema_version": pa.array(np.ones(rows, dtype=np.int16)),
        "level": pa.array(level),
        "role": pa.array(np.full(rows, "profiled")),
        "key": pa.array([f"op{op}(c={c}) #{turn}.{number}" for number, (op, c) in enumerate(zip(operator, width, strict=True))]),
        "op": pa.array([f"op{op}" for op in operator]),
        "attributes": pa.array([f'{{"c": {c}}}' for c in width]),
        "in_shapes": pa.array([[[1, int(c), 14, 14]] for c in width], SCHEMA.field("in_shapes").type),
        "dtype": pa.array(np.full(rows, "float32")),
        "batch": pa.array(np.ones(rows, dtype=np.int32)),
        "macs": pa.array(width * 196),
        "method": pa.array(np.full(rows, "in-situ")),
        "n_networks": pa.array(rng.integers(1, 40, rows).astype(np.int32)),
        "n_samples": pa.array(rng.integers(100, 4000, rows).astype(np.int32)),
        "latency_us": pa.array(latency),
        "interval_low_us": pa.array(latency * 0.99),
        "interval_high_us": pa.array(latency * 1.01),
        "noise_floor": pa.array(rng.uniform(0, 0.02, rows)),
        "status": pa.array(np.full(rows, "steady")),
        "reason": pa.array(np.full(rows, "")),
        "target_id": pa.array(np.full(rows, target.id)),
        "device": pa.array(np.full(rows, target.device)),
        "runtime_version": pa.array(np.full(rows, "synthetic 1")),
        "threads": pa.array(np.ones(rows, dtype=np.int32)),
    }
    for name, factor in (("min_us", 0.97), ("p10_us", 0.98), ("p25_us", 1.0), ("p50_us", 1.02), ("p75_us", 1.05), ("p90_us", 1.1)):
        columns[name] = pa.array(latency * factor)
    rows_in_schema = pa.table([columns.get(field.name, pa.nulls(rows, field.type)) for field in SCHEMA], schema=SCHEMA)
    provenance = Provenance("benchmark", "dataset_scale", "", f"turn {turn}", "CC0-1.0")
    return LatencyTable(rows_in_schema, {target.id: target}, "synthetic", "none", provenance)


if __name__ == "__main__":
    sys.exit(main())
