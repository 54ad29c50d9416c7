"""ncnn: every operator is found in a layer, in networks of all kinds, and what it cannot run is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from layerclock.devices.attribution import SourceGraph
from layerclock.devices.conformance import check_device
from layerclock.devices.export import Exporter
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceOptions, ModelFile
from layerclock.plugins import load_space, open_device

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.space import SiteIndex

NAME = "ncnn:cpu"
SPACES = (
    "nas-bench-201",
    "vit:resolution=32,patch=8,classes=10,in_channels=1,hidden=64,layers=2,heads=4,ffn=128",
    "bert:length=16,vocabulary=50,hidden=64,layers=2,heads=4,ffn=128",
    "ncf",
)


def test_it_keeps_every_rule(tiny_model: ModelFile) -> None:
    assert [finding for finding in check_device(open_device(NAME), tiny_model) if not finding.kept] == []


def test_every_multiplication_is_counted_and_placed(tiny_model: ModelFile, tiny_index: SiteIndex) -> None:
    kernels = open_device(NAME).load(tiny_model).kernels()
    by_site = {placed.site: placed.layer.macs for placed in tiny_index.network(np.array(tiny_model.genome)).layers}
    assert {site: sum(kernel.macs or 0 for kernel in kernels if kernel.site == site) for site in by_site} == by_site
    fused = {kernel.fused_ops for kernel in kernels}
    assert ("Conv", "Relu") in fused, "pnnx fuses a Relu into the convolution before it"


@pytest.mark.parametrize("name", SPACES)
def test_networks_of_other_kinds_are_told_apart_and_computed_right(name: str) -> None:
    space = load_space(name)
    # The second choice of each gene: in NAS-Bench-201 the first one leaves nothing to compute.
    model = Exporter(space)([min(1, len(gene.choices) - 1) for gene in space.genes])
    session = open_device(NAME).load(model)
    source = SourceGraph(model.path)
    expected = [source.macs(node) or 0 for node in source.order if source.is_product(node) and not source.is_bookkeeping(node)]
    assert sum(kernel.macs or 0 for kernel in session.kernels()) == sum(expected) > 0
    inputs = source.example_inputs()
    reference = onnxruntime.InferenceSession(str(model.path)).run(None, inputs)
    for found, wanted in zip(session.infer(inputs).values(), reference, strict=True):
        assert np.abs(found - wanted).max() <= 1e-3 * np.abs(wanted).max()


def test_what_it_cannot_run_is_refused(tiny_model: ModelFile) -> None:
    with pytest.raises(DeviceUnavailableError, match=r"batches of 2: ncnn's tensors have no batch"):
        open_device(NAME, DeviceOptions(batch=2))
    with pytest.raises(DeviceUnavailableError, match="int8"):
        open_device(NAME, DeviceOptions(precision="int8"))
    for extra in ({"use_winograd_convolution": "yes"}, {"use_vulkan_compute": "1"}):
        with pytest.raises(DeviceError, match="has no option"):
            open_device(NAME, DeviceOptions(extra=extra))
    session = open_device(NAME, DeviceOptions(extra={"use_winograd_convolution": "0"})).load(tiny_model)
    with pytest.raises(DeviceError, match="cannot run the network on"):
        session.infer({"other": np.zeros((1, 1, 32, 32), np.float32)})
    assert session.run() > 0


def test_a_file_that_pnnx_cannot_read_is_a_device_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08\x12garbage")
    with pytest.raises(DeviceError, match=r"cannot (convert|read) .*model\.onnx") as raised:
        open_device(NAME).load(ModelFile(path, "f" * 24, ("stem",)))
    assert "\n" not in str(raised.value)
