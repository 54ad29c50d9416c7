"""Compiled networks: torch.compile with inductor, each of its kernels timed by torch's profiler and traced back to its modules.

Inductor writes a program that calls its kernels one after the other, each under a comment that names the traced nodes it computes. The
nodes know which module they come from, and every kernel is an event of its own in the profiler, in the program's order.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.profiler import ProfilerActivity, profile

from layerclock.devices.torch.module_paths import site_of, written_path
from layerclock.errors import DeviceError
from layerclock.network import Kernel, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.devices.torch.session import Loaded

__all__ = ["CompiledOnHost", "called_kernels", "missing_compiler"]

_COMPILERS = ("g++", "c++", "clang++")
_REGION = "## Call CompiledFxGraph"
_SOURCES = re.compile(r"#.*Source Nodes: \[(.*?)\], Original ATen: \[(.*?)\]")
_CALL = re.compile(r"^(?:\w+ = )?(?:torch\.ops\.(\w+)\.(\w+)(?:\.\w+)?|extern_kernels\.(\w+)|(cpp_\w+))\(")
_COLD_RUNS = 2


def missing_compiler() -> tuple[str, str] | None:
    """Why nothing can be compiled here, and the remedy; None if it can."""
    if any(map(shutil.which, _COMPILERS)):
        return None
    return "torch.compile needs a C++ compiler", "apt-get install g++, or your system's package of it"


@dataclass(frozen=True, slots=True)
class CalledKernel:
    """A kernel that a compiled program calls: its name in the profiler, the traced nodes and ATen operators that it computes."""

    name: str
    nodes: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Traced:
    """A node that torch.compile traced: where it stands, and the shapes of what it reads (weights among it) and makes."""

    site: str
    reads: tuple[TensorSpec, ...]
    makes: tuple[TensorSpec, ...]


def _specs(facts: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    tensors = [one["example_value"] for one in facts if isinstance(one.get("example_value"), torch.Tensor)]
    return tuple(TensorSpec(tuple(map(int, tensor.shape)), str(tensor.dtype).removeprefix("torch.")) for tensor in tensors)


def called_kernels(program: str) -> list[CalledKernel]:
    """The kernels that inductor's wrapper calls, in order."""
    called: list[CalledKernel] = []
    nodes: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    for line in program[program.index("def call(") :].splitlines():
        text = line.strip()
        if found := _SOURCES.search(text):
            nodes, operators = (tuple(filter(None, part.split(", "))) for part in found.groups())
        elif call := _CALL.match(text):
            library, op, external, own = call.groups()
            called.append(CalledKernel(own or f"{library or 'aten'}::{op or external}", nodes, operators))
            nodes = operators = ()
    return called


class CompiledOnHost:
    """Kernels of inductor, with weights frozen into them."""

    def __init__(self, loaded: Loaded) -> None:
        import torch._inductor.config as settings
        from torch._inductor.compile_fx import compile_fx
        from torch._inductor.utils import run_and_get_code

        traced: dict[str, _Traced] = {}

        def compile_noting(graph: torch.fx.GraphModule, examples: list[torch.Tensor]) -> Any:
            for node in graph.graph.nodes:
                stack = list((node.meta.get("nn_module_stack") or {}).values())
                site = site_of(written_path(stack[-1][0]), loaded.sites) if stack else ""
                traced[node.name] = _Traced(site, _specs([before.meta for before in node.all_input_nodes]), _specs([node.meta]))
            return compile_fx(graph, examples)

        self._loaded = loaded
        torch._dynamo.reset()
        # Without the cache, for a program from it is not shown; the compiled kernels themselves are found again.
        changes = {"freezing": True, "fx_graph_cache": False, "compile_threads": 1, "cpp.enable_kernel_profile": True}
        try:
            with settings.patch(changes), torch.no_grad():
                self._run = torch.compile(loaded.module, backend=compile_noting, fullgraph=True, dynamic=False)
                _, programs = run_and_get_code(self._run, *loaded.inputs)
        except Exception as error:  # compilers fail in many ways
            first = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise DeviceError(f"torch.compile cannot compile the network: {first[0]}", "use torch:cpu") from error
        if len(programs) != 1:
            raise DeviceError(f"torch.compile made {len(programs)} programs of the network, not one", "use torch:cpu")
        self._called = called_kernels(programs[0])
        self.kernels = _described(self._called, traced, loaded)

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """Outputs for inputs."""
        with torch.no_grad():
            return self._run(*inputs)

    def finish(self) -> None:
        """Nothing is left to do."""

    def kernel_times(self, runs: int, mark: Callable[[], None]) -> npt.NDArray[np.float64]:
        """Times of every kernel as the profiler saw them."""
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for number in range(_COLD_RUNS + runs):
                if number >= _COLD_RUNS:
                    mark()
                self(self._loaded.inputs)
            mark()
        expected = [kernel.name for kernel in self._called]
        events = (event for event in profiler.events() if event.cpu_parent is not None and event.cpu_parent.name.startswith(_REGION))
        times_ns: list[float] = []
        for event in sorted(events, key=lambda event: event.time_range.start):
            wanted = expected[len(times_ns) % len(expected)]
            if event.name == wanted or (wanted.startswith("cpp_") and event.name.endswith(f"_{wanted}")):
                times_ns.append(event.time_range.elapsed_us() * 1e3)
        if len(times_ns) != (_COLD_RUNS + runs) * len(expected):
            raise DeviceError("torch's profiler does not show the kernels that inductor's program calls", "use torch:cpu")
        return np.array(times_ns, dtype=np.float64).reshape(-1, len(expected))[_COLD_RUNS:]


def _described(called: list[CalledKernel], traced: dict[str, _Traced], loaded: Loaded) -> tuple[Kernel, ...]:
    """Each kernel with its site: that of its first node that has one; what has none belongs to the kernel that runs next."""
    nodes = [[traced[node] for node in kernel.nodes if node in traced] for kernel in called]
    own = [next((node.site for node in each if node.site), "") for each in nodes]
    following = loaded.sites[-1]
    sites = []
    for site in reversed(own):
        following = site or following
        sites.append(following)
    used: Counter[str] = Counter()
    kernels = []
    for kernel, site, computed in zip(called, reversed(sites), nodes, strict=True):
        name = f"{site}/{'+'.join(kernel.nodes) or kernel.name}"
        used[name] += 1
        fused = tuple(operator.removeprefix("aten.") for operator in kernel.operators)
        kernels.append(
            Kernel(
                name=name if used[name] == 1 else f"{name}#{used[name]}",
                op=re.sub(r"_\d+$", "", kernel.name),
                site=site,
                fused_ops=fused,
                inputs=computed[0].reads if computed else (),
                outputs=computed[-1].makes if computed else (),
                implementation="inductor" if kernel.name.startswith("cpp_") else kernel.name,
            )
        )
    return tuple(kernels)
