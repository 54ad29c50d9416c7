"""A check that any device adapter can run: ``check_device(device, model)`` says what it breaks, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from layerclock.errors import DeviceError
from layerclock.interfaces import Device, ModelFile, Session
from layerclock.target import Target

__all__ = ["Finding", "check_device"]

_RUNS = 4
# Runtimes reorder sums; relative to the largest output, float32 networks agree far better than this.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule of the conformance check and whether the device keeps it."""

    rule: str
    kept: bool
    detail: str = ""


def check_device(device: Device, model: ModelFile) -> list[Finding]:
    """Load ``model`` on ``device`` and hold what it does against the rules of :class:`~layerclock.interfaces.Device`.

    Outputs are compared with onnx's reference evaluator, so that ``model`` should be small. Needs onnx.
    """
    findings = [Finding("device and session have the members of the protocols", isinstance(device, Device))]
    target = device.target
    findings.append(Finding("the target survives being written and read", Target.from_json(target.to_json()) == target, target.to_json()))
    session = device.load(model)
    findings.append(Finding("the session has the members of the protocol", isinstance(session, Session)))
    times = [session.run() for _ in range(_RUNS)]
    findings.append(Finding("run() returns whole nanoseconds above zero", all(isinstance(t, int) and t > 0 for t in times), str(times)))
    findings += _check_kernels(session, model)
    findings.append(_check_outputs(session, model))
    session.close()
    findings.append(_check_closed(session))
    return findings


def _check_kernels(session: Session, model: ModelFile) -> list[Finding]:
    first, second = session.kernel_times(_RUNS), session.kernel_times(_RUNS)
    shape = first.samples_ns.shape
    covered = {kernel.site for kernel in first.kernels}
    return [
        Finding("kernel_times(n) has n runs of every kernel", shape == (_RUNS, len(first.kernels)), str(shape)),
        Finding("the kernels are the same in every call", first.kernels == second.kernels),
        Finding("every kernel takes time above zero on average", bool(np.isfinite(first.samples_ns).all() and first.samples_ns.sum() > 0)),
        Finding("kernel names are distinct", len({kernel.name for kernel in first.kernels}) == len(first.kernels)),
        Finding("every kernel belongs to a layer of the model", covered <= set(model.sites), str(sorted(covered - set(model.sites)))),
        Finding("every layer has a kernel", set(model.sites) <= covered, str(sorted(set(model.sites) - covered))),
    ]


def _check_outputs(session: Session, model: ModelFile) -> Finding:
    from onnx.reference import ReferenceEvaluator

    proto = onnx.load(str(model.path))
    generator = np.random.default_rng(0)
    inputs = {}
    for value in proto.graph.input:
        shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        inputs[value.name] = generator.standard_normal(shape, dtype=np.float32)
    expected = ReferenceEvaluator(proto).run(None, inputs)
    outputs = session.infer(inputs)
    worst = 0.0
    for value, reference in zip(proto.graph.output, expected, strict=True):
        scale = float(np.abs(reference).max()) or 1.0
        worst = max(worst, float(np.abs(outputs[value.name] - reference).max()) / scale)
    return Finding(f"outputs agree with the reference to {_TOLERANCE}", worst < _TOLERANCE, f"largest relative difference {worst:.1e}")


def _check_closed(session: Session) -> Finding:
    try:
        session.run()
    except DeviceError:
        return Finding("a closed session refuses to run with a DeviceError", True)
    return Finding("a closed session refuses to run with a DeviceError", False, "run() returned")
