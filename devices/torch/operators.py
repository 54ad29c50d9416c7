"""The operators of an eager network, in order: which module calls each, on which shapes, and how long it takes.

A dispatch mode sees every operator right before torch runs it. It is told once which modules call them, with inputs that have shapes
and no numbers, so that nothing is computed; timed runs only read the clock, and hold the sequence against what was told.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from layerclock.devices.torch.module_paths import site_of
from layerclock.errors import DeviceError
from layerclock.network import Kernel, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["HostClock", "OperatorClock", "operators", "timed_run"]


class OperatorClock(Protocol):
    """Times operators one after the other."""

    def start(self) -> None:
        """Called before each operator."""

    def stop(self) -> None:
        """Called behind it."""

    def durations_ns(self) -> list[float]:
        """Of all operators so far, in order."""


class HostClock:
    """For operators that are finished when they return."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def start(self) -> None:
        """Read the clock."""
        self._starts.append(perf_counter_ns())

    def stop(self) -> None:
        """Read it again."""
        self._stops.append(perf_counter_ns())

    def durations_ns(self) -> list[float]:
        """Of all operators so far, in order."""
        return [float(stop - start) for start, stop in zip(self._starts, self._stops, strict=True)]


class _Timing(TorchDispatchMode):
    def __init__(self, clock: OperatorClock) -> None:
        super().__init__()
        self._clock = clock
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._clock.start()
        result = func(*args, **kwargs)
        self._clock.stop()
        self.names.append(str(func))
        return result


def timed_run(module: torch.nn.Module, inputs: Sequence[torch.Tensor], clock: OperatorClock, expected: Sequence[Kernel]) -> None:
    """Run the network once, operator by operator on the clock. Raises :class:`DeviceError` if they are not the expected ones."""
    with torch.no_grad(), _Timing(clock) as mode:
        module(*inputs)
    if mode.names != [kernel.implementation for kernel in expected]:
        raise DeviceError("torch executed other operators than the network's shapes lead to", "its forward() must not depend on values")


class _Noting(TorchDispatchMode):
    """Describes each operator with the module that calls it."""

    def __init__(self, module: torch.nn.Module, sites: tuple[str, ...]) -> None:
        super().__init__()
        self._weights = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        self._sites = sites
        self._made_by: dict[int, str] = {}
        self._alive: list[Any] = []  # numbers of tensors are given anew once they are gone
        self._used: Counter[str] = Counter()
        self.path: list[str] = []
        self.kernels: list[Kernel] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.namespace == "prim":  # a question about a tensor that has no numbers; tensors that have some are not asked
            return result
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        path = self.path[-1] if self.path else ""
        # What stands outside all sites (a flatten between two modules) belongs where its first input is made, as in an export.
        outside = next((self._made_by[id(tensor)] for tensor in read if id(tensor) in self._made_by), self._sites[0])
        site = site_of(path, self._sites) or outside
        self._made_by |= {id(tensor): site for tensor in made}
        self._alive += made
        op = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else str(func)
        name = f"{path or site}/{op}"
        self._used[name] += 1
        counted = flop_registry.get(func.overloadpacket)
        self.kernels.append(
            Kernel(
                name=name if self._used[name] == 1 else f"{name}#{self._used[name]}",
                op=op,
                site=site,
                fused_ops=(op,),
                inputs=tuple(_spec(tensor) for tensor in read if id(tensor) not in self._weights),
                outputs=tuple(map(_spec, made)),
                weights=tuple(_spec(tensor) for tensor in read if id(tensor) in self._weights),
                attributes=_attributes(op, args),
                implementation=str(func),
                macs=int(counted(*args, **kwargs, out_val=result)) // 2 if counted else 0,
            )
        )
        return result


def operators(module: torch.nn.Module, inputs: Sequence[torch.Tensor], sites: tuple[str, ...]) -> tuple[Kernel, ...]:
    """The operators that a run will call, as kernels; nothing is computed. Raises :class:`DeviceError` where values decide on them."""
    noting = _Noting(module, sites)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as shapes, _following(module, noting.path), torch.no_grad():
            fakes = [shapes.from_tensor(tensor) for tensor in inputs]
            with noting:
                module(*fakes)
    except (RuntimeError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise DeviceError(f"the network cannot be followed without a run: {first[0]}", "forward() must not depend on values") from error
    return tuple(noting.kernels)


@contextmanager
def _following(module: torch.nn.Module, path: list[str]) -> Iterator[None]:
    """Within, ``path`` ends with the name of the module that is running."""
    hooks = []
    for name, part in module.named_modules():
        hooks.append(part.register_forward_pre_hook(lambda *_, name=name: path.append(name)))
        hooks.append(part.register_forward_hook(lambda *_: (path.pop(), None)[1]))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _spec(tensor: torch.Tensor) -> TensorSpec:
    return TensorSpec(tuple(map(int, tensor.shape)), str(tensor.dtype).removeprefix("torch."))


def _attributes(op: str, args: Sequence[Any]) -> tuple[tuple[str, int | str], ...]:
    if op != "convolution":
        return ()
    strides, dilations, group = args[3], args[5], args[8]
    return (("dilations", "x".join(map(str, dilations))), ("group", int(group)), ("strides", "x".join(map(str, strides))))
