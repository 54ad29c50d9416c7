"""An exported network is the network that the space's sites describe, and every operator still tells its layer."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from layerclock.devices.attribution import SourceGraph
from layerclock.devices.cache import cache_folder
from layerclock.devices.conformance import check_device
from layerclock.devices.export import Exporter, calibrate_normalisation, export_network
from layerclock.errors import DeviceError, OutputError, SpaceError
from layerclock.plugins import open_device
from layerclock.space import sample

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import ModelFile, SearchSpace
    from layerclock.search.spaces.mobilenetv3 import MobileNetV3Space
    from layerclock.space import GenomeArray, SiteIndex

Shape = tuple[int, ...]
Hook = Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]


@pytest.fixture(scope="module")
def genomes(tiny_index: SiteIndex) -> GenomeArray:
    return sample(tiny_index, 2, np.random.default_rng(1))


def _macs_of_operators(model: ModelFile) -> Counter[str]:
    """Multiply-accumulates by site, from the shapes of the exported convolutions and products themselves."""
    graph = SourceGraph(model.path)
    macs: Counter[str] = Counter()
    for node in graph.nodes.values():
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            weights, result = graph.shapes[node.input[1]].shape, graph.shapes[node.output[0]]
            per_output = prod(weights[1:]) if node.op_type == "Conv" else prod(weights) // result.shape[-1]
            macs[node.name.split("/")[0]] += result.elements * per_output
    return macs


def _check_names_and_sizes(model: ModelFile, index: SiteIndex, genome: GenomeArray) -> None:
    network = index.network(genome)
    assert model.sites == tuple(placed.site for placed in network.layers)
    graph = onnx.load(str(model.path)).graph
    assert {node.name.split("/")[0] for node in graph.node} == set(model.sites)
    assert len({node.name for node in graph.node}) == len(graph.node)
    made = {tensor for node in graph.node for tensor in node.output} - {value.name for value in graph.output}
    assert {tensor.split("/")[0] for tensor in made} <= set(model.sites)
    assert _macs_of_operators(model) == {placed.site: placed.layer.macs for placed in network.layers}
    assert sum(_macs_of_operators(model).values()) == index.macs(genome[None])[0]


def test_names_begin_with_sites_and_operators_cost_what_the_sites_say(
    tiny_space: SearchSpace, tiny_index: SiteIndex, genomes: GenomeArray
) -> None:
    export = Exporter(tiny_space)
    for genome in genomes:
        _check_names_and_sizes(export(genome), tiny_index, genome)


def test_the_newer_exporter_gives_the_same_form(tiny_space: SearchSpace, tiny_index: SiteIndex, tiny_model: ModelFile) -> None:
    genome = np.zeros(len(tiny_index.genes), dtype=np.int64)
    model = Exporter(tiny_space, dynamo=True)(genome)
    assert model.digest != tiny_model.digest
    _check_names_and_sizes(model, tiny_index, genome)
    for name in ("fake:cpu", "onnxruntime:cpu", "openvino:CPU"):
        assert [finding for finding in check_device(open_device(name), model) if not finding.kept] == []


def test_the_built_modules_are_the_layers_of_the_sites(tiny_space: SearchSpace, tiny_index: SiteIndex, genomes: GenomeArray) -> None:
    for genome in genomes:
        module = tiny_space.build(genome).eval()
        seen: dict[str, tuple[Shape, Shape]] = {}

        def record(name: str, into: dict[str, tuple[Shape, Shape]] = seen) -> Hook:
            def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
                into[name] = (tuple(inputs[0].shape), tuple(output.shape))

            return hook

        network = tiny_index.network(genome)
        for placed in network.layers:
            module.get_submodule(placed.site).register_forward_hook(record(placed.site))
        with torch.no_grad():
            module(torch.zeros(tiny_space.inputs[0].shape))
        assert seen == {placed.site: (placed.layer.inputs[0].shape, placed.layer.outputs[0].shape) for placed in network.layers}
        trained = {
            placed.site: sum(weights.numel() for weights in module.get_submodule(placed.site).parameters()) for placed in network.layers
        }
        assert trained == {placed.site: placed.layer.params for placed in network.layers}
        assert sum(weights.numel() for weights in module.parameters()) == tiny_index.params(genome[None])[0]


def test_a_file_is_cached_by_content_and_not_by_name_or_order(tiny_space: SearchSpace, tiny_index: SiteIndex, tmp_path: Path) -> None:
    first, second = sample(tiny_index, 2, np.random.default_rng(2))
    one = Exporter(tiny_space, folder=tmp_path / "one")
    files = [one(first), one(second)]
    written = files[0].path.stat().st_mtime_ns
    renamed = Exporter(replace(cast("MobileNetV3Space", tiny_space), name="another"), folder=tmp_path / "two")
    others = [renamed(second), renamed(first)][::-1]
    assert [file.digest for file in others] == [file.digest for file in files]
    assert [file.path.read_bytes() for file in others] == [file.path.read_bytes() for file in files]
    # Another genome of the same network: genes of blocks that do not stand change nothing.
    inactive = np.flatnonzero(~tiny_index.active(first[None])[0])
    alias = first.copy()
    alias[inactive] = (alias[inactive] + 1) % tiny_index.cardinality[inactive]
    assert inactive.size
    assert one(alias) == files[0]
    assert files[0].path.stat().st_mtime_ns == written
    assert Exporter(tiny_space, batch=2, folder=tmp_path / "one")(first).digest != files[0].digest
    assert len(list((tmp_path / "one" / "models").iterdir())) == 3


def test_the_batch_is_that_of_the_target(tiny_space: SearchSpace, tiny_index: SiteIndex) -> None:
    model = Exporter(tiny_space, batch=2)([0] * len(tiny_index.genes))
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    assert [value.shape for value in (*session.get_inputs(), *session.get_outputs())] == [[2, 1, 32, 32], [2, 10]]


def test_exporting_leaves_the_callers_random_numbers_alone(tiny_space: SearchSpace, tiny_index: SiteIndex, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    Exporter(tiny_space, folder=tmp_path)([0] * len(tiny_index.genes))
    assert torch.equal(torch.rand(3), expected)


def test_calibration_keeps_activations_of_an_untrained_network_alive(tiny_space: SearchSpace, tiny_index: SiteIndex) -> None:
    torch.manual_seed(0)
    module = tiny_space.build([2] * len(tiny_index.genes))
    batch = torch.randn(8, *tiny_space.inputs[0].shape[1:])
    calibrate_normalisation(module, [(batch,)])
    assert not module.training
    normalised: dict[str, torch.Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.BatchNorm2d):
            part.register_forward_hook(lambda _m, _i, output, name=name: normalised.__setitem__(name, output))
    with torch.no_grad():
        module(batch)
    assert normalised
    # Unit variance up to the epsilon of the normalisation, but for channels that never fire.
    stds = torch.stack([output.std() for output in normalised.values()])
    assert stds.min() > 0.5
    assert stds.max() < 1.5


def test_an_unwritable_cache_is_a_clear_error(tiny_space: SearchSpace, tiny_index: SiteIndex, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="set LAYERCLOCK_CACHE to a writable folder"):
        Exporter(tiny_space, folder=tmp_path / "file")([0] * len(tiny_index.genes))


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAYERCLOCK_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("LAYERCLOCK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "layerclock"


class _Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x


def test_a_network_that_torch_cannot_export_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"torch cannot export the network to ONNX: .*shapes cannot be multiplied"):
        export_network(_Fails(), tmp_path / "x.onnx", (torch.zeros(1, 3),), ("stem",))
    assert list(tmp_path.iterdir()) == []


def test_modules_that_are_not_named_after_the_sites_are_refused(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(first=nn.Conv2d(1, 1, 3)))
    with pytest.raises(SpaceError, match="no exported operator carries the name of a site"):
        export_network(network, tmp_path / "x.onnx", (torch.zeros(1, 1, 8, 8),), ("stem",))
    assert list(tmp_path.iterdir()) == []
    export_network(network, tmp_path / "x.onnx", (torch.zeros(1, 1, 8, 8),), ("first",))
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_an_operator_between_two_sites_belongs_to_the_one_before_it(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), between=nn.Flatten(), head=nn.Linear(72, 3)))
    export_network(network, tmp_path / "x.onnx", (torch.zeros(1, 1, 8, 8),), ("conv", "head"))
    nodes = onnx.load(str(tmp_path / "x.onnx")).graph.node
    assert [(node.op_type, node.name.split("/")[0]) for node in nodes] == [("Conv", "conv"), ("Flatten", "conv"), ("Gemm", "head")]
