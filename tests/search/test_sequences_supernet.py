"""The super-network of translation transformers: slices, extraction, files, training and accuracy on generated sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from layerclock.errors import ArgumentError, GenomeError, OutputError
from layerclock.interfaces import AccuracyEvaluator
from layerclock.plugins import load_evaluator
from layerclock.search.networks.transformer import Translation
from layerclock.search.spaces.mobilenetv3 import digits_mobilenetv3
from layerclock.search.spaces.transformer import transformer
from layerclock.search.supernet.checkpoint import load_supernet, load_weights, save_supernet
from layerclock.search.supernet.elastic import largest_genome, smallest_genome
from layerclock.search.supernet.elastic_transformer import ElasticTransformer
from layerclock.search.supernet.sandwich import TrainingOptions
from layerclock.search.supernet.sequences import SequencesEvaluator, train_sequences
from layerclock.search.supernet.transduction import BEGIN, held_out, rewrite
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from layerclock.space import GenomeArray

SPACE = transformer(preset="tiny")
INDEX = SiteIndex.of(SPACE)
QUICK = TrainingOptions(batch=32, learning_rate=3e-3, warm_share=0.5, clip=1.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scrambled(seed: int = 0) -> ElasticTransformer:
    """A super-network in which every tensor is random, so that a slice taken wrongly shows."""
    torch.manual_seed(seed)
    supernet = ElasticTransformer(SPACE).eval()
    with torch.no_grad():
        for weights in supernet.parameters():
            weights.add_(torch.randn_like(weights), alpha=0.1)
    return supernet


def genomes(number: int) -> GenomeArray:
    return np.vstack([largest_genome(SPACE)[None], smallest_genome(SPACE)[None], sample(INDEX, number, np.random.default_rng(3))])


def test_the_task_is_what_it_says() -> None:
    source = torch.tensor([[3, 0, 9, 1, 2]])
    # x[4]; x[0]; their sum; x[1]; x[2 mod 5].
    assert rewrite(source).tolist() == [[2, 3, 5, 0, 9]]
    longer = rewrite(torch.tensor([[8, 9, 1, 2, 7, 5]]))
    assert longer.tolist() == [[5, 2, 7, 1, 9, 0]], "x[5]; x[9 mod 6]; sum; x[2]; x[7 mod 6]; sum"
    judged = held_out(50, 12)
    assert torch.equal(held_out(50, 12).source, judged.source)
    assert torch.equal(judged.previous[:, 1:], judged.target[:, :-1])
    assert (judged.previous[:, 0] == BEGIN).all()
    assert set(judged.source.flatten().tolist()) == set(judged.target.flatten().tolist()) == set(range(10))


@torch.no_grad()
def test_an_extracted_network_computes_what_the_super_network_does() -> None:
    supernet, judged = scrambled(), held_out(8, 12)
    for genome in genomes(6):
        network = supernet.extract(genome)
        assert isinstance(network, Translation)
        assert not network.training
        static = network.whole(judged.previous, network.read(judged.source))
        sliced = supernet((judged.source, judged.previous), genome)
        assert torch.allclose(sliced, static.transpose(1, 2), atol=1e-5)
        built = {name: tuple(weights.shape) for name, weights in SPACE.build(genome).state_dict().items()}
        assert {name: tuple(weights.shape) for name, weights in network.state_dict().items()} == built
        assert sum(weights.numel() for weights in network.parameters()) == INDEX.params(genome[None])[0]
    with pytest.raises(GenomeError):
        supernet.extract([0])


@torch.no_grad()
def test_an_extracted_network_owns_its_weights_and_leaves_the_seed_alone() -> None:
    supernet, judged = scrambled(), held_out(4, 12)
    genome = smallest_genome(SPACE)
    before = supernet((judged.source, judged.previous), genome)
    state = torch.random.get_rng_state()
    network = supernet.extract(genome)
    assert torch.equal(torch.random.get_rng_state(), state)
    for weights in network.parameters():
        weights.zero_()
    assert torch.equal(supernet((judged.source, judged.previous), genome), before)


@torch.no_grad()
def test_sorting_keeps_what_the_largest_network_computes() -> None:
    supernet, judged = scrambled(), held_out(4, 12)
    inputs = (judged.source, judged.previous)
    before = [supernet(inputs, genome) for genome in (largest_genome(SPACE), smallest_genome(SPACE))]
    supernet.sort_channels()
    assert torch.allclose(supernet(inputs, largest_genome(SPACE)), before[0], atol=1e-4)
    assert not torch.allclose(supernet(inputs, smallest_genome(SPACE)), before[1], atol=1e-4)
    reading = supernet.full.get_submodule("encoder.layer1.ffn.narrow").get_parameter("weight").abs().sum(0)
    assert (reading.diff() <= 0).all()


def test_gradients_reach_the_slice_and_nothing_else() -> None:
    supernet, judged = scrambled(), held_out(4, 12)
    supernet((judged.source, judged.previous), smallest_genome(SPACE)).sum().backward()
    wide = supernet.full.get_submodule("decoder.layer1.ffn.wide").get_parameter("weight").grad
    assert wide is not None
    assert wide[:16, :24].any()
    assert not wide[16:].any()
    assert not wide[:, 24:].any()
    assert all(weights.grad is None for weights in supernet.full.get_submodule("decoder.layer2").parameters())


def test_a_short_training_learns_and_is_reproducible() -> None:
    texts: list[str] = []
    first = train_sequences(SPACE, steps=40, options=QUICK, progress=lambda _, text: texts.append(text))
    again = train_sequences(SPACE, steps=40, options=QUICK)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), again.parameters(), strict=True))
    assert len(texts) == 40
    assert (texts[0].split(",")[0], texts[-1].split(",")[0]) == ("the largest network alone", "sandwich rule")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = SequencesEvaluator(ElasticTransformer(SPACE), 100)
    trained = SequencesEvaluator(first, 100)
    assert trained.evaluate(genomes(0)).mean() > untrained.evaluate(genomes(0)).mean()
    assert first.training is False
    for steps, budget in ((0, 0.0), (5, 1.0), (-1, 0.0)):
        with pytest.raises(ArgumentError, match="one of them"):
            train_sequences(SPACE, steps=steps, budget_s=budget)


def test_the_evaluator_judges_each_network_once() -> None:
    evaluator = SequencesEvaluator(scrambled(), 20)
    assert isinstance(evaluator, AccuracyEvaluator)
    assert (evaluator.metric, evaluator.space, evaluator.evaluations) == ("token_accuracy_percent", SPACE, 0)
    shallow = smallest_genome(SPACE)
    alias = shallow.copy()
    alias[[gene.name == "decoder.layer3.ffn" for gene in SPACE.genes]] = 2
    answers = evaluator.evaluate([shallow, alias, largest_genome(SPACE)])
    assert answers[0] == answers[1]
    assert evaluator.evaluations == 2
    assert evaluator.evaluate([shallow]) == answers[0]
    assert evaluator.evaluations == 2
    assert ((answers >= 0) & (answers <= 100)).all()


def test_files_hold_the_weights_and_know_their_space(tmp_path: Path) -> None:
    supernet, path = scrambled(), tmp_path / "sequences.safetensors"
    save_supernet(supernet, path)
    loaded = load_evaluator(f"sequences-supernet:checkpoint={path}")
    assert isinstance(loaded, SequencesEvaluator)
    assert all(torch.equal(loaded.supernet.state_dict()[name], weights) for name, weights in supernet.state_dict().items())
    assert np.array_equal(loaded.evaluate(genomes(2)), SequencesEvaluator(supernet).evaluate(genomes(2)))
    with pytest.raises(ArgumentError, match="not of"):
        load_weights(path, ElasticTransformer(transformer(preset="tiny", source_length=6, target_length=6)))
    with pytest.raises(ArgumentError, match="not of"):
        load_supernet(path, digits_mobilenetv3())
    with pytest.raises(ArgumentError, match="cannot read"):
        load_evaluator(f"sequences-supernet:checkpoint={tmp_path / 'absent'}")
    with pytest.raises(OutputError):
        save_supernet(supernet, tmp_path / "absent" / "sequences.safetensors")


def test_spaces_that_cannot_be_trained_on_the_task() -> None:
    with pytest.raises(ArgumentError, match="only the decoder"):
        ElasticTransformer(transformer("decoder", "tiny"))
    for space in (transformer(preset="tiny", target_length=6), transformer(preset="tiny", vocabulary=10)):
        with pytest.raises(ArgumentError, match="cannot rewrite digits"):
            train_sequences(space, steps=1)
