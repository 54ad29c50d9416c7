"""One network on ncnn: plain runs, and runs in which one layer after the other is asked for.

An extractor computes what is asked of it and no more, and remembers it: asking for each layer's result in order runs the network once,
with a reading of the clock between its layers. Asking itself takes about a microsecond, which the campaign sees as the counters' cost.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import ncnn
import numpy as np
import numpy.typing as npt

from layerclock.devices.attribution import SourceGraph
from layerclock.devices.ncnn.conversion import converted
from layerclock.devices.ncnn.matching import executed_layers, read_layers
from layerclock.errors import DeviceError
from layerclock.interfaces import KernelTimes, ModelFile, unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layerclock.network import Kernel

__all__ = ["NcnnSession"]

# Results as they are, packed, instead of converted for the reader: what passes between layers.
_AS_IT_IS = 1


class NcnnSession:
    """One loaded network. ``settings`` are attributes of ``ncnn.Option``."""

    def __init__(self, settings: Mapping[str, bool | int], model: ModelFile) -> None:
        description, weights = converted(model)
        self._source = SourceGraph(model.path)
        net = ncnn.Net()
        for name, value in settings.items():
            setattr(net.opt, name, value)
        if net.load_param(str(description)) or net.load_model(str(weights)):
            raise DeviceError(f"ncnn cannot load {model.path.name}", "it may lack a layer that pnnx wrote: use another device")
        executed = executed_layers(read_layers(description.read_text()), self._source)
        self._kernels = self._source.kernels([kernel for _, kernel in executed])
        position = {blob.name: number for number, blob in enumerate(net.blobs())}
        self._asked = [position[layer.makes[0]] for layer, _ in executed]
        self._reads = dict(zip(self._source.inputs, net.input_names(), strict=True))
        self._writes = dict(zip(self._source.outputs, net.output_names(), strict=True))
        self._inputs = {name: _as_mat(value) for name, value in self._source.example_inputs().items()}
        self._net: ncnn.Net | None = net

    def _alive(self) -> ncnn.Net:
        if self._net is None:
            raise DeviceError("the session is closed", "load the model again")
        return self._net

    def _started(self, inputs: Mapping[str, ncnn.Mat]) -> ncnn.Extractor:
        extractor = self._alive().create_extractor()
        for name, value in inputs.items():
            if extractor.input(self._reads[name], value):
                raise DeviceError(f"ncnn does not take the input {name!r}", "check its name and shape")
        return extractor

    def run(self) -> int:
        """Wall time of one inference in ns."""
        self._alive()
        start = perf_counter_ns()
        extractor = self._started(self._inputs)
        for name in self._writes.values():
            if extractor.extract(name)[0]:
                raise _failed(name)
        return perf_counter_ns() - start

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        """Times of every layer inside whole runs, the first of which is cold and left out."""
        self._alive()
        samples = np.empty((runs + 1, len(self._asked)))
        for run in range(runs + 1):
            if run:
                mark()
            extractor = self._started(self._inputs)
            for column, blob in enumerate(self._asked):
                # A new one each time: a result that is not held is worked on in place by the next layer, as in a plain run.
                result = ncnn.Mat()
                start = perf_counter_ns()
                failed = extractor.extract(blob, result, _AS_IT_IS)
                samples[run, column] = perf_counter_ns() - start
                if failed:
                    raise _failed(self._kernels[column].name)
        mark()
        return KernelTimes(self._kernels, samples[1:])

    def kernels(self) -> tuple[Kernel, ...]:
        """The layers that pnnx wrote."""
        self._alive()
        return self._kernels

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs for given inputs, by name."""
        if set(inputs) != set(self._reads):
            raise DeviceError(f"ncnn cannot run the network on {sorted(inputs)}", f"it takes {sorted(self._reads)}")
        extractor = self._started({name: _as_mat(value) for name, value in inputs.items()})
        outputs = {}
        for name, blob in self._writes.items():
            failed, value = extractor.extract(blob)
            if failed:
                raise _failed(name)
            outputs[name] = np.array(value).reshape(self._source.shapes[name].shape)
        return outputs

    def close(self) -> None:
        """Free the network."""
        self._net = None


def _failed(name: str) -> DeviceError:
    return DeviceError(f"ncnn cannot compute {name!r}", "use another device for this network")


def _as_mat(value: npt.NDArray[Any]) -> ncnn.Mat:
    """The tensor without its first axis, which ncnn does not know, in memory of ncnn's own."""
    whole = np.issubdtype(value.dtype, np.integer)
    return ncnn.Mat(np.ascontiguousarray(value[0], dtype=np.int32 if whole else np.float32)).clone()
