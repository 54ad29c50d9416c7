"""Accuracy of translation transformers on generated sequences, with the weights of one super-network."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch

from layerclock.errors import ArgumentError
from layerclock.search.spaces.transformer import transformer
from layerclock.search.supernet.checkpoint import load_weights
from layerclock.search.supernet.elastic_transformer import ElasticTransformer
from layerclock.search.supernet.judged_once import JudgedOnce
from layerclock.search.supernet.sandwich import TrainingOptions, seeded, train_elastic
from layerclock.search.supernet.to_be_trained import ToBeTrained, trained
from layerclock.search.supernet.transduction import VOCABULARY, endless_batches, held_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from layerclock.search.spaces.transformer import TransformerSpace
from layerclock.search.supernet.sandwich import Progress

__all__ = ["SEQUENCE_TRAINING", "SequencesEvaluator", "sequences_supernet", "train_sequences"]

SEQUENCE_TRAINING = TrainingOptions(batch=64, learning_rate=8e-3, weight_decay=1e-2, warm_share=0.2, clip=1.0)
_JUDGED = 500


class SequencesEvaluator:
    """Share of the target's digits that sub-networks name rightly, told the digits before, on held-out sequences.

    What is to be trained is trained when the first network is judged. A network is judged once: ``evaluations`` counts the distinct
    networks that were really run. ``sequences`` is how many sequences each is judged on.
    """

    metric = "token_accuracy_percent"

    def __init__(self, supernet: ElasticTransformer | ToBeTrained[TransformerSpace, ElasticTransformer], sequences: int = _JUDGED) -> None:
        _check(supernet.space)
        self.space = supernet.space
        self._supernet = supernet
        self._judged = held_out(sequences, supernet.space.sizes.source_length)
        self._once = JudgedOnce(self.space, lambda new: [self._accuracy(genome) for genome in new])

    @property
    def supernet(self) -> ElasticTransformer:
        """The super-network, trained now if it was not before."""
        return trained(self._supernet).eval()

    @property
    def evaluations(self) -> int:
        """Number of distinct networks that were really run."""
        return len(self._once)

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Accuracy in percent, float64[N], of the networks int64[N, G].

        Raises :class:`~layerclock.errors.GenomeError` for genomes of another space.
        """
        return self._once(genomes)

    def _accuracy(self, genome: npt.ArrayLike) -> float:
        with torch.inference_mode():
            answers = self.supernet((self._judged.source, self._judged.previous), genome).argmax(1)
        return 100.0 * float((answers == self._judged.target).double().mean())


def train_sequences(
    space: TransformerSpace,
    *,
    steps: int = 0,
    budget_s: float = 0.0,
    seed: int = 0,
    options: TrainingOptions = SEQUENCE_TRAINING,
    progress: Progress | None = None,
) -> ElasticTransformer:
    """Train a super-network of ``space`` on the task of :mod:`layerclock.search.supernet.transduction`.

    It runs on one thread. With ``steps`` the result depends on the seed alone (on one machine); ``budget_s`` is by the wall
    clock. ``progress(done, text)`` is called after each step with the share that is done.
    Raises :class:`ArgumentError` unless exactly one of ``steps`` and ``budget_s`` is positive and the task fits the space.
    """
    _check(space)
    with seeded(seed) as generator:
        supernet = ElasticTransformer(space)
    with _one_thread():
        train_elastic(
            supernet,
            space,
            endless_batches(options.batch, space.sizes.source_length, generator),
            steps=steps,
            budget_s=budget_s,
            seed=seed,
            options=options,
            progress=progress,
            after_warming=supernet.sort_channels,
        )
    return supernet.eval()


def sequences_supernet(checkpoint: str = "", steps: int = 0, seconds: float = 90.0, seed: int = 0) -> SequencesEvaluator:
    """The evaluator of ``transformer:preset=tiny``: from a ``checkpoint``, else trained for ``steps`` or ``seconds`` when first asked.

    Raises :class:`ArgumentError` for an unreadable checkpoint or one of another space.
    """
    space = transformer(preset="tiny")
    if checkpoint:
        with torch.random.fork_rng(devices=[]):  # the random weights are overwritten; the caller's seed must not notice them
            supernet = ElasticTransformer(space)
        load_weights(checkpoint, supernet)
        return SequencesEvaluator(supernet)
    return SequencesEvaluator(ToBeTrained(space, partial(train_sequences, space, seed=seed), steps, seconds))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products as small as these gain nothing from a second thread, and wait for it where another program has its core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(space: TransformerSpace) -> None:
    sizes = space.sizes
    if sizes.source_length != sizes.target_length or sizes.vocabulary < VOCABULARY:
        raise ArgumentError(
            f"{space.name!r} cannot rewrite digits: {sizes.source_length} tokens to {sizes.target_length}, {sizes.vocabulary} words",
            f"the task needs targets as long as sources and at least {VOCABULARY} words",
        )
