"""The columns of a latency table, and the history of their versions.

Schema 1 (0.1.0): the first. One row per measured thing and target; units stand in the column names.
"""

from __future__ import annotations

import pyarrow as pa

__all__ = ["COLUMNS", "FAILED_LATER", "FOOTER_KEY", "LEVELS", "ROLES", "SCHEMA", "SCHEMA_VERSION", "STATUSES"]

SCHEMA_VERSION = 1
FOOTER_KEY = b"layerclock"

LEVELS = ("layer", "kernel", "network")
# The last two are timed beside the others, end to end only. Intervals are calibrated on one; predictors are judged by the other alone.
ROLES = ("profiled", "calibration", "holdout")
# How the reason begins of a network that keeps what was measured before it failed.
FAILED_LATER = "failed in a later round"
STATUSES = ("steady", "noisy", "failed")

_SHAPES = pa.list_(pa.list_(pa.int64()))

# name, type, meaning
COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("schema_version", pa.int16(), "version of these columns"),
    ("level", pa.string(), "layer, kernel or network"),
    ("role", pa.string(), "profiled; calibration: timed end to end, for intervals and overheads; holdout: the same, and never used to fit"),
    ("key", pa.string(), "identity of the thing measured, the same on every machine"),
    ("op", pa.string(), "kind of layer, or the runtime's kind of kernel"),
    ("fused_ops", pa.list_(pa.string()), "operators of the model that the kernel computes, in order"),
    ("attributes", pa.string(), "further attributes as canonical JSON"),
    ("genome", pa.list_(pa.int64()), "a network's genome (positions of its choices)"),
    ("in_shapes", _SHAPES, "shapes of the inputs that are no weights"),
    ("out_shapes", _SHAPES, "shapes of the outputs"),
    ("weight_shapes", _SHAPES, "shapes of the weights (kernels)"),
    ("dtype", pa.string(), "element type of the first output"),
    ("layout", pa.string(), "memory layout of the first output, as the runtime names it (kernels)"),
    ("batch", pa.int32(), "batch at which it was measured"),
    ("macs", pa.int64(), "multiply-accumulates: for batch 1 (layers, networks), at the measured batch (kernels)"),
    ("params", pa.int64(), "trained weights (layers, networks)"),
    ("bytes", pa.int64(), "bytes of inputs, weights and outputs together, at the measured batch"),
    ("method", pa.string(), "in-situ: the runtime's counters inside whole networks; end-to-end: wall time"),
    ("kernels", pa.float64(), "mean number of kernels that the runtime executed for it"),
    ("kernel_keys", pa.list_(pa.string()), "keys of the kernels that the runtime executed for it, in order (profiled networks)"),
    ("n_networks", pa.int32(), "places where it was measured: each in one network, several in one that repeats it"),
    ("n_samples", pa.int32(), "samples in all of them"),
    ("n_undisturbed", pa.int32(), "samples in which nothing was seen to disturb the machine"),
    (
        "latency_us",
        pa.float64(),
        "the estimate to use, for the machine at rest: undisturbed samples of a layer, corrected ones of a network",
    ),
    ("min_us", pa.float64(), "smallest sample"),
    ("p10_us", pa.float64(), "10 % quantile of all samples, disturbed or not; and so to std_us"),
    ("p25_us", pa.float64(), "25 % quantile"),
    ("p50_us", pa.float64(), "median"),
    ("p75_us", pa.float64(), "75 % quantile"),
    ("p90_us", pa.float64(), "90 % quantile"),
    ("mean_us", pa.float64(), "mean"),
    ("std_us", pa.float64(), "standard deviation"),
    ("interval_low_us", pa.float64(), "lower end of the 90 % interval of latency_us"),
    ("interval_high_us", pa.float64(), "upper end of the 90 % interval of latency_us"),
    ("noise_floor", pa.float64(), "relative: half the difference between odd and even rounds"),
    ("overhead_us", pa.float64(), "cost of the counters, already subtracted from every other time of the row"),
    ("energy_mj", pa.float64(), "energy of one inference in mJ, of the whole processor or GPU; null where the machine does not tell"),
    ("peak_resident_bytes", pa.int64(), "most memory that the process with runtime and network held (networks)"),
    ("status", pa.string(), "steady, noisy or failed"),
    ("reason", pa.string(), "why it is not steady"),
    ("target_id", pa.string(), "target in the footer that the row belongs to"),
    ("device", pa.string(), "device of that target"),
    ("runtime_version", pa.string(), "runtime and version of that target"),
    ("implementation", pa.string(), "implementation that the runtime chose (kernels)"),
    ("threads", pa.int32(), "threads of that target"),
    ("affinity", pa.string(), "processors that the process could use"),
)

SCHEMA = pa.schema([pa.field(name, kind, metadata={"description": meaning}) for name, kind, meaning in COLUMNS])
