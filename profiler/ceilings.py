"""What a device can do at best, through its own runtime: the two ceilings of the roofline model.

Williams, Waterman, Patterson: *Roofline: an insightful visual performance model*, CACM 52(4), 2009. The compute ceiling is
a large matrix product; the memory ceiling adds two tensors too large for any cache.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import ModelFile
from layerclock.profiler.measurement import Order
from layerclock.profiler.pools import in_float32, open_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.interfaces import Device

__all__ = ["measure_ceilings"]

_PRODUCT_SIZE = 512
_STREAM_ELEMENTS = 12 * 2**20
_ROUNDS, _RUNS = 3, 6


def measure_ceilings(device: Device, folder: Path, limit_s: float = 60.0, affinity: tuple[int, ...] = ()) -> dict[str, float]:
    """``flops_per_s`` of ``device`` in its precision and ``bytes_per_s``; a ceiling that its runtime cannot show is left out.

    The fastest run counts: a ceiling is what was possible. The runtime's words go to a log in ``folder``. The memory is shown in float32:
    in another precision the runtime would convert the tensors, and stream other bytes than are counted.
    """
    probes = _probes()
    try:
        streaming = in_float32(device)
    except DeviceUnavailableError:
        return _fastest(device, probes[:1], folder, limit_s, affinity)
    if streaming is device:
        return _fastest(device, probes, folder, limit_s, affinity)
    return _fastest(device, probes[:1], folder, limit_s, affinity) | _fastest(streaming, probes[1:], folder, limit_s, affinity)


def _fastest(
    device: Device, probes: Sequence[tuple[str, onnx.ModelProto, float]], folder: Path, limit_s: float, affinity: tuple[int, ...]
) -> dict[str, float]:
    ceilings: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary, open_pool(device, limit_s, folder / "runtime.log", affinity) as pool:
        for name, model, work in probes:
            path = Path(temporary) / f"{name}.onnx"
            onnx.save(model, str(path))
            worker = pool.start()
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()[:24]  # as any model's: devices may read it as a number
                worker.load(ModelFile(path, digest, ("probe",)))
                worker.wait()
                at_rest_ns = float(np.min(worker.rest_readings()))
                order = Order(_RUNS, 2 * _RUNS, limit_s / 2, at_rest_ns, profiled=False)
                fastest_ns = min(float(worker.measure(order).end_to_end_ns.min()) for _ in range(_ROUNDS))
                ceilings[name] = work / fastest_ns * 1e9
            except DeviceError:
                continue
            finally:
                worker.close()
    return ceilings


def _probes() -> tuple[tuple[str, onnx.ModelProto, float], ...]:
    """The compute ceiling, then the memory's: name, model, and the floating-point operations or bytes that one run of it takes."""
    n = _PRODUCT_SIZE
    square = numpy_helper.from_array(np.random.default_rng(0).standard_normal((n, n), dtype=np.float32), "weights")
    product = _model("MatMul", ["input", "weights"], {"input": (n, n)}, (n, n), [square])
    stream = _model("Add", ["input", "other"], dict.fromkeys(("input", "other"), (_STREAM_ELEMENTS,)), (_STREAM_ELEMENTS,), [])
    return ("flops_per_s", product, 2.0 * n**3), ("bytes_per_s", stream, 3.0 * 4 * _STREAM_ELEMENTS)


def _model(
    op: str, reads: list[str], inputs: dict[str, tuple[int, ...]], output: tuple[int, ...], weights: list[TensorProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, reads, ["output"], name=f"probe/{op}")],
        "probe",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, output)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
