"""The conformance check catches a broken adapter, rule by rule: one fault each in an otherwise conforming device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from layerclock.devices.conformance import check_device
from layerclock.devices.fake import FakeDevice, FakeSession
from layerclock.interfaces import Device, DeviceOptions, KernelTimes, unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from layerclock.interfaces import ModelFile
    from layerclock.network import Kernel


class _FloatTime(FakeSession):
    def run(self) -> int:
        return cast("int", super().run() / 1e3)


class _ZeroTime(FakeSession):
    def run(self) -> int:
        return super().run() * 0


class _OneRunTooMany(FakeSession):
    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        times = super().kernel_times(runs, mark)
        return KernelTimes(times.kernels, np.concatenate([times.samples_ns, times.samples_ns[:1]]))


class _NeverMarks(FakeSession):
    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:  # noqa: ARG002
        return super().kernel_times(runs, unmarked)


class _OtherKernelsNextTime(FakeSession):
    calls = 0

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        times = super().kernel_times(runs, mark)
        self.calls += 1
        return KernelTimes((replace(times.kernels[0], op=f"op{self.calls}"), *times.kernels[1:]), times.samples_ns)

    def kernels(self) -> tuple[Kernel, ...]:
        first, *others = super().kernels()
        return (replace(first, op="op1"), *others)


class _SaysOtherKernels(FakeSession):
    def kernels(self) -> tuple[Kernel, ...]:
        return super().kernels()[1:]


class _NotANumber(FakeSession):
    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        times = super().kernel_times(runs, mark)
        times.samples_ns[0, 0] = np.nan
        return times


class _NoTime(FakeSession):
    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        times = super().kernel_times(runs, mark)
        return KernelTimes(times.kernels, times.samples_ns * 0)


class _OneName(FakeSession):
    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        times = super().kernel_times(runs, mark)
        return KernelTimes(tuple(replace(kernel, name="same") for kernel in times.kernels), times.samples_ns)


class _ForeignLayer(FakeSession):
    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        times = super().kernel_times(runs, mark)
        extra: Kernel = replace(times.kernels[0], name="reorder", site="nowhere")
        return KernelTimes((*times.kernels, extra), np.column_stack([times.samples_ns, times.samples_ns[:, 0]]))

    def kernels(self) -> tuple[Kernel, ...]:
        kernels = super().kernels()
        return (*kernels, replace(kernels[0], name="reorder", site="nowhere"))


class _LosesALayer(FakeSession):
    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        times = super().kernel_times(runs, mark)
        kept = [position for position, kernel in enumerate(times.kernels) if kernel.site != times.kernels[-1].site]
        return KernelTimes(tuple(times.kernels[position] for position in kept), times.samples_ns[:, kept])

    def kernels(self) -> tuple[Kernel, ...]:
        kernels = super().kernels()
        return tuple(kernel for kernel in kernels if kernel.site != kernels[-1].site)


class _WrongOutput(FakeSession):
    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {name: value * 1.01 for name, value in super().infer(inputs).items()}


class _OutputNotANumber(FakeSession):
    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {name: value * np.nan for name, value in super().infer(inputs).items()}


class _OutputOfAnotherName(FakeSession):
    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {f"{name}:0": value for name, value in super().infer(inputs).items()}


class _OutputOfAnotherShape(FakeSession):
    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {name: value[None] for name, value in super().infer(inputs).items()}


class _RunsWhenClosed(FakeSession):
    def close(self) -> None:
        """Forget to close."""


class _FailsAnyhowWhenClosed(FakeSession):
    def close(self) -> None:
        del self._cost_ns


FAULTS = [
    (_FloatTime, "run() returns whole nanoseconds above zero"),
    (_ZeroTime, "run() returns whole nanoseconds above zero"),
    (_OneRunTooMany, "kernel_times(n) has n runs of every kernel"),
    (_NeverMarks, "kernel_times(n) calls mark() before every run and after the last"),
    (_OtherKernelsNextTime, "the kernels are the same in every call"),
    (_SaysOtherKernels, "kernels() tells without a run what kernel_times() then executes"),
    (_NotANumber, "kernel times are finite and above zero together"),
    (_NoTime, "kernel times are finite and above zero together"),
    (_OneName, "kernel names are distinct"),
    (_ForeignLayer, "every kernel belongs to a layer of the model"),
    (_LosesALayer, "every layer has a kernel"),
    (_WrongOutput, "outputs agree with the reference to 0.001"),
    (_OutputNotANumber, "outputs agree with the reference to 0.001"),
    (_OutputOfAnotherName, "outputs agree with the reference to 0.001"),
    (_OutputOfAnotherShape, "outputs agree with the reference to 0.001"),
    (_RunsWhenClosed, "a closed session refuses to run with a DeviceError"),
    (_FailsAnyhowWhenClosed, "a closed session refuses to run with a DeviceError"),
]


def _device_with(session: type[FakeSession]) -> FakeDevice:
    class Faulty(FakeDevice):
        def load(self, model: ModelFile) -> FakeSession:
            return session(self, model)

    return Faulty("fake:cpu", DeviceOptions())


@pytest.mark.parametrize(("session", "rule"), FAULTS, ids=[fault.__name__.strip("_") for fault, _ in FAULTS])
def test_each_fault_breaks_its_rule_and_no_other(session: type[FakeSession], rule: str, tiny_model: ModelFile) -> None:
    broken = [finding for finding in check_device(_device_with(session), tiny_model) if not finding.kept]
    assert [finding.rule for finding in broken] == [rule]


def test_what_lacks_members_of_a_protocol_is_told_so(tiny_model: ModelFile) -> None:
    class NoTarget:
        def load(self, model: ModelFile) -> FakeSession:
            raise NotImplementedError

    findings = check_device(cast("Device", NoTarget()), tiny_model)
    assert [(finding.rule, finding.kept) for finding in findings] == [("the device has the members of the protocol", False)]

    class LoadsNothing(FakeDevice):
        def load(self, model: ModelFile) -> FakeSession:
            return cast("FakeSession", model)  # has none of a session's members

    findings = check_device(LoadsNothing("fake:cpu", DeviceOptions()), tiny_model)
    assert [finding.rule for finding in findings if not finding.kept] == ["the session has the members of the protocol"]


def test_a_target_that_cannot_be_stored_is_told_so(tiny_model: ModelFile) -> None:
    device = FakeDevice("fake:cpu", DeviceOptions())
    device.target = replace(device.target, options=(("streams", cast("str", 1)),))
    broken = [finding.rule for finding in check_device(device, tiny_model) if not finding.kept]
    assert broken == ["the target survives being written and read"]


def test_every_rule_is_broken_by_some_test_here(tiny_model: ModelFile) -> None:
    rules = {finding.rule for finding in check_device(FakeDevice("fake:cpu", DeviceOptions()), tiny_model)}
    elsewhere = {
        "the device has the members of the protocol",
        "the session has the members of the protocol",
        "the target survives being written and read",
    }
    assert rules == {rule for _, rule in FAULTS} | elsewhere
