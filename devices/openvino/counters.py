"""OpenVINO's performance counters, de-averaged.

``get_profiling_info()`` gives each kernel's *mean over all runs since compilation*, cut to whole microseconds
(``perf_count.h``). Single runs are recovered as :mod:`layerclock.devices.running_means` says, as long as the counting network
has run a few times; then it is compiled afresh. Each run's own time is cut to whole microseconds, too: half
of one is lost on average, a tenth of a small network's time, and is put back here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.devices.openvino.compiled_graph import lasting_names, to_run
from layerclock.devices.running_means import taut
from layerclock.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import openvino

    from layerclock.devices.attribution import SourceGraph

__all__ = ["CUT_OFF_US", "MOST_COUNTED_RUNS", "Counters", "not_run", "reason"]

# At n runs a slow run shows by what it took above n - 1 us. Room for the profiler's cold runs and some twenty that count.
MOST_COUNTED_RUNS = 48
CUT_OFF_US = 0.5


class Counters:
    """Recovers single runs from the running means of one compiled network.

    ``names`` are the lasting names of the kernels to follow, as an earlier compilation showed them; without them, what the
    compiled network is to run and whatever else ran: a kernel that takes less than the counters' 1 us is reported as not run
    now and then. ``nodes`` are what this compilation calls them.
    """

    def __init__(self, request: openvino.InferRequest, source: SourceGraph, names: Sequence[str] = ()) -> None:
        self._request = request
        request.infer()  # the cold run; it stays inside every later mean and cancels in the difference
        found = request.get_profiling_info()
        infos = dict(zip(lasting_names([info.node_name for info in found], source), found, strict=True))
        if not infos.keys() >= set(names):
            raise DeviceError("OpenVINO compiled the network into other kernels than before", "measure this network again")
        self.names = list(names)
        if not names:
            running = to_run(request.get_compiled_model())
            self.names = [name for name, info in infos.items() if info.node_name in running or "NOT_RUN" not in str(info.status)]
        self.nodes = [infos[name].node_name for name in self.names]
        self.implementations = [infos[name].exec_type for name in self.names]
        self._totals_us = [self._means()]

    @property
    def runs(self) -> int:
        """How often the network ran, the cold run included."""
        return len(self._totals_us)

    def _means(self) -> npt.NDArray[np.float64]:
        means = {info.node_name: info.real_time.total_seconds() * 1e6 for info in self._request.get_profiling_info()}
        return np.array([means[node] for node in self.nodes])

    def measure(self, runs: int, mark: Callable[[], None]) -> npt.NDArray[np.float64]:
        """Kernel times in ns, float64[runs, kernels]."""
        for _ in range(runs):
            mark()
            try:
                self._request.infer()
            except RuntimeError as error:
                raise not_run(error) from error
            self._totals_us.append(self._means() * (self.runs + 1))
        steps_us = np.diff(taut(np.array(self._totals_us)), axis=0)[-runs:]
        return (steps_us + CUT_OFF_US) * 1e3


def not_run(error: RuntimeError) -> DeviceError:
    """What to raise where an inference failed."""
    return DeviceError(f"OpenVINO cannot run the network: {reason(error)}", "check the inputs and the options")


def reason(error: RuntimeError) -> str:
    """OpenVINO's messages open with its own source lines; the last line says what is wrong."""
    return str(error).strip().splitlines()[-1]
