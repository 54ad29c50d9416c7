"""A check that any device adapter can run: ``check_device(device, model)`` says what it breaks, in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import version_converter

from layerclock.errors import DeviceError
from layerclock.interfaces import Device, ModelFile, PreparesModels, Session
from layerclock.target import Target

__all__ = ["Finding", "check_device"]

_RUNS = 4
# Runtimes reorder sums; relative to the largest output, float32 networks agree far better than this.
# The first version in which the reference evaluator knows QuantizeLinear and DequantizeLinear in every form.
_REFERENCE_OPSET = 21
# Lower precisions round in other places, layer after layer.
_TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 2e-1, "int8": 2e-1}


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule of the conformance check and whether the device keeps it."""

    rule: str
    kept: bool
    detail: str = ""


def check_device(device: Device, model: ModelFile) -> list[Finding]:
    """Load ``model`` on ``device`` and hold what it does against the rules of :class:`~layerclock.interfaces.Device`.

    Outputs are compared with onnx's reference evaluator on the file that the device makes of ``model`` (a quantised one, for example),
    so that it should be small. What lacks members of its
    protocol is not tried further. Needs onnx.
    """
    complete = isinstance(device, Device)
    findings = [Finding("the device has the members of the protocol", complete)]
    if not complete:
        return findings
    target = device.target
    findings.append(Finding("the target survives being written and read", Target.from_json(target.to_json()) == target, target.to_json()))
    session = device.load(model)
    complete = isinstance(session, Session)
    findings.append(Finding("the session has the members of the protocol", complete))
    if not complete:
        return findings
    times = [session.run() for _ in range(_RUNS)]
    findings.append(Finding("run() returns whole nanoseconds above zero", all(isinstance(t, int) and t > 0 for t in times), str(times)))
    findings += _check_kernels(session, model)
    findings.append(_check_outputs(session, model, device))
    session.close()
    findings.append(_check_closed(session))
    return findings


def _check_kernels(session: Session, model: ModelFile) -> list[Finding]:
    marks: list[int] = []
    first, second = session.kernel_times(_RUNS, lambda: marks.append(0)), session.kernel_times(_RUNS)
    told = Counter(replace(kernel, name="") for kernel in session.kernels())
    differing = told.total() - (told & Counter(replace(kernel, name="") for kernel in first.kernels)).total()
    shape = first.samples_ns.shape
    covered = {kernel.site for kernel in first.kernels}
    return [
        Finding("kernel_times(n) has n runs of every kernel", shape == (_RUNS, len(first.kernels)), str(shape)),
        Finding("kernel_times(n) calls mark() before every run and after the last", len(marks) == _RUNS + 1, f"{len(marks)} calls"),
        Finding("the kernels are the same in every call", first.kernels == second.kernels),
        Finding(
            "kernels() tells without a run what kernel_times() then executes",
            differing == 0 and told.total() == len(first.kernels),
            f"{differing} of {told.total()} are others",
        ),
        Finding(
            "kernel times are finite and above zero together", bool(np.isfinite(first.samples_ns).all() and first.samples_ns.sum() > 0)
        ),
        Finding("kernel names are distinct", len({kernel.name for kernel in first.kernels}) == len(first.kernels)),
        Finding("every kernel belongs to a layer of the model", covered <= set(model.sites), str(sorted(covered - set(model.sites)))),
        Finding("every layer has a kernel", set(model.sites) <= covered, str(sorted(set(model.sites) - covered))),
    ]


def _check_outputs(session: Session, model: ModelFile, device: Device) -> Finding:
    from onnx.reference import ReferenceEvaluator

    tolerance = _TOLERANCES.get(device.target.precision, _TOLERANCES["float32"])
    prepared = device.prepare(model) if isinstance(device, PreparesModels) else model
    proto = onnx.load(str(prepared.path))
    if prepared != model:
        proto = version_converter.convert_version(proto, _REFERENCE_OPSET)
    generator = np.random.default_rng(0)
    inputs = {}
    for value in proto.graph.input:
        shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        inputs[value.name] = generator.standard_normal(shape, dtype=np.float32)
    expected = dict(zip([value.name for value in proto.graph.output], ReferenceEvaluator(proto).run(None, inputs), strict=True))
    outputs = session.infer(inputs)
    rule = f"outputs agree with the reference to {tolerance}"
    shapes = {name: np.shape(value) for name, value in outputs.items()}
    if shapes != {name: np.shape(value) for name, value in expected.items()}:
        return Finding(rule, False, f"names and shapes: {shapes}")
    errors = [np.abs(outputs[name] - value).max() / (np.abs(value).max() or 1.0) for name, value in expected.items()]
    worst = float(np.max(errors))  # NaN if any is NaN
    return Finding(rule, worst < tolerance, f"largest relative difference {worst:.1e}")


def _check_closed(session: Session) -> Finding:
    rule = "a closed session refuses to run with a DeviceError"
    try:
        session.run()
    except DeviceError:
        return Finding(rule, True)
    except Exception as error:
        return Finding(rule, False, f"run() raised {type(error).__name__}")
    return Finding(rule, False, "run() returned")
