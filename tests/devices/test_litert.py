"""LiteRT: operators of the file and operators that ran are matched; with litert-torch installed, real networks are run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.devices.conformance import check_device
from layerclock.devices.export import Exporter
from layerclock.errors import DeviceError, DeviceUnavailableError, MissingExtraError
from layerclock.interfaces import DeviceOptions, ModelFile
from layerclock.plugins import find_devices, load_space, open_device

if TYPE_CHECKING:
    from layerclock.space import SiteIndex

NAME = "litert:cpu"
INSTALLED = find_spec("ai_edge_litert") is not None and find_spec("litert_torch") is not None
needed = pytest.mark.skipif(not INSTALLED, reason="pip install 'layerclock[litert]' brings LiteRT; it wants an environment of its own")


@pytest.mark.skipif(INSTALLED, reason="LiteRT is here")
def test_without_its_packages_it_says_how_to_get_them() -> None:
    entry = next(entry for entry in find_devices() if entry.name.startswith("litert"))
    assert not entry.available
    assert "layerclock[litert]" in entry.hint
    with pytest.raises(MissingExtraError, match="litert"):
        open_device(NAME)


@needed
def test_it_keeps_every_rule(tiny_model: ModelFile) -> None:
    assert [finding for finding in check_device(open_device(NAME), tiny_model) if not finding.kept] == []


@needed
def test_every_multiplication_is_counted_and_placed(tiny_model: ModelFile, tiny_index: SiteIndex) -> None:
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
