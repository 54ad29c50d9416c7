"""The elastic ResNet-50 and ProxylessNAS spaces: published sizes, the networks that they build, and how these run on real runtimes."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from layerclock.devices.export import calibrate_normalisation, export_network
from layerclock.errors import ArgumentError, GenomeError
from layerclock.interfaces import ModelFile
from layerclock.plugins import load_space, open_device
from layerclock.search.spaces.proxyless import ProxylessSpace, ofa_proxyless
from layerclock.search.spaces.resnet50 import ResNet50Space, ofa_resnet50
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.space import GenomeArray

Shape = tuple[int, ...]

# 45 pixels: stages that begin on odd sides, where the average pooling of the shortcuts has windows beyond the edge.
SPACES: dict[str, ResNet50Space | ProxylessSpace] = {
    "resnet50": ResNet50Space("tiny", 45, 3, 7, stem_channels=16, stage_channels=(16, 24, 32, 40), base_blocks=(1, 1, 1, 1)),
    "proxyless": ofa_proxyless(width=0.25, resolution=45, classes=7),
}


def _largest(space: ResNet50Space | ProxylessSpace) -> GenomeArray:
    return np.array([len(gene.choices) - 1 for gene in space.genes], dtype=np.int64)


def _drawn(space: ResNet50Space | ProxylessSpace) -> list[GenomeArray]:
    return [np.zeros(len(space.genes), dtype=np.int64), _largest(space), *sample(SiteIndex.of(space), 2, np.random.default_rng(0))]


def _observe(network: nn.Module, sites: list[str], image: torch.Tensor) -> tuple[dict[str, tuple[Shape, Shape]], Counter[str]]:
    """Shapes into and out of each site, and its multiply-accumulates, as torch's own modules have them."""
    modules = {site: network.get_submodule(site) for site in sites}
    owners = {module: site for site, top in modules.items() for module in top.modules()}
    shapes: dict[str, tuple[Shape, Shape]] = {}
    macs: Counter[str] = Counter()

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        site = owners[module]
        if module is modules[site]:
            shapes[site] = (tuple(inputs[0].shape), tuple(output.shape))
        if isinstance(module, nn.Conv2d):
            macs[site] += output.numel() * prod(module.weight.shape[1:])
        if isinstance(module, nn.Linear):
            macs[site] += module.weight.numel()

    for module in owners:
        module.register_forward_hook(record)
    with torch.no_grad():
        network(image)
    return shapes, macs


def test_one_sub_network_is_the_published_resnet50d() -> None:
    """Base widths and expansion with blocks 3, 4, 6, 3 are ResNet-50-D plus the shortcut in the stem: 25,576,264 weights."""
    space = ofa_resnet50()
    index = SiteIndex.of(space)
    standard = space.from_ofa({"d": [2, 1, 2, 2, 1], "e": [0.25] * 18, "w": [2] * 6})
    assert index.params(standard[None]).tolist() == [25_576_264]
    assert index.macs(standard[None])[0] == pytest.approx(4.33e9, rel=1e-3)
    assert index.decode(standard)["stage3.extra"] == 2


def test_channels_are_once_for_alls() -> None:
    """Computed by hand from its rule of rounding: 0.65, 0.8 and 1 times 64, 256, 512, 1024, 2048."""
    space = ofa_resnet50()
    widths = [[space.block(stage, 0, 1.0, width, 0.35).out_channels for width in (0.65, 0.8, 1.0)] for stage in range(4)]
    assert widths == [[168, 208, 256], [336, 408, 512], [664, 816, 1024], [1328, 1640, 2048]]
    assert [space.block(3, 1, 1.0, 1.0, share).mid_channels for share in (0.2, 0.25, 0.35)] == [408, 512, 720]
    assert [space.stem_specs(width, width)[0].out_channels for width in (0.65, 0.8, 1.0)] == [24, 24, 32]
    assert [space.stem_specs(width, width)[2].out_channels for width in (0.65, 0.8, 1.0)] == [40, 48, 64]
    narrow = ofa_proxyless()
    assert narrow.stem.out_channels == 40
    assert narrow.first_block.out_channels == 24
    assert [narrow.block(stage, 0, 3, 6).out_channels for stage in range(6)] == [32, 56, 104, 128, 248, 416]
    assert narrow.feature_mix.out_channels == 1664


