"""ONNX Runtime's providers: named by the runtime, never mixed with the processor in silence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import onnxruntime
import pytest

from layerclock.devices.onnxruntime.profile import read_profile
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import find_devices, open_device

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import ModelFile

CPU = "CPUExecutionProvider"
OTHERS = [name for name in onnxruntime.get_available_providers() if name != CPU]


def test_every_provider_of_the_runtime_is_listed_with_how_to_get_it() -> None:
    listed = {entry.name: entry for entry in find_devices() if entry.name.startswith("onnxruntime:")}
    assert set(listed) == {"onnxruntime:cpu", *(f"onnxruntime:{name}" for name in onnxruntime.get_all_providers() if name != CPU)}
    assert {name for name, entry in listed.items() if entry.available} == {"onnxruntime:cpu", *(f"onnxruntime:{name}" for name in OTHERS)}
    for name, entry in listed.items():
        if not entry.available:
            assert entry.reason
            assert entry.hint
            with pytest.raises(DeviceUnavailableError, match="has no"):
                open_device(name)


@pytest.mark.skipif("AzureExecutionProvider" not in OTHERS, reason="this build of ONNX Runtime has no AzureExecutionProvider")
def test_a_provider_that_takes_nothing_is_refused(tiny_model: ModelFile) -> None:
    device = open_device("onnxruntime:AzureExecutionProvider")
    assert dict(device.target.options)["provider"] == "AzureExecutionProvider"
    with pytest.raises(DeviceUnavailableError, match="takes no operator of the network: all would run on the CPU"):
        device.load(tiny_model)


def test_a_provider_s_options_are_part_of_the_target_and_not_of_the_session(tiny_model: ModelFile) -> None:
    device = open_device("onnxruntime:cpu", DeviceOptions(extra={"provider.use_arena": "0"}))
    assert dict(device.target.options)["provider.use_arena"] == "0"
    assert device.load(tiny_model).run() > 0


def _event(category: str, name: str, microseconds: int, provider: str = "", op: str = "Conv", began: int = 0) -> dict[str, Any]:
    return {"cat": category, "name": name, "ts": began, "dur": microseconds, "args": {"op_name": op, "provider": provider}}


def test_a_device_s_time_is_that_of_its_kernels_and_not_of_the_launch(tmp_path: Path) -> None:
    """The form of the events as ONNX Runtime documents them; no device was there to write them."""
    path = tmp_path / "profile.json"
    run = [
        _event("Node", "a_kernel_time", 3, "CUDAExecutionProvider"),
        _event("Kernel", "implicit_gemm", 40),
        _event("Kernel", "add_bias", 2),
        _event("Node", "b_kernel_time", 7, CPU),
    ]
    path.write_text(json.dumps([*run, *run]))
    profile = read_profile(path, 2, on_host=False)
    assert profile.samples_us == {"a": [42.0, 42.0], "b": [7.5, 7.5]}
    assert profile.provider == {"a": "CUDAExecutionProvider", "b": CPU}
    path.write_text(json.dumps([event for event in run if event["cat"] == "Node"]))
    with pytest.raises(DeviceError, match="tells when kernels are launched"):
        read_profile(path, 1, on_host=False)
    assert read_profile(path, 1, on_host=True).samples_us == {"a": [3.5], "b": [7.5]}
    path.write_text(json.dumps([*run, run[0], run[3]]))
    with pytest.raises(DeviceError, match=r"profile is incomplete: \['a'\]"):  # and not 0 us in its second run
        read_profile(path, 2, on_host=False)


def test_what_runs_inside_a_loop_is_time_of_the_loop(tmp_path: Path) -> None:
    """Also where loops stand in loops, and on a device, whose kernels are inside."""
    path = tmp_path / "profile.json"
    device = "CUDAExecutionProvider"
    run = [
        _event("Node", "a_kernel_time", 5, device, began=0),
        _event("Kernel", "first", 1),
        _event("Node", "inner_kernel_time", 2, device, began=13),
        _event("Kernel", "second", 30),
        _event("Node", "nested_kernel_time", 6, device, op="If", began=12),
        _event("Node", "inner_kernel_time", 2, device, began=19),
        _event("Kernel", "second", 31),
        _event("Node", "loop_kernel_time", 20, device, op="Loop", began=10),
    ]
    path.write_text(json.dumps(run))
    assert read_profile(path, 1, on_host=True).samples_us == {"a": [5.5], "loop": [20.5]}
    profile = read_profile(path, 1, on_host=False)
    assert profile.samples_us == {"a": [1.0], "loop": [61.0]}
    assert profile.operation == {"a": "Conv", "loop": "Loop"}
