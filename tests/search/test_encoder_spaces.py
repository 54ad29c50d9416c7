"""The spaces of BERT and ViT against published totals, against torch's own encoder layer, and on the runtimes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from layerclock.devices.export import Exporter
from layerclock.errors import ArgumentError, GenomeError
from layerclock.plugins import load_space, open_device
from layerclock.search.networks.encoders import EncoderLayer
from layerclock.search.spaces.encoders import BertSpace, VitSpace, bert, vit
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

TINY = (
    "bert:length=12,classes=3,vocabulary=50,hidden=32,layers=3,heads=4,ffn=48",
    "vit:resolution=24,patch=8,classes=5,in_channels=1,hidden=32,layers=3,heads=4,ffn=48",
)


def largest(space: SearchSpace) -> GenomeArray:
    return np.array([len(gene.choices) - 1 for gene in space.genes], dtype=np.int64)


def examples(space: SearchSpace, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    (spec,) = space.inputs
    shape = (batch, *spec.shape[1:])
    return torch.randint(0, 2, shape, generator=generator) if spec.dtype == "int64" else torch.randn(shape, generator=generator)


def remember_shapes(
    seen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    site: str,
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    output: torch.Tensor,
) -> None:
    seen[site] = (tuple(inputs[0].shape), tuple(output.shape))


def test_the_largest_networks_have_the_published_sizes() -> None:
    # bert-base-uncased has 109,482,240 weights (Devlin et al., section 3: "110M"), and the classifier 769 for each class.
    index = SiteIndex.of(bert())
    assert index.params(largest(bert())[None]).tolist() == [109_482_240 + 2 * 769]
    # Torchvision documents vit_b_16 as 86,567,656 weights and 17.56 "GFLOPS", which count multiply-accumulates.
    index = SiteIndex.of(vit())
    assert index.params(largest(vit())[None]).tolist() == [86_567_656]
    assert round(index.macs(largest(vit())[None])[0] / 1e9, 2) == 17.56


def test_the_choices_are_those_of_the_literature() -> None:
    for space, depths in ((bert(), (6, 7, 8, 9, 10, 11, 12)), (vit(), (10, 11, 12))):
        index = SiteIndex.of(space)
        assert space.genes[0].choices == depths
        assert {gene.choices for gene in space.genes[1::2]} == {(6, 8, 10, 12)}
        assert {gene.choices for gene in space.genes[2::2]} == {(1024, 2048, 3072)}
        assert len(index.vocabulary) == 4 + 3 + 2  # the same layer stands at every depth


@pytest.mark.parametrize("name", TINY)
def test_the_built_network_is_what_the_sites_say(name: str) -> None:
    space = load_space(name)
    index = SiteIndex.of(space)
    for genome in [*sample(index, 3, np.random.default_rng(0)), largest(space), 0 * largest(space)]:
        network = space.build(genome).eval()
        seen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        placed = index.network(genome).layers
        for one in placed:
            network.get_submodule(one.site).register_forward_hook(partial(remember_shapes, seen, one.site))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(examples(space))
        assert counter.get_total_flops() == 2 * index.macs(genome[None])[0]
        for one in placed:
            assert seen[one.site] == (one.layer.inputs[0].shape, one.layer.outputs[0].shape)
            assert sum(weights.numel() for weights in network.get_submodule(one.site).parameters()) == one.layer.params, one.site
        assert sum(weights.numel() for weights in network.parameters()) == index.params(genome[None])[0]
        assert network(examples(space, 3)).shape == (3, space.sites[-1].layers[0].outputs[0].shape[1])  # type: ignore[union-attr]


@pytest.mark.parametrize("name", TINY)
def test_a_layer_computes_what_torchs_own_does(name: str) -> None:
    space = load_space(name)
    assert isinstance(space, BertSpace | VitSpace)
    sizes = space.sizes
    torch.manual_seed(0)
    ours = EncoderLayer(sizes.attention(sizes.heads), sizes.feed_forward(sizes.ffn)).eval()
    attention, ffn = ours.attention, ours.ffn
    theirs = nn.TransformerEncoderLayer(
        sizes.hidden, sizes.heads, sizes.ffn, activation="gelu", batch_first=True, norm_first=sizes.pre_norm,
        layer_norm_eps=attention.norm.eps,
    ).eval()  # fmt: skip
    projections = (attention.query, attention.key, attention.value)
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([one.weight for one in projections]),
            "self_attn.in_proj_bias": torch.cat([one.bias for one in projections]),
        }
        | {f"self_attn.out_proj.{key}": tensor for key, tensor in attention.output.state_dict().items()}
        | {f"norm1.{key}": tensor for key, tensor in attention.norm.state_dict().items()}
        | {f"norm2.{key}": tensor for key, tensor in ffn.norm.state_dict().items()}
        | {f"linear1.{key}": tensor for key, tensor in ffn.widen.state_dict().items()}
        | {f"linear2.{key}": tensor for key, tensor in ffn.narrow.state_dict().items()}
    )
    x = torch.randn(2, sizes.tokens, sizes.hidden)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_one_genome_stands_for_each_network(name: str) -> None:
    index = SiteIndex.of(load_space(name))
    genomes = np.random.default_rng(1).integers(0, index.cardinality, (200, len(index.genes)))
    canonical = index.canonical(genomes)
    assert np.array_equal(index.canonical(canonical), canonical)
    assert np.array_equal(index.layers(canonical), index.layers(genomes))
    shallow = canonical[canonical[:, 0] == 0]
    assert len(shallow)
    assert not shallow[:, -2:].any()  # heads and width of a layer that is left out


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("dynamo", [False, True])
def test_the_runtimes_compute_what_torch_does_and_time_every_layer(name: str, dynamo: bool, tmp_path: Path) -> None:
    space = load_space(name)
    index = SiteIndex.of(space)
    genome = sample(index, 1, np.random.default_rng(2))[0]
    model = Exporter(space, dynamo=dynamo, folder=tmp_path)(genome)
    computing = {placed.site for placed in index.network(genome).layers}
    assert set(model.sites) == computing
    torch.manual_seed(int(model.digest[:8], 16))  # as the exporter seeds it
    with torch.no_grad():
        expected = space.build(genome).eval()(examples(space)).numpy()
    for device in ("onnxruntime:cpu", "openvino:CPU"):
        session = open_device(device).load(model)
        got = session.infer({"input": examples(space).numpy()})["output"]
        assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max() + 1e-6, device
        times = session.kernel_times(2)
        assert {kernel.site for kernel in times.kernels} == computing, device
        session.close()


def test_parameters_stand_in_the_name() -> None:
    assert load_space("bert").name == "bert"
    assert load_space("vit:hidden=384,heads=6,ffn=1536").name == "vit:hidden=384,heads=6,ffn=1536"
    for name in TINY:
        assert load_space(name).name == name


@pytest.mark.parametrize(
    "text",
    [
        "bert:length=0", "bert:length=513", "bert:length=7.5", "bert:classes=1", "bert:vocabulary=1", "bert:hidden=100", "bert:ffn=2",
        "bert:layers=0", "bert:heads=0", "bert:heads=half",
        "vit:resolution=100", "vit:resolution=8", "vit:patch=0", "vit:patch=1.5", "vit:classes=1", "vit:in_channels=0", "vit:layers=-1",
    ],
)  # fmt: skip
def test_impossible_parameters_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError):
        load_space(text)


def test_a_genome_of_another_space_is_refused() -> None:
    with pytest.raises(GenomeError):
        load_space(TINY[0]).build([0, 1])
