"""The super-network of neural collaborative filtering: its data, shared weights, training and hit rates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from layerclock.errors import ArgumentError, GenomeError
from layerclock.interfaces import AccuracyEvaluator
from layerclock.search.spaces.ncf import NcfSpace, ncf
from layerclock.search.supernet.checkpoint import load_weights, save_supernet
from layerclock.search.supernet.elastic_ncf import ElasticNcf
from layerclock.search.supernet.interaction_data import Ranking, draw_interactions
from layerclock.search.supernet.interaction_training import InteractionTraining, train_ncf_alone, train_ncf_supernet
from layerclock.search.supernet.interactions import InteractionsEvaluator, interactions_supernet
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from pathlib import Path

USERS, ITEMS = 60, 280
SPACE = ncf(users=USERS, items=ITEMS)
INDEX = SiteIndex.of(SPACE)
LARGEST = INDEX.cardinality - 1
SMALLEST = np.zeros_like(LARGEST)
QUICK = InteractionTraining(batch=64)
DATA = draw_interactions(USERS, ITEMS)


def scrambled(seed: int = 0) -> ElasticNcf:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ElasticNcf(SPACE).eval()


def some_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return DATA.test.users[:8], DATA.test.items[:8]


def test_the_interactions_are_split_without_overlap_and_always_the_same() -> None:
    again, other = draw_interactions(USERS, ITEMS), draw_interactions(USERS, ITEMS, seed=1)
    assert torch.equal(DATA.taken, again.taken)
    assert torch.equal(DATA.test.items, again.test.items)
    assert not torch.equal(DATA.test.items, other.test.items)
    users, items = DATA.taken.T
    assert int(DATA.known.sum()) == len(DATA.taken)
    assert DATA.known[users, items].all()
    per_user = torch.bincount(users, minlength=USERS)
    assert (per_user.min() >= 36) & (per_user.max() <= 76)
    for part in (DATA.validation, DATA.test):
        assert part.users.flatten().tolist() == np.repeat(np.arange(USERS), 2).tolist()
        assert part.items.shape == (len(part), 100) == (2 * USERS, 100)
        assert not DATA.known[part.users, part.items].any()
        assert all(len(set(row.tolist())) == 100 for row in part.items)
    # What is held out for one is no candidate of the other: a search never sees the items of the test.
    held_out = [
        {(int(user), int(row[0])) for user, row in zip(part.users, part.items, strict=True)} for part in (DATA.validation, DATA.test)
    ]
    shown = [
        {(int(user), int(item)) for user, row in zip(part.users, part.items, strict=True) for item in row}
        for part in (DATA.validation, DATA.test)
    ]
    assert not held_out[0] & shown[1]
    assert not held_out[1] & shown[0]
    for users_, items_ in ((1, 500), (50, 179)):
        with pytest.raises(ArgumentError, match="too few"):
            draw_interactions(users_, items_)


@torch.no_grad()
def test_a_slice_computes_what_the_extracted_network_does() -> None:
    supernet = scrambled()
    for genome in (LARGEST, SMALLEST, *sample(INDEX, 12, np.random.default_rng(0))):
        network = supernet.extract(genome)
        assert torch.equal(supernet(*some_inputs(), genome), network(*some_inputs()))
        assert sum(weights.numel() for weights in network.parameters()) == INDEX.params(genome[None])[0]
        assert not network.training
        built = SPACE.build(genome)
        built.load_state_dict(network.state_dict())
        torch.testing.assert_close(built(*some_inputs()), network(*some_inputs()))
    shared = {weights.data_ptr() for weights in supernet.parameters()}
    assert not shared & {weights.data_ptr() for weights in supernet.extract(LARGEST).parameters()}
    with pytest.raises(GenomeError):
        supernet.extract([0] * 6)


def test_a_step_moves_only_what_the_sub_network_uses() -> None:
    supernet = scrambled()
    torch.autograd.backward(supernet(*some_inputs(), SMALLEST).sum())
    users = supernet.gmf.users.weight.grad
    assert users is not None
    assert users[:8, :8].abs().sum() > 0
    assert users[:, 8:].abs().sum() == 0
    first = supernet.mlp.get_submodule("layer1.0").get_parameter("weight").grad
    assert first is not None
    # The user's leading eight of 64 columns, and the item's: nothing between them.
    assert first[:16, :8].abs().sum() > 0
    assert first[:16, 64:72].abs().sum() > 0
    assert first[:, 8:64].abs().sum() == first[16:].abs().sum() == first[:, 72:].abs().sum() == 0
    assert supernet.mlp.get_submodule("layer2.0").get_parameter("weight").grad is None


def test_training_follows_the_seed_and_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one, two = (train_ncf_supernet(SPACE, DATA, steps=3, seed=1, options=QUICK) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    other = train_ncf_supernet(SPACE, DATA, steps=3, seed=2, options=QUICK)
    assert torch.equal(one(*some_inputs(), LARGEST), two(*some_inputs(), LARGEST))
    assert not torch.equal(one(*some_inputs(), LARGEST), other(*some_inputs(), LARGEST))
    assert not one.training


def test_a_budget_ends_the_training() -> None:
    assert not train_ncf_supernet(SPACE, DATA, budget_s=0.05, options=QUICK).training


def test_impossible_trainings_are_refused() -> None:
    for steps, budget_s in ((0, 0.0), (1, 1.0), (-1, 0.0)):
        with pytest.raises(ArgumentError, match="trained for one of them"):
            train_ncf_supernet(SPACE, DATA, steps=steps, budget_s=budget_s)
    with pytest.raises(ArgumentError, match="do not fit"):
        train_ncf_supernet(ncf(users=61, items=ITEMS), DATA, steps=1)
    with pytest.raises(ArgumentError, match="no training"):
        train_ncf_alone(SPACE, LARGEST, DATA, steps=0)


def test_networks_learn_what_is_taken() -> None:
    """Chance is 10 %; a few hundred quick steps are far beyond it, for shared weights and for a network alone."""
    options = InteractionTraining(batch=256, learning_rate=2e-2)
    evaluator = InteractionsEvaluator(train_ncf_supernet(SPACE, DATA, steps=150, options=options), DATA)
    assert isinstance(evaluator, AccuracyEvaluator)
    assert evaluator.evaluate([LARGEST, SMALLEST]).min() > 15
    alone = train_ncf_alone(SPACE, SMALLEST, DATA, steps=150, options=options)
    assert evaluator.hit_rate(alone) > 15


class Oracle(torch.nn.Module):
    """Scores by a table: float32[users, items]."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, user: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        return self.table[user, candidates]


