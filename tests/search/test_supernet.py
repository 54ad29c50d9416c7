"""The super-network: slices, extraction, files, training, and accuracy from shared weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from layerclock.errors import ArgumentError, GenomeError, LayerclockError, OutputError
from layerclock.interfaces import AccuracyEvaluator
from layerclock.search.networks.depthwise import DepthwiseConv2d
from layerclock.search.networks.mobilenetv3 import InvertedBottleneck, MobileNetV3, SqueezeExcite
from layerclock.search.spaces.mobilenetv3 import digits_mobilenetv3
from layerclock.search.supernet.checkpoint import load_supernet, save_supernet
from layerclock.search.supernet.digits import load_digits_data
from layerclock.search.supernet.elastic import ElasticBlock, ElasticMobileNetV3, largest_genome, smallest_genome
from layerclock.search.supernet.evaluator import SupernetEvaluator, digits_supernet, rank_agreement
from layerclock.search.supernet.image_data import ImageData, distort
from layerclock.search.supernet.recalibration import recalibrate
from layerclock.search.supernet.training import TrainingOptions, train_alone, train_supernet
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPACE = digits_mobilenetv3(width=0.25, resolution=32)
INDEX = SiteIndex.of(SPACE)
QUICK = TrainingOptions(batch=16, random_networks=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_digits_data(SPACE.resolution)


def scrambled(seed: int = 0) -> ElasticMobileNetV3:
    """A super-network in which every tensor is random, so that a slice taken wrongly shows."""
    torch.manual_seed(seed)
    supernet = ElasticMobileNetV3(SPACE).eval()
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if name.endswith(("norm.weight", "running_var")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("norm.bias", "running_mean")):
                tensor.normal_(0, 0.2)
            elif "transforms" in name:
                tensor.add_(torch.randn_like(tensor), alpha=0.05)
    return supernet


def genomes(number: int) -> np.ndarray:
    return np.vstack([largest_genome(SPACE)[None], smallest_genome(SPACE)[None], sample(INDEX, number, np.random.default_rng(3))])


@torch.no_grad()
def test_an_extracted_network_computes_what_the_super_network_does() -> None:
    supernet, images = scrambled(), torch.randn(4, 1, 32, 32)
    for genome in genomes(3):
        static = supernet.extract(genome)
        torch.testing.assert_close(static(images), supernet(images, genome), atol=1e-4, rtol=1e-4)
        assert sum(weight.numel() for weight in static.parameters()) == INDEX.params(genome[None])[0]


@torch.no_grad()
def test_extracted_weights_are_copies() -> None:
    supernet, images, smallest = scrambled(), torch.randn(2, 1, 32, 32), smallest_genome(SPACE)
    before = supernet(images, smallest)
    for weight in supernet.extract(smallest).parameters():
        weight.zero_()
    assert torch.equal(supernet(images, smallest), before)


@torch.no_grad()
def test_a_slice_is_the_largest_network_with_the_rest_silenced() -> None:
    """The same function by other means: in the static largest network, what a sub-network lacks is set to zero or removed."""
    supernet, images = scrambled(1), torch.randn(4, 1, 32, 32)
    for name, tensor in supernet.named_parameters():
        if "transforms" in name:
            tensor.copy_(torch.eye(len(tensor)))
    for genome in genomes(3):
        reference = supernet.extract(largest_genome(SPACE))
        for stage, specs in enumerate(SPACE.blocks(genome), start=1):
            blocks = reference.get_submodule(f"stage{stage}")
            assert isinstance(blocks, nn.Sequential)
            del blocks[len(specs) :]
            for block, spec in zip(blocks, specs, strict=True):
                assert isinstance(block, InvertedBottleneck)
                margin = (7 - spec.kernel) // 2
                centre = torch.zeros(7, 7)
                centre[margin : 7 - margin, margin : 7 - margin] = 1
                block.depthwise.conv.weight.mul_(centre)
                block.project.conv.weight[:, spec.mid_channels :] = 0
                if isinstance(block.excite, SqueezeExcite):
                    block.excite.reduce.weight[:, spec.mid_channels :] = 0
                    block.excite.expand.weight[:, spec.squeezed_channels :] = 0
        torch.testing.assert_close(supernet(images, genome), reference(images), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_smaller_kernels_pass_through_the_learned_matrices() -> None:
    block = next(module for module in scrambled().modules() if isinstance(module, ElasticBlock))
    whole, (to_five, to_three) = block.full.depthwise.conv.weight, block.transforms
    five = (whole[:, :, 1:6, 1:6].flatten(1) @ to_five.T).view(-1, 1, 5, 5)
    three = (five[:, :, 1:4, 1:4].flatten(1) @ to_three.T).view(-1, 1, 3, 3)
    assert torch.equal(block.kernel(7), whole)
    torch.testing.assert_close(block.kernel(5), five)
    torch.testing.assert_close(block.kernel(3), three)


@torch.no_grad()
def test_sorting_channels_keeps_the_largest_network_and_puts_the_important_first() -> None:
    supernet, images, largest = scrambled(), torch.randn(4, 1, 32, 32), largest_genome(SPACE)
    before, smaller = supernet(images, largest), supernet(images, smallest_genome(SPACE))
    supernet.sort_channels()
    torch.testing.assert_close(supernet(images, largest), before, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(supernet(images, smallest_genome(SPACE)), smaller, atol=1e-3)
    for name, weight in supernet.named_parameters():
        if name.startswith("stages") and name.endswith("project.conv.weight"):
            importance = weight.abs().sum((0, 2, 3))
            assert (importance.diff() <= 1e-5).all()


@pytest.mark.parametrize("shape", [(6, 9, 1, 7), (6, 8, 2, 5), (4, 4, 2, 7), (4, 3, 2, 7), (5, 2, 1, 7), (5, 1, 1, 5), (5, 8, 1, 3)])
def test_the_quick_depthwise_gradients_are_the_usual_ones(shape: tuple[int, int, int, int]) -> None:
    channels, side, stride, kernel = shape
    quick = DepthwiseConv2d(channels, kernel, stride).double()
    inputs = torch.randn(3, channels, side, side, dtype=torch.float64, requires_grad=True)
    usual = functional.conv2d(inputs, quick.weight, None, stride, kernel // 2, groups=channels)
    direction = torch.randn_like(usual)
    expected = torch.autograd.grad(usual, (inputs, quick.weight), direction)
    torch.testing.assert_close(quick(inputs), usual)
    torch.testing.assert_close(torch.autograd.grad(quick(inputs), (inputs, quick.weight), direction), expected)


@torch.no_grad()
def test_recalibration_measures_the_means_and_variances() -> None:
    network, images = MobileNetV3(SPACE, smallest_genome(SPACE)), torch.randn(12, 1, 32, 32)
    norm = network.stem.norm
    assert isinstance(norm, nn.BatchNorm2d)
    recalibrate(network, torch.split(images, 4))
    seen = network.stem.conv(images)
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)))
    parts = torch.stack([part.var((0, 2, 3)) for part in torch.split(seen, 4)])
    torch.testing.assert_close(norm.running_var, parts.mean(0))
    assert not network.training
    assert norm.momentum == 0.1


def test_the_digits_are_split_once_without_overlap_and_by_class() -> None:
    data, again = load_digits_data(32), load_digits_data(32)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1097, 350, 350]
    assert data.train.images.shape == (1097, 1, 32, 32)
    assert torch.equal(data.validation.images, again.validation.images)
    for part in (data.train, data.validation, data.test):
        shares = torch.bincount(part.labels, minlength=10) / len(part)
        assert ((shares - 0.1).abs() < 0.01).all()
    plain = load_digits_data(32, distortion=0)
    images = torch.cat([plain.train.images, plain.validation.images, plain.test.images])
    assert len(torch.unique(images, dim=0)) == 1797
    assert not torch.equal(plain.test.images, data.test.images)
    assert torch.equal(plain.test.labels, data.test.labels)


def test_no_distortion_leaves_images_as_they_are() -> None:
    images = torch.rand(5, 1, 32, 32)
    torch.testing.assert_close(distort(images, 0.0, torch.Generator().manual_seed(0)), images, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("resolution", "distortion"), [(4, 0.5), (32, -1.0), (32, float("inf")), (32, float("nan"))])
def test_impossible_digits_are_refused(resolution: int, distortion: float) -> None:
    with pytest.raises(ArgumentError):
        load_digits_data(resolution, distortion)


def test_a_saved_super_network_is_the_same_when_loaded(tmp_path: Path) -> None:
    supernet, path = scrambled(), tmp_path / "super.safetensors"
    save_supernet(supernet, path)
    state = torch.get_rng_state()
    loaded = load_supernet(path, SPACE)
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_files_that_are_no_super_network_of_the_space_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    save_supernet(scrambled(), good)
    with pytest.raises(ArgumentError, match=r"width=0.25.*not of 'digits-mobilenetv3'"):
        load_supernet(good, digits_mobilenetv3())
    cut, text, absent = tmp_path / "cut", tmp_path / "text", tmp_path / "absent"
    cut.write_bytes(good.read_bytes()[:-100])
    text.write_text("not a super-network")
    foreign, short = tmp_path / "foreign", tmp_path / "short"
    save_file({"weight": torch.zeros(3)}, foreign)
    tensors = load_file(good)
    del tensors["classifier.bias"]
    with_metadata = good.read_bytes()
    header = with_metadata[8 : 8 + int.from_bytes(with_metadata[:8], "little")]
    metadata = json.loads(header)["__metadata__"]
    save_file(tensors, short, metadata)
    for path in (cut, text, absent, foreign, short, tmp_path):
        with pytest.raises(ArgumentError) as caught:
            load_supernet(path, SPACE)
        assert caught.value.hint


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        save_supernet(scrambled(), tmp_path / "no" / "such" / "folder.safetensors")


def test_training_follows_its_seed_and_leaves_the_global_one(data: ImageData) -> None:
    done: list[float] = []
    state = torch.get_rng_state()
    first = train_supernet(SPACE, data, steps=3, seed=1, options=QUICK, progress=lambda share, _: done.append(share))
    assert torch.equal(torch.get_rng_state(), state)
    assert done == pytest.approx([1 / 3, 2 / 3, 1])
    again = train_supernet(SPACE, data, steps=3, seed=1, options=QUICK)
    other = train_supernet(SPACE, data, steps=3, seed=2, options=QUICK)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert any(not torch.equal(t, torch.eye(len(t))) for name, t in first.named_parameters() if "transforms" in name)


def test_training_teaches_the_largest_and_the_smallest_network() -> None:
    plain = load_digits_data(SPACE.resolution, distortion=0)
    evaluator = SupernetEvaluator(train_supernet(SPACE, plain, steps=24, options=QUICK), plain)
    largest, smallest = evaluator.evaluate(np.stack([largest_genome(SPACE), smallest_genome(SPACE)]))
    assert largest > 40  # chance is 10 %
    assert smallest > 20


def test_a_network_learns_alone() -> None:
    plain = load_digits_data(SPACE.resolution, distortion=0)
    evaluator = SupernetEvaluator(scrambled(), plain)
    network = train_alone(SPACE, smallest_genome(SPACE), plain, steps=25)
    assert evaluator.accuracy(network) > 40


def test_impossible_trainings_are_refused(data: ImageData) -> None:
    for steps, budget_s in ((0, 0.0), (3, 3.0), (-1, 0.0), (0, -1.0), (3, -1.0)):
        with pytest.raises(ArgumentError):
            train_supernet(SPACE, data, steps=steps, budget_s=budget_s)
    with pytest.raises(ArgumentError):
        train_alone(SPACE, smallest_genome(SPACE), data, steps=0)
    with pytest.raises(GenomeError):
        train_alone(SPACE, [0, 1, 2], data, steps=1)
    with pytest.raises(ArgumentError, match="do not fit"):
        train_supernet(digits_mobilenetv3(width=0.25), data, steps=1)


def test_a_budget_ends_the_training(data: ImageData) -> None:
    said: list[tuple[float, str]] = []
    train_supernet(SPACE, data, budget_s=2.0, options=QUICK, progress=lambda share, text: said.append((share, text)))
    shares = [share for share, _ in said]
    assert shares == sorted(shares)
    assert shares[-1] > 0.5
    assert said[0][1] == "the largest network alone, step 1"
    assert shares[:-1].count(1.0) == 0  # no step begins after the budget is spent


def test_each_distinct_network_is_evaluated_once(data: ImageData) -> None:
    evaluator = SupernetEvaluator(scrambled(), data, calibration_images=32)
    assert isinstance(evaluator, AccuracyEvaluator)
    assert evaluator.metric == "top1_percent"
    assert evaluator.space == SPACE
    twin = smallest_genome(SPACE)
    names = [gene.name for gene in SPACE.genes]
    twin[names.index("stage1.block4.kernel")] = 2  # of a block that depth 2 leaves out
    accuracies = evaluator.evaluate(np.stack([smallest_genome(SPACE), twin, largest_genome(SPACE)]))
    assert accuracies.dtype == np.float64
    assert accuracies[0] == accuracies[1]
    assert ((accuracies >= 0) & (accuracies <= 100)).all()
    assert evaluator.evaluations == 2
    assert np.array_equal(evaluator.evaluate(largest_genome(SPACE)[None]), accuracies[2:])
    assert evaluator.evaluations == 2
    assert evaluator.evaluate(np.zeros((0, len(SPACE.genes)), dtype=np.int64)).shape == (0,)


def test_accuracy_is_the_share_of_right_answers(data: ImageData) -> None:
    class Blind(nn.Module):
        """Takes every image for a seven."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.one_hot(torch.full((len(x),), 7), 10).float()

    for split, part in (("validation", data.validation), ("test", data.test)):
        share = 100 * float((part.labels == 7).double().mean())
        assert SupernetEvaluator(scrambled(), data, split).accuracy(Blind()) == pytest.approx(share)


