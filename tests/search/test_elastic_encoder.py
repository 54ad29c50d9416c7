"""The super-network of encoders: slices, extraction, order of importance, and learning to read digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from layerclock.errors import ArgumentError, GenomeError
from layerclock.search.networks.encoders import EncoderLayer
from layerclock.search.spaces.encoders import BertSpace, VitSpace, bert, digits_vit, vit
from layerclock.search.supernet.checkpoint import load_supernet, save_supernet
from layerclock.search.supernet.digits import load_digits_data
from layerclock.search.supernet.elastic import largest_genome, smallest_genome
from layerclock.search.supernet.evaluator import SupernetEvaluator, digits_supernet
from layerclock.search.supernet.training import TrainingOptions, train_supernet
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from layerclock.search.supernet.elastic_encoder import ElasticEncoder

SPACES = (
    vit(resolution=16, patch=4, classes=10, in_channels=1, hidden=32, layers=4, heads=4, ffn=96),
    bert(length=9, classes=3, vocabulary=20, hidden=32, layers=4, heads=4, ffn=96),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scrambled(space: BertSpace | VitSpace) -> ElasticEncoder:
    """A super-network in which every tensor is random and large, so that a slice taken wrongly shows."""
    torch.manual_seed(0)
    supernet = space.super_network().eval()
    with torch.no_grad():
        for weight in supernet.parameters():
            weight.normal_(0, 0.3)
    return supernet


def inputs(space: BertSpace | VitSpace) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (3, *space.inputs[0].shape[1:])
    return torch.randn(shape, generator=generator) if isinstance(space, VitSpace) else torch.randint(0, 20, shape, generator=generator)


def genomes(space: BertSpace | VitSpace) -> np.ndarray:
    drawn = sample(SiteIndex.of(space), 4, np.random.default_rng(3))
    return np.vstack([largest_genome(space), smallest_genome(space), drawn])


@pytest.mark.parametrize("space", SPACES, ids=["vit", "bert"])
@torch.no_grad()
def test_an_extracted_network_computes_what_the_super_network_does(space: BertSpace | VitSpace) -> None:
    supernet, x, index = scrambled(space), inputs(space), SiteIndex.of(space)
    for genome in genomes(space):
        static, before = supernet.extract(genome), supernet(x, genome)
        torch.testing.assert_close(static(x), before, atol=1e-4, rtol=1e-4)
        assert sum(weight.numel() for weight in static.parameters()) == index.params(genome[None])[0]
        for weight in static.parameters():
            weight.zero_()
        assert torch.equal(supernet(x, genome), before)  # what was extracted are copies


@pytest.mark.parametrize("space", SPACES, ids=["vit", "bert"])
@torch.no_grad()
def test_a_slice_is_the_largest_network_with_the_rest_silenced(space: BertSpace | VitSpace) -> None:
    """The same function by other means: what a head or a column that is left out adds is set to zero."""
    supernet, x = scrambled(space), inputs(space)
    for genome in genomes(space):
        reference = supernet.extract(largest_genome(space))
        chosen = space.sizes.chosen(genome)
        del reference.layers[len(chosen) :]
        for layer, (attention, ffn) in zip(reference.layers, chosen, strict=True):
            assert isinstance(layer, EncoderLayer)
            layer.attention.output.weight[:, attention.inner :] = 0
            layer.ffn.narrow.weight[:, ffn.width :] = 0
        torch.testing.assert_close(supernet(x, genome), reference(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("space", SPACES, ids=["vit", "bert"])
@torch.no_grad()
def test_sorting_keeps_the_largest_network_and_puts_the_important_first(space: BertSpace | VitSpace) -> None:
    supernet, x = scrambled(space), inputs(space)
    before, smaller = supernet(x, largest_genome(space)), supernet(x, smallest_genome(space))
    supernet.sort_channels()
    torch.testing.assert_close(supernet(x, largest_genome(space)), before, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(supernet(x, smallest_genome(space)), smaller, atol=1e-3)
    for layer in supernet.full.layers:
        assert isinstance(layer, EncoderLayer)
        heads = layer.attention.output.weight.abs().sum(0).view(space.sizes.heads, -1).sum(1)
        assert (heads.diff() <= 1e-5).all()
        assert (layer.ffn.narrow.weight.abs().sum(0).diff() <= 1e-5).all()


def test_a_saved_super_network_is_the_same_when_loaded(tmp_path: Path) -> None:
    space, other = SPACES[0], digits_vit()
    assert isinstance(space, VitSpace)
    supernet = scrambled(space)
    save_supernet(supernet, tmp_path / "super.safetensors")
    loaded = load_supernet(tmp_path / "super.safetensors", space)
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    with pytest.raises(ArgumentError, match="not of 'vit"):
        load_supernet(tmp_path / "super.safetensors", other)


def test_a_vision_transformer_learns_to_read() -> None:
    space = SPACES[0]
    assert isinstance(space, VitSpace)
    data = load_digits_data(space.resolution, distortion=0)
    supernet = train_supernet(space, data, steps=140, options=TrainingOptions(learning_rate=3e-3))
    largest, smallest = SupernetEvaluator(supernet, data).evaluate(np.stack([largest_genome(space), smallest_genome(space)]))
    print(f"largest {largest:.1f} %, smallest {smallest:.1f} %")
    assert largest > 20  # chance is 10 %, and two or three deviations of 360 images lie below this
    assert smallest > 16


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="reads no digits"):
        digits_supernet(network="resnet")
    with pytest.raises(ArgumentError, match="do not fit"):
        train_supernet(SPACES[1], load_digits_data(16), steps=1)
    with pytest.raises(GenomeError):
        scrambled(SPACES[0]).extract([0, 1])
