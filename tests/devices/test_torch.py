"""torch's devices: layers from module names, eager and compiled. CUDA is not run here: only what needs none is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from layerclock.devices.conformance import check_device
from layerclock.devices.torch.compiled import CompiledOnHost, called_kernels
from layerclock.devices.torch.cuda import fp32_on_cuda
from layerclock.devices.torch.module_paths import site_of, written_path
from layerclock.devices.torch.operators import operators
from layerclock.devices.torch.session import Loaded, TorchSession
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceOptions, ModelFile
from layerclock.plugins import find_devices, open_device

if TYPE_CHECKING:
    from layerclock.space import SiteIndex

PROGRAM = """
def call(args):
        buf1 = empty_strided_cpu((1, 4), (4, 1), torch.float32)
        cpp_fused_0(buf1)
        # Topologically Sorted Source Nodes: [conv2d, out], Original ATen: [aten.convolution, aten.relu]
        buf2 = torch.ops.mkldnn._convolution_pointwise.default(arg0, _frozen_param1, buf1)
        # Topologically Sorted Source Nodes: [x], Original ATen: [aten.addmm]
        extern_kernels.addmm(arg2, buf2, arg3, alpha=1, beta=1, out=buf3)
        del buf2
        cpp_fused_mean_1(buf3)
"""


def test_every_multiplication_is_counted_and_placed(tiny_model: ModelFile, tiny_index: SiteIndex) -> None:
    kernels = open_device("torch:cpu").load(tiny_model).kernels()
    genome = np.array([tiny_model.genome])
    network = tiny_index.network(genome[0])
    by_site = {placed.site: placed.layer.macs for placed in network.layers}
    assert {site: sum(kernel.macs or 0 for kernel in kernels if kernel.site == site) for site in by_site} == by_site
    assert any(kernel.op == "native_batch_norm" for kernel in kernels), "eager torch folds nothing"


def test_bfloat16_is_run_where_the_processor_has_it(tiny_model: ModelFile) -> None:
    options = DeviceOptions(precision="bf16")
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        with pytest.raises(DeviceUnavailableError, match="no instructions for it"):
            open_device("torch:cpu", options)
        return
    device = open_device("torch:cpu", options)
    assert [finding for finding in check_device(device, tiny_model) if not finding.kept] == []
    kernels = device.load(tiny_model).kernels()
    assert {spec.dtype for kernel in kernels if kernel.op == "convolution" for spec in kernel.outputs} == {"bfloat16"}


def test_a_model_without_a_module_is_refused() -> None:
    with pytest.raises(DeviceError, match="a model without a torch module behind it"):
        open_device("torch:cpu").load(ModelFile(Path("model.onnx"), "0" * 24, ("stem",)))


def test_an_unknown_option_is_refused() -> None:
    for extra in ({"memory_format": "diagonal"}, {"threads": "2"}):
        with pytest.raises(DeviceError, match="has no options"):
            open_device("torch:cpu", DeviceOptions(extra=extra))


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a CUDA device")
@pytest.mark.parametrize("name", ["torch:cuda", "torch:cuda-graph"])
def test_without_cuda_its_devices_say_how_to_get_them(name: str) -> None:
    entry = next(entry for entry in find_devices() if entry.name == name)
    assert (entry.available, entry.reason) == (False, "torch finds no CUDA device")
    with pytest.raises(DeviceUnavailableError, match="torch finds no CUDA device") as raised:
        open_device(name)
    assert raised.value.hint == entry.hint
    assert "NVIDIA" in entry.hint


def test_a_network_that_depends_on_values_is_refused() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(DeviceError, match="cannot be followed without a run"):
        operators(Branches(), (torch.ones(1, 2),), ("all",))


def test_paths_of_modules_name_their_sites() -> None:
    assert site_of("stage1.block1.conv", ("stage1", "stage1.block1", "stage1.block10")) == "stage1.block1"
    assert site_of("stage2.block1", ("stage1",)) == ""
    traced = ["L['self'].stem.conv", "L['self'].stages[0][1].conv", "L['self']._modules['stage1.block1'].conv", "L['self']"]
    assert [written_path(path) for path in traced] == ["stem.conv", "stages.0.1.conv", "stage1.block1.conv", ""]


def test_a_compiled_program_tells_its_kernels_in_order() -> None:
    kernels = called_kernels(PROGRAM)
    assert [kernel.name for kernel in kernels] == ["cpp_fused_0", "mkldnn::_convolution_pointwise", "aten::addmm", "cpp_fused_mean_1"]
    assert [kernel.nodes for kernel in kernels] == [(), ("conv2d", "out"), ("x",), ()]


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler: apt-get install g++")
@pytest.mark.filterwarnings("ignore")  # torch's own, of its own parts
def test_a_compiled_network_is_timed_kernel_by_kernel() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Hardswish())
            self.head = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.head(self.stem(x).mean((2, 3)).softmax(1))
            return result

    torch.manual_seed(0)
    module, given = Network().eval(), torch.randn(1, 1, 12, 12)
    with torch.no_grad():
        expected = module(given).numpy()
    loaded = Loaded(module, (given,), ("stem", "head"), ("input",), ("output",))
    session = TorchSession(loaded, CompiledOnHost(loaded))
    times = session.kernel_times(3)
    assert times.samples_ns.shape == (3, len(times.kernels))
    assert (times.samples_ns > 0).all()
    assert {kernel.site for kernel in times.kernels} == {"stem", "head"}
    assert session.kernels() == times.kernels
    (product,) = (kernel for kernel in times.kernels if "convolution" in kernel.name or "convolution" in kernel.op)
    assert [spec.shape for spec in product.outputs] == [(1, 8, 10, 10)], "a row of the table is of one shape"
    assert session.run() > 0
    np.testing.assert_allclose(session.infer({"input": given.numpy()})["output"], expected, rtol=1e-4, atol=1e-6)


def test_what_float32_is_computed_in_on_cuda_is_known() -> None:
    facts = fp32_on_cuda()
    assert set(facts) == {"fp32_convolutions", "fp32_products"}
    assert all(isinstance(value, str) and value for value in facts.values())
