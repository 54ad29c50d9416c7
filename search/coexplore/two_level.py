"""The two-level method of co-exploration: a controller that is taught by hardware often, and by accuracy seldom.

Jiang et al., "Hardware/Software Co-Exploration of Neural Architectures" (arXiv:1907.04650, section IV). At the fast level the
controller writes pairs, the cost models judge them, and the hardware's reward U alone teaches the controller; nothing is trained. At
the slow level the accuracy of survivors is evaluated, and ``beta A + (1 - beta) U`` teaches it. Pairs that violate the specification
are punished by as much as they violate it, and never trained.

The paper's U is the utilisation of the pipeline, and throughput a specification. Here U is what the search's cheap objectives are
worth, the mean of their places between the worst and the best seen so far (on a logarithmic scale), or the utilisation where there is
none; and A is the share of the networks evaluated so far that a network is no worse than. The best pairs so far are imitated a little after
every slow step (priority queue training: Abolafia et al. 2018, arXiv:1801.03526), and half of what is trained are mutants of them that
passed the fast level. Two more things cost no training: the networks of the best pairs get other designs, and where accuracy is
asked for by a constraint alone, pairs that a known one beats are passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.search.coexplore.controller import Baseline, Controller
from layerclock.search.coexplore.redesign import redesign
from layerclock.search.objective import hard_violation
from layerclock.search.ranking import best_first
from layerclock.search.told import Told
from layerclock.search.variation import distinct

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["TwoLevel"]

BETA = 0.5
_EPISODES = 64
_FAST_ROUNDS = 2
_MOST_ROUNDS = 4
_FEWEST, _BATCH_SHARE = 4, 0.15
_REDESIGNED = 32
_REMEMBERED = 10
_IMITATION_STEPS = 100
_DESIGN = "design."
_TINY = 1e-300


class TwoLevel:
    """Batches of at most ``population`` pairs that passed the fast level; ``sampled`` counts the pairs that the controller wrote."""

    name = "two-level"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._told = Told(task)
        self._variation = task.variation
        self._rng = np.random.default_rng([task.seed, 3])
        self._controller = Controller(task.variation.number.tolist(), task.seed)
        self._fast, self._slow = Baseline(), Baseline()
        names = [measured.name for measured in task.measures]
        cheap = {measured.name for measured in task.measures if measured.cheap}
        self._specification = [one for one in task.constraints if one.name in cheap]
        self._targets = [one for one in task.constraints if one.name not in cheap and not one.soft]
        columns = [column for column in range(task.objectives) if task.measures[column].cheap]
        self._worth = columns or [names.index(name) for name in ("utilisation",) if name in names]
        self._utilisation = names.index("utilisation") if "utilisation" in names else None
        self._dear_objectives = [column for column in range(task.objectives) if not task.measures[column].cheap]
        self._best = np.full(len(self._worth), np.inf)
        self._worst = np.full(len(self._worth), -np.inf)
        self._networks: dict[bytes, None] = {}  # a set in order
        self._passed: dict[bytes, None] = {}
        self._turned_down = task.start[:0]
        self._own = sum(not gene.name.startswith(_DESIGN) for gene in task.index.genes)
        self.sampled = 0

    @property
    def networks(self) -> GenomeArray:
        """Distinct networks that the controller wrote, int64[N, own genes]: what would have to be trained without the fast level."""
        return np.array([np.frombuffer(key, dtype=np.int64) for key in self._networks], dtype=np.int64).reshape(-1, self._own)

    @property
    def turned_down(self) -> int:
        """How many of ``networks`` never came with a design that passed the fast level."""
        return len(self._networks) - len(self._passed)

    def propose(self) -> GenomeArray:
        """Survivors of the fast level, int64[n, G]."""
        if not self._told.seen and len(self._task.start):
            active = self._task.index.active(self._task.start)
            self._controller.imitate(self._variation.rank(self._task.start), active, _IMITATION_STEPS)
            return self._task.start
        redesigned = self._redesigned(self._task.population // 2)
        number = max(_FEWEST, round(_BATCH_SHARE * self._task.population))
        survivors: dict[bytes, GenomeArray] = {}
        self._turned_down = redesigned[:0]
        for turn in range(_MOST_ROUNDS):
            survivors |= {row.tobytes(): row for row in self._judge(self._controller.sample(_EPISODES))}
            if turn + 1 >= _FAST_ROUNDS and len(survivors) >= number:
                break
        written = list(survivors.values())[-number:]  # the latest
        if self._told.teaches:
            around = self._variation.mutate(np.repeat(self._told.best(_REMEMBERED), _EPISODES // _REMEMBERED, axis=0), self._rng)
            near = self._rng.permutation(self._judge(self._variation.rank(around), teach=False))
            written = [*written[-(number // 2) :], *near[: number - number // 2]]
        proposed = np.concatenate([redesigned, np.array(written, dtype=np.int64).reshape(len(written), redesigned.shape[1])])
        # Where nothing survives, the search is told what was turned down: it trains none of it, and knows when to give up.
        return distinct(proposed if len(proposed) else self._turned_down, set())

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """Accuracy is known: it teaches the controller, together with the hardware's reward."""
        self._told.add(genomes, values, violation)
        known = np.isfinite(values).all(axis=1)
        if not known.any():
            return
        genomes, values = genomes[known], values[known]
        rewards = self._reward(genomes, values)
        advantage = self._slow.advantage(rewards)
        self._controller.reinforce(self._variation.rank(genomes), self._task.index.active(genomes), advantage)
        every = self._told.evaluated
        worth = self._reward(self._told.genomes[every], self._told.values[every])
        best = self._told.genomes[every][np.argsort(-worth, kind="stable")[:_REMEMBERED]]
        self._controller.imitate(self._variation.rank(best), self._task.index.active(best), 1)

    def _judge(self, choices: GenomeArray, teach: bool = True) -> GenomeArray:
        """The fast level: the distinct pairs among ``choices`` that meet the specification, are new and worth training."""
        task = self._task
        genomes = task.index.canonical(self._variation.chosen(choices))
        values = task.cheap_values(genomes)
        violation = hard_violation(self._specification, task.measures, genomes, values * task.signs)
        fine = violation == 0
        if fine.any() and self._worth:
            measured = _logarithm(values[np.ix_(fine, self._worth)])
            self._best, self._worst = np.minimum(self._best, measured.min(axis=0)), np.maximum(self._worst, measured.max(axis=0))
        self.sampled += len(genomes)
        self._networks |= dict.fromkeys(np.ascontiguousarray(row[: self._own]).tobytes() for row in genomes)
        beaten = fine & self._beaten(values)
        if teach:
            rewards = np.where(fine, np.where(beaten, 0.0, self._fast_reward(values)), -np.minimum(violation, 1.0))
            self._controller.reinforce(choices, task.index.active(genomes), self._fast.advantage(rewards))
        kept = fine & ~beaten
        self._turned_down = np.concatenate([self._turned_down, genomes[~fine]])
        self._passed |= dict.fromkeys(np.ascontiguousarray(row[: self._own]).tobytes() for row in genomes[kept])
        return distinct(genomes[kept], self._told.seen)

    def _redesigned(self, number: int) -> GenomeArray:
        """Up to ``number`` pairs of the best known networks with designs that are better for them: these train nothing."""
        if not self._told.teaches or self._own == len(self._task.index.genes):
            return self._task.start[:0]
        known = np.flatnonzero(self._told.evaluated)
        ranked = self._task.ranked(self._told.values[known])
        known = known[best_first(ranked, self._told.violation[known], _REDESIGNED)]
        found, _ = redesign(self._task, self._told.genomes[known], self._told.values[known], self._own, self._told.seen, self._rng)
        return found[:number]

    def _fast_reward(self, values: FloatArray) -> FloatArray:
        """What pairs that meet the specification teach without their accuracy: the utilisation, which is no reason for small networks."""
        if self._utilisation is None:
            return self._hardware(values)
        return -values[:, self._utilisation]

    def _hardware(self, values: FloatArray) -> FloatArray:
        """U of pairs that meet the specification: float64[n], from 0 to 1."""
        if not self._worth or not np.isfinite(self._best).all():
            return np.zeros(len(values))
        extent = np.maximum(self._worst - self._best, 1e-12)
        places = (self._worst - _logarithm(values[:, self._worth])) / extent
        worth: FloatArray = np.clip(places, 0.0, 1.0).mean(axis=1)
        return worth

    def _reward(self, genomes: GenomeArray, values: FloatArray) -> FloatArray:
        """``beta A + (1 - beta) U``; where a target is missed, half of A's share alone, so that no speed makes up for it."""
        task = self._task
        names = [measured.name for measured in task.measures]
        told = self._told.values[self._told.evaluated]
        columns = [*self._dear_objectives, *(names.index(one.name) for one in self._targets)]
        shares = [(told[None, :, column] >= values[:, None, column]).mean(axis=1) for column in columns]
        accuracy = np.mean(shares, axis=0) if shares else np.zeros(len(values))
        missed = hard_violation(self._targets, task.measures, genomes, values * task.signs) > 0
        if not self._dear_objectives:
            accuracy = np.where(missed, accuracy, 1.0)
        met = BETA * accuracy + (1 - BETA) * self._hardware(values)
        rewards: FloatArray = np.where(missed, BETA * accuracy / 2, met)
        return rewards

    def _beaten(self, values: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether a known pair is at least as good in all objectives: only then known, if these are cheap."""
        if self._dear_objectives:
            return np.zeros(len(values), dtype=np.bool_)
        met = self._told.evaluated & (self._told.violation == 0)
        known, ours = self._task.ranked(self._told.values[met]), self._task.ranked(values)
        return np.asarray(np.any(np.all(known[None] <= ours[:, None], axis=2), axis=1), dtype=np.bool_)


def _logarithm(minimised: FloatArray) -> FloatArray:
    """A scale on which ratios are distances; maximised measures come negated."""
    logarithm: FloatArray = np.sign(minimised) * np.log(np.maximum(np.abs(minimised), _TINY))
    return logarithm
