"""LiteRT: a converted network is run and told apart layer by layer; with litert-torch installed, networks are converted, too."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.devices.conformance import check_device
from layerclock.devices.export import Exporter
from layerclock.devices.litert.session import LiteRtSession
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceOptions, ModelFile
from layerclock.plugins import find_devices, load_space, open_device
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layerclock.interfaces import Session

NAME = "litert:cpu"
INSTALLED = find_spec("litert_torch") is not None
needed = pytest.mark.skipif(not INSTALLED, reason="pip install 'layerclock[litert]' brings litert-torch, in an environment of its own")
# The network of the golden file: the first choice of every gene, converted by litert-torch 0.10.0.
SMALL_VIT = "vit:resolution=32,patch=8,classes=10,in_channels=1,hidden=16,layers=3,heads=2,ffn=32"


@pytest.fixture
def golden() -> Iterator[tuple[ModelFile, Session]]:
    """A converted network with the file that it was exported to."""
    space = load_space(SMALL_VIT)
    model = Exporter(space)([0] * len(space.genes))
    session = LiteRtSession(Path(__file__).parents[1] / "golden" / "small_vit.tflite", 1, model)
    yield model, session
    session.close()


def test_a_converted_network_is_timed_and_placed_operator_by_operator(golden: tuple[ModelFile, Session]) -> None:
    model, session = golden
    times = session.kernel_times(5)
    assert times.samples_ns.shape == (5, len(times.kernels))
    # The profiler counts in whole microseconds: an operator outside XNNPACK may begin and end in the same one.
    assert (times.samples_ns >= 0).all()
    assert (times.samples_ns > 0).mean() > 0.9
    assert times.kernels == session.kernels()
    index = SiteIndex.of(load_space(SMALL_VIT))
    by_site = {placed.site: placed.layer.macs for placed in index.network(np.array(model.genome)).layers}
    assert {site: sum(kernel.macs or 0 for kernel in times.kernels if kernel.site == site) for site in by_site} == by_site
    assert session.run() > 0


def test_it_computes_on_what_it_is_given(golden: tuple[ModelFile, Session]) -> None:
    _, session = golden
    shape = (1, 1, 32, 32)
    first, second = (next(iter(session.infer({"input": np.full(shape, value, np.float32)}).values())) for value in (0.0, 1.0))
    assert first.shape == second.shape == (1, 10)
    assert np.isfinite([first, second]).all()
    assert not np.allclose(first, second)
    with pytest.raises(DeviceError, match="other names or shapes"):
        session.infer({"input": np.zeros((1, 1, 32, 31), np.float32)})


def test_a_file_that_is_none_is_a_device_error(golden: tuple[ModelFile, Session], tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"TFL3 or so")
    with pytest.raises(DeviceError, match="LiteRtCreateModelFromFile failed"):
        LiteRtSession(tmp_path / "broken.tflite", 1, golden[0])


@pytest.mark.skipif(INSTALLED, reason="litert-torch is here")
def test_without_the_converter_it_says_how_to_get_it() -> None:
    entry = next(entry for entry in find_devices() if entry.name == NAME)
    assert not entry.available
    assert "layerclock[litert]" in entry.hint
    with pytest.raises(DeviceUnavailableError, match="litert-torch"):
        open_device(NAME)


@needed
def test_it_keeps_every_rule(tiny_model: ModelFile) -> None:
    assert [finding for finding in check_device(open_device(NAME), tiny_model) if not finding.kept] == []


@needed
def test_every_multiplication_of_a_convolutional_network_is_counted_and_placed(tiny_model: ModelFile, tiny_index: SiteIndex) -> None:
    kernels = open_device(NAME).load(tiny_model).kernels()
    by_site = {placed.site: placed.layer.macs for placed in tiny_index.network(np.array(tiny_model.genome)).layers}
    assert {site: sum(kernel.macs or 0 for kernel in kernels if kernel.site == site) for site in by_site} == by_site


@needed
@pytest.mark.parametrize("name", ["nas-bench-201", "vit:resolution=32,patch=8,classes=10,in_channels=1,hidden=64,layers=2,heads=4,ffn=128"])
def test_networks_of_other_kinds_run(name: str) -> None:
    space = load_space(name)
    model = Exporter(space)([min(1, len(gene.choices) - 1) for gene in space.genes])
    findings = check_device(open_device(NAME), model)
    # A skip connection has no operator, and so no time.
    assert [finding.rule for finding in findings if not finding.kept and finding.rule != "every layer has a kernel"] == []


@needed
def test_what_it_cannot_run_is_refused() -> None:
    with pytest.raises(DeviceUnavailableError, match="int8"):
        open_device(NAME, DeviceOptions(precision="int8"))
    with pytest.raises(DeviceError, match="has no options"):
        open_device(NAME, DeviceOptions(extra={"flags": "1"}))
    with pytest.raises(DeviceError, match="a model without a torch module behind it"):
        open_device(NAME).load(ModelFile(Path("model.onnx"), "0" * 24, ("stem",)))