def test_the_hit_rate_counts_those_among_the_first_ten() -> None:
    one_each = Ranking(DATA.validation.users[::2], DATA.validation.items[::2])
    evaluator = InteractionsEvaluator(scrambled(), replace(DATA, validation=one_each))
    table = torch.zeros(USERS, ITEMS)
    assert evaluator.hit_rate(Oracle(table)) == 0  # where all are equal, the right one is not shown
    table[one_each.users[:15, 0], one_each.items[:15, 0]] = 1.0
    assert evaluator.hit_rate(Oracle(table)) == 100 * 15 / USERS
    table[one_each.users, one_each.items[:, 1:10]] = 2.0
    assert evaluator.hit_rate(Oracle(table)) == 100 * 15 / USERS  # nine before it: tenth
    table[one_each.users, one_each.items[:, 1:11]] = 2.0
    assert evaluator.hit_rate(Oracle(table)) == 0


def test_a_network_is_judged_once() -> None:
    evaluator = InteractionsEvaluator(scrambled(), DATA, split="test")
    assert evaluator.metric == "hit_rate_10_percent"
    assert evaluator.space == SPACE
    shallow, alias = SMALLEST.copy(), SMALLEST.copy()
    alias[-1] = 3  # the width of a layer that does not stand
    values = evaluator.evaluate([LARGEST, shallow, alias, LARGEST])
    assert values[1] == values[2]
    assert evaluator.evaluations == 2
    assert evaluator.evaluate([LARGEST])[0] == values[0] == evaluator.hit_rate(evaluator.supernet.extract(LARGEST))
    assert evaluator.evaluations == 2
    with pytest.raises(ArgumentError, match="split"):
        InteractionsEvaluator(scrambled(), DATA, split="train")
    with pytest.raises(ArgumentError, match="do not fit"):
        InteractionsEvaluator(scrambled(), draw_interactions(USERS + 1, ITEMS))


def test_a_saved_super_network_is_the_same_when_loaded(tmp_path: Path) -> None:
    supernet, path = scrambled(), tmp_path / "ncf.safetensors"
    save_supernet(supernet, path)
    loaded = ElasticNcf(SPACE)
    load_weights(path, loaded)
    assert torch.equal(loaded(*some_inputs(), LARGEST), supernet(*some_inputs(), LARGEST))
    with pytest.raises(ArgumentError, match="not of 'ncf:users=500,items=300'"):
        interactions_supernet(checkpoint=str(path))


def test_nothing_is_trained_before_a_network_is_to_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = []

    def train(space: NcfSpace, *_: object, **__: object) -> ElasticNcf:
        trainings.append(True)
        return ElasticNcf(space)

    monkeypatch.setattr("layerclock.search.supernet.interactions.train_ncf_supernet", train)
    evaluator = interactions_supernet(seconds=3600.0)
    assert (evaluator.space.name, evaluator.metric, trainings) == ("ncf:users=500,items=300", "hit_rate_10_percent", [])
    for genome in (SMALLEST, LARGEST):
        evaluator.evaluate([genome])
    assert len(trainings) == 1


def test_the_evaluator_of_the_entry_point_trains_and_loads(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no training"):
        interactions_supernet(seconds=0.0)
    evaluator = interactions_supernet(steps=1)
    path = tmp_path / "ncf.safetensors"
    save_supernet(evaluator.supernet, path)
    again = interactions_supernet(checkpoint=str(path))
    assert again.space.name == evaluator.space.name == "ncf:users=500,items=300"
    assert again.evaluate([SMALLEST]).tolist() == evaluator.evaluate([SMALLEST]).tolist()