def test_what_an_evaluator_cannot_judge_is_refused(data: ImageData) -> None:
    with pytest.raises(ArgumentError, match="train"):
        SupernetEvaluator(scrambled(), data, "train")
    with pytest.raises(ArgumentError, match="do not fit"):
        SupernetEvaluator(scrambled(), load_digits_data(48))
    with pytest.raises(GenomeError):
        SupernetEvaluator(scrambled(), data).evaluate([[0, 1]])
    with pytest.raises(LayerclockError):
        digits_supernet(checkpoint="/no/such/file")
    with pytest.raises(ArgumentError):
        digits_supernet(steps=-1)


def test_rank_agreement_compares_inherited_with_own_weights(data: ImageData) -> None:
    evaluator = SupernetEvaluator(scrambled(), data, calibration_images=32)
    chosen = sample(INDEX, 3, np.random.default_rng(0))
    done: list[float] = []
    agreement = rank_agreement(evaluator, chosen, steps=2, progress=lambda share, _: done.append(share))
    assert np.array_equal(agreement.inherited_percent, evaluator.evaluate(chosen))
    assert agreement.alone_percent.shape == (3,)
    assert np.isnan(agreement.tau) or -1 <= agreement.tau <= 1
    assert done == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    with pytest.raises(ArgumentError):
        rank_agreement(evaluator, chosen[:1], steps=2)
