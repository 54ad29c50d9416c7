"""The shipped adapters: each keeps every rule, loses no kernel, and turns the runtime's failures into our errors."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import onnxruntime
import openvino
import pytest

from layerclock.devices.conformance import check_device
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceOptions, ModelFile
from layerclock.plugins import open_device

if TYPE_CHECKING:
    from layerclock.devices.openvino.adapter import OpenVinoDevice
    from layerclock.devices.openvino.session import OpenVinoSession
    from layerclock.interfaces import Session

DEVICES = ("fake:cpu", "onnxruntime:cpu", "openvino:CPU", "torch:cpu")
RUNTIMES = DEVICES[1:3]


@pytest.mark.parametrize("name", DEVICES)
def test_a_shipped_adapter_keeps_every_rule(name: str, tiny_model: ModelFile) -> None:
    findings = check_device(open_device(name), tiny_model)
    assert [finding for finding in findings if not finding.kept] == []


@pytest.mark.parametrize("name", DEVICES)
def test_every_option_is_part_of_the_target(name: str) -> None:
    plain = open_device(name).target
    two_threads = open_device(name, DeviceOptions(threads=2)).target
    assert (plain.threads, two_threads.threads) == (1, 2)
    assert "threads" in plain.differences(two_threads)
    assert set(plain.differences(open_device(name, DeviceOptions(batch=4)).target)) == {"batch"}
    option, value = {
        "fake:cpu": ("slowdown", "0"),
        "onnxruntime:cpu": ("session.intra_op.allow_spinning", "0"),
        "openvino:CPU": ("CPU_DENORMALS_OPTIMIZATION", "0"),
        "torch:cpu": ("memory_format", "channels_last"),
    }[name]
    with_option = open_device(name, DeviceOptions(extra={option: value})).target
    assert plain.differences(with_option) == {f"options.{option}": (dict(plain.options).get(option), value)}


@pytest.mark.parametrize(("name", "precision"), [("fake:cpu", "int8"), ("torch:cpu", "int8"), *((name, "int3") for name in RUNTIMES)])
def test_a_precision_that_the_adapter_cannot_run_is_refused(name: str, precision: str) -> None:
    with pytest.raises(DeviceUnavailableError, match=precision):
        open_device(name, DeviceOptions(precision=precision))


def test_option_values_that_the_runtime_refuses_are_device_errors(tiny_model: ModelFile) -> None:
    with pytest.raises(DeviceError, match=r"slowdown and counting_ns are numbers"):
        open_device("fake:cpu", DeviceOptions(extra={"slowdown": "much"}))
    for extra, reason in (({"NUM_STREAMS": "many"}, "streams from str: many"), ({"NO_SUCH_OPTION": "1"}, "NO_SUCH_OPTION")):
        with pytest.raises(DeviceError, match=reason) as raised:
            open_device("openvino:CPU", DeviceOptions(extra=extra)).load(tiny_model)
        assert "\n" not in str(raised.value)
    # ONNX Runtime refuses no key of a session option, unless it is empty or too long.
    with pytest.raises(DeviceError, match="refuses the option"):
        open_device("onnxruntime:cpu", DeviceOptions(extra={"": "1"})).load(tiny_model)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("content", [None, b"", b"\x08\x08\x12garbage"])
def test_a_model_that_the_runtime_cannot_load_is_a_device_error(name: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeviceError, match=r"cannot (load|read) model\.onnx") as raised:
        open_device(name).load(ModelFile(path, "0" * 24, ("stem",)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_inference_that_fails_is_a_device_error_and_leaves_the_session_usable(name: str, tiny_model: ModelFile) -> None:
    session = open_device(name).load(tiny_model)
    for wrong in ({"input": np.zeros((1, 3, 32, 32), np.float32)}, {"input": np.zeros((1, 1, 32, 32))}, {"other": np.zeros(1, np.float32)}):
        with pytest.raises(DeviceError, match="cannot run the network") as raised:
            session.infer(wrong)
        assert "\n" not in str(raised.value)
    assert session.run() > 0


def test_asking_for_outputs_leaves_the_inputs_that_are_timed_alone(tiny_model: ModelFile) -> None:
    session = cast("OpenVinoSession", open_device("openvino:CPU").load(tiny_model))
    before = [tensor.data.copy() for tensor in session._inputs]
    session.infer({"input": np.zeros((1, 1, 32, 32), np.float32)})
    assert all(np.array_equal(tensor.data, data) for tensor, data in zip(session._inputs, before, strict=True))


@pytest.mark.parametrize("name", DEVICES)
def test_nothing_works_on_a_closed_session(name: str, tiny_model: ModelFile) -> None:
    session = open_device(name).load(tiny_model)
    session.close()
    for use in (session.run, lambda: session.kernel_times(2), lambda: session.infer({"input": np.zeros((1, 1, 32, 32), np.float32)})):
        with pytest.raises(DeviceError, match="the session is closed"):
            use()


@pytest.mark.parametrize("name", DEVICES)
def test_the_layers_together_take_what_the_kernels_take(name: str, tiny_model: ModelFile) -> None:
    times = open_device(name).load(tiny_model).kernel_times(3)
    of_site: dict[str, float] = dict.fromkeys(tiny_model.sites, 0.0)
    for kernel, samples in zip(times.kernels, times.samples_ns.T, strict=True):
        of_site[kernel.site] += samples.sum()
    assert set(of_site) == set(tiny_model.sites)
    assert sum(of_site.values()) == pytest.approx(times.samples_ns.sum())


def test_onnxruntime_s_kernels_are_all_those_of_its_profile(tiny_model: ModelFile, tmp_path: Path) -> None:
    session = open_device("onnxruntime:cpu").load(tiny_model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    own = onnxruntime.InferenceSession(str(tiny_model.path), options, providers=["CPUExecutionProvider"])
    own.run(None, {"input": np.zeros((1, 1, 32, 32), np.float32)})
    events = json.loads(Path(own.end_profiling()).read_text())
    ran = [event for event in events if event["name"].endswith("_kernel_time")]
    kernels = session.kernel_times(2).kernels
    assert sorted(kernel.op for kernel in kernels) == sorted(event["args"]["op_name"] for event in ran)
    # Reorders have names of ours, for its own change from session to session; all others keep theirs.
    kept = [event["name"].removesuffix("_kernel_time") for event in ran if "Reorder" not in event["args"]["op_name"]]
    assert sorted(kernel.name for kernel in kernels if "Reorder" not in kernel.op) == sorted(kept)


def test_openvino_s_kernels_are_all_those_that_ran(tiny_model: ModelFile) -> None:
    device = cast("OpenVinoDevice", open_device("openvino:CPU"))
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(tiny_model.path)), "CPU", {**device.config, "PERF_COUNT": "YES"})
    request = compiled.create_infer_request()
    for _ in range(3):
        request.infer()
    counters = {info.node_name: info for info in request.get_profiling_info()}
    ran = {name for name, info in counters.items() if info.status == openvino.ProfilingInfo.Status.EXECUTED}
    kernels = {kernel.name for kernel in device.load(tiny_model).kernel_times(2).kernels}
    assert ran <= kernels
    # A kernel of less than a microsecond may be reported as not run; nothing else may be added.
    assert all(
        counters[name].real_time == timedelta() and not counters[name].exec_type.startswith(("undef", "unknown", "reorder"))
        for name in kernels - ran
    )


def test_openvino_counts_on_past_one_compilation(tiny_model: ModelFile) -> None:
    session = cast("OpenVinoSession", open_device("openvino:CPU").load(tiny_model))
    times = session.kernel_times(60)
    assert times.samples_ns.shape == (60, len(times.kernels))
    assert session._counting is not None
    assert session._counting.runs == 1 + 24 + 13, "47 were counted in the first; in the second 13, after as many cold ones as are left out"


@pytest.mark.parametrize("name", DEVICES)
def test_more_runs_are_more_rows_of_the_same_kernels(name: str, tiny_model: ModelFile) -> None:
    session: Session = open_device(name).load(tiny_model)
    first, second = session.kernel_times(1), session.kernel_times(5)
    assert first.kernels == second.kernels
    assert (len(first.samples_ns), len(second.samples_ns)) == (1, 5)


def test_onnxruntime_s_kernels_have_the_same_names_in_every_session(tiny_model: ModelFile) -> None:
    """It numbers its reorders anew in each session; a campaign that goes on in another process must not notice."""
    first, second = (open_device("onnxruntime:cpu").load(tiny_model).kernel_times(1).kernels for _ in range(2))
    assert set(first) == set(second)
    assert any("Reorder" in kernel.op for kernel in first)
    assert not any("token" in kernel.name for kernel in first)
