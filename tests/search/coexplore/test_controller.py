"""The controller learns what is rewarded, keeps what is given, and does the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from layerclock.search.coexplore.controller import Baseline, Controller

NUMBERS = [3, 4, 2, 5]
WANTED = np.array([2, 0, 1, 4])


def test_it_learns_what_is_rewarded() -> None:
    controller, baseline = Controller(NUMBERS, 0), Baseline()
    before = (controller.sample(400) == WANTED).mean()
    for _ in range(60):
        choices = controller.sample(64)
        rewards = (choices == WANTED).mean(axis=1)
        controller.reinforce(choices, np.ones(choices.shape, dtype=np.bool_), baseline.advantage(rewards))
    after = (controller.sample(400) == WANTED).mean()
    assert before < 0.4
    assert after > 0.8


def test_genes_that_do_not_matter_learn_nothing() -> None:
    controller = Controller(NUMBERS, 0)
    choices = np.tile(WANTED, (64, 1))
    active = np.ones(choices.shape, dtype=np.bool_)
    active[:, 1] = False
    controller.imitate(choices, active, 60)
    found = controller.sample(2000)
    assert (found[:, [0, 2, 3]] == WANTED[[0, 2, 3]]).mean() > 0.9
    assert np.bincount(found[:, 1], minlength=4).min() > 300


def test_a_prefix_is_kept_and_what_follows_depends_on_it() -> None:
    controller = Controller([2, 2], 0)
    pairs = np.array([[0, 1], [1, 0]] * 32)
    controller.imitate(pairs, np.ones(pairs.shape, dtype=np.bool_), 150)
    prefix = np.repeat([[0], [1]], 100, axis=0)
    found = controller.sample(200, prefix)
    np.testing.assert_array_equal(found[:, :1], prefix)
    assert (found.sum(axis=1) == 1).mean() > 0.9


def test_one_seed_gives_one_sequence() -> None:
    first, again, other = (Controller(NUMBERS, seed).sample(50) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_baseline_is_the_average_of_what_came_before() -> None:
    baseline = Baseline()
    assert baseline.advantage(np.array([1.0, 3.0])).tolist() == [-1.0, 1.0]
    assert baseline.advantage(np.array([12.0])).tolist() == [10.0]
    assert baseline.advantage(np.array([3.0])).tolist() == [pytest.approx(0.0)]