@pytest.mark.parametrize("name", SPACES)
def test_the_built_network_is_what_the_sites_say(name: str) -> None:
    space = SPACES[name]
    index = SiteIndex.of(space)
    for genome in _drawn(space):
        network = space.build(genome).eval()
        placed = {one.site: one.layer for one in index.network(genome).layers}
        seen, macs = _observe(network, list(placed), torch.zeros(space.inputs[0].shape))
        assert seen == {site: (layer.inputs[0].shape, layer.outputs[0].shape) for site, layer in placed.items()}
        assert macs == {site: layer.macs for site, layer in placed.items() if layer.macs}
        for site, layer in placed.items():
            assert sum(weights.numel() for weights in network.get_submodule(site).parameters()) == layer.params, site
        assert sum(weights.numel() for weights in network.parameters()) == int(index.params(genome[None])[0])
        assert np.array_equal(index.canonical(index.canonical(genome[None])), index.canonical(genome[None]))


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("dynamo", [False, True])
def test_runtimes_compute_what_torch_does_and_every_kernel_has_its_layer(name: str, dynamo: bool, tmp_path: Path) -> None:
    space = SPACES[name]
    # The newer exporter takes seconds for every ten layers.
    genome = np.zeros(len(space.genes), dtype=np.int64) if dynamo else sample(SiteIndex.of(space), 1, np.random.default_rng(3))[0]
    sites = tuple(placed.site for placed in SiteIndex.of(space).network(genome).layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = space.build(genome)
        calibrate_normalisation(network, [(torch.randn(8, *space.inputs[0].shape[1:]),)])
        image = torch.randn(space.inputs[0].shape)
    path = tmp_path / "network.onnx"
    export_network(network, path, (image,), sites, dynamo)
    with torch.inference_mode():
        expected = network(image).numpy()
    for device in ("onnxruntime:cpu", "openvino:CPU"):
        session = open_device(device).load(ModelFile(path, f"{name}-{dynamo}", sites))
        (output,) = session.infer({"input": image.numpy()}).values()
        np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        assert {kernel.site for kernel in session.kernel_times(2).kernels} == set(sites)
        session.close()


def test_a_narrow_first_block_has_no_shortcut_and_its_key_says_so() -> None:
    """Narrower than 0.375, first block and stem are equally wide; once-for-all adds nothing there either."""
    narrow, wide = ofa_proxyless(width=0.25).first_block, ofa_proxyless().first_block
    assert narrow.in_channels == narrow.out_channels
    assert not narrow.residual
    assert "shortcut=0" in narrow.layer(32).key
    assert "shortcut" not in wide.layer(32).key


def test_configurations_of_once_for_all() -> None:
    resnet, proxyless = ofa_resnet50(), ofa_proxyless()
    skipped = resnet.from_ofa({"d": [0, 0, 1, 2, 0], "e": [0.2, 0.25, 0.35] * 6, "w": [0, 1, 2, 0, 1, 2]})
    chosen = SiteIndex.of(resnet).decode(skipped)
    assert (chosen["stem.depth"], chosen["stem.inner_width"], chosen["stem.width"], chosen["stage1.width"]) == (0, 0.65, 0.8, 1.0)
    assert (chosen["stage2.extra"], chosen["stage2.block3.expand"]) == (1, 0.2)
    assert "stage1.block3.expand" not in chosen
    drawn = proxyless.from_ofa({"ks": [3, 5, 7] * 7, "e": [6, 4, 3] * 7, "d": [2, 3, 4, 2, 3, 1]})
    chosen = SiteIndex.of(proxyless).decode(drawn)
    assert (chosen["stage3.depth"], chosen["stage6.block1.kernel"], chosen["stage6.block1.expand"]) == (4, 7, 3)
    for space, broken, reason in (
        (resnet, {"d": [0], "e": [0.2], "w": [0]}, "5 d, 18 e and 6 w"),
        (resnet, {"d": [0, 0, 1, 2, 3], "e": [0.2] * 18, "w": [0] * 6}, "not an OFA"),
        (resnet, {"d": [0, 0, 1, 2, 2], "e": [0.3] * 18, "w": [0] * 6}, "not an OFA"),
        (resnet, {"d": [0, 0, 1, 2, 2], "e": [0.2] * 18, "w": [-1] * 6}, "not an OFA"),
        (proxyless, {"ks": [3] * 20, "e": [3] * 20, "d": [2] * 5}, "21 ks"),
        (proxyless, {"ks": [3] * 21, "e": [3] * 21, "d": [2] * 6}, "not an OFA"),
    ):
        with pytest.raises(GenomeError, match=reason):
            space.from_ofa(broken)  # type: ignore[arg-type]


def test_parameters_stand_in_the_name_and_impossible_ones_are_refused() -> None:
    assert load_space("ofa-resnet50").name == "ofa-resnet50"
    assert load_space("ofa-resnet50:resolution=128").name == "ofa-resnet50:resolution=128"
    assert load_space("ofa-resnet50:classes=10,resolution=128").name == "ofa-resnet50:resolution=128,classes=10"
    assert load_space("ofa-proxyless:width=1").name == "ofa-proxyless:width=1"
    assert load_space("ofa-proxyless:width=1.30000001").name == "ofa-proxyless:width=1.30000001"
    for text in ("ofa-resnet50:resolution=8", "ofa-resnet50:classes=1", "ofa-proxyless:width=0", "ofa-proxyless:resolution=40.5"):
        with pytest.raises(ArgumentError):
            load_space(text)


def test_widths_that_round_to_the_same_channels_are_one_network() -> None:
    index = SiteIndex.of(load_space("ofa-resnet50"))
    gene = next(number for number, gene in enumerate(index.genes) if gene.name == "stem.inner_width")
    genomes = np.zeros((3, len(index.genes)), dtype=np.int64)
    genomes[:, gene] = [0, 1, 2]
    assert np.array_equal(index.layers(genomes)[0], index.layers(genomes)[1]), "0.65 and 0.8 of its channels are 24"
    assert index.canonical(genomes)[:, gene].tolist() == [0, 0, 2]
