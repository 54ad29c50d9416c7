"""Hit rate of sub-networks from a super-network's shared weights: the search's second objective for recommendation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from layerclock.errors import ArgumentError
from layerclock.search.spaces.ncf import ncf
from layerclock.search.supernet.checkpoint import load_weights
from layerclock.search.supernet.elastic_ncf import ElasticNcf
from layerclock.search.supernet.interaction_data import InteractionData, draw_interactions
from layerclock.search.supernet.interaction_training import train_ncf_supernet
from layerclock.search.supernet.judged_once import JudgedOnce
from layerclock.search.supernet.to_be_trained import ToBeTrained, trained

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from layerclock.search.spaces.ncf import NcfSpace

__all__ = ["InteractionsEvaluator", "interactions_supernet"]

USERS, ITEMS = 500, 300

_SHOWN = 10
_BATCH = 100


class InteractionsEvaluator:
    """Share of the held-out items that sub-networks with inherited weights rank among the first 10 of 100 candidates.

    It is HR@10 of He et al. (WWW 2017, section 4.1), on the ``validation`` (or, for reports, ``test``) items. What is to be trained is
    trained when the first network is judged. A network is judged once: ``evaluations`` counts the distinct networks that were really
    run. Raises :class:`ArgumentError` for another ``split`` or if the data are not of the space's users and items.
    """

    metric = "hit_rate_10_percent"

    def __init__(self, supernet: ElasticNcf | ToBeTrained[NcfSpace, ElasticNcf], data: InteractionData, split: str = "validation") -> None:
        self.space = supernet.space
        self._supernet = supernet
        self.data = data
        parts = {"validation": data.validation, "test": data.test}
        if split not in parts:
            raise ArgumentError(f"split={split!r} cannot judge networks", f"one of {', '.join(parts)}")
        if tuple(data.known.shape) != (self.space.users, self.space.items):
            raise ArgumentError(
                f"interactions of {data.known.shape[0]} users with {data.known.shape[1]} items do not fit the space {self.space.name!r}",
                f"draw them for {self.space.users} users and {self.space.items} items",
            )
        judged = parts[split]
        self._judged = list(zip(torch.split(judged.users, _BATCH), torch.split(judged.items, _BATCH), strict=True))
        self._once = JudgedOnce(self.space, lambda new: [self.hit_rate(self.supernet.extract(genome)) for genome in new])

    @property
    def supernet(self) -> ElasticNcf:
        """The super-network, trained now if it was not before."""
        return trained(self._supernet)

    @property
    def evaluations(self) -> int:
        """Number of distinct networks that were really run."""
        return len(self._once)

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Hit rate in percent, float64[N], of the networks int64[N, G].

        Raises :class:`~layerclock.errors.GenomeError` for genomes of another space.
        """
        return self._once(genomes)

    def hit_rate(self, network: nn.Module) -> float:
        """Hit rate in percent of any network on the same rankings. A candidate of equal score counts as ranked before."""
        with torch.inference_mode():
            scores = torch.cat([network(users, items) for users, items in self._judged])
        before = (scores[:, 1:] >= scores[:, :1]).sum(1)
        return 100.0 * float((before < _SHOWN).double().mean())


def interactions_supernet(checkpoint: str = "", steps: int = 0, seconds: float = 60.0, seed: int = 0) -> InteractionsEvaluator:
    """The evaluator of ``ncf:users=500,items=300``: from a ``checkpoint``, else trained for ``steps`` or ``seconds`` when first asked.

    ``seed`` is that of the training; the interactions are always the same. Raises :class:`ArgumentError` for an unreadable
    checkpoint or one of another space.
    """
    space = ncf(users=USERS, items=ITEMS)
    data = draw_interactions(USERS, ITEMS)
    if checkpoint:
        with torch.random.fork_rng(devices=[]):  # the random weights are overwritten; the caller's seed must not notice them
            supernet = ElasticNcf(space)
        load_weights(checkpoint, supernet)
        return InteractionsEvaluator(supernet.eval(), data)
    return InteractionsEvaluator(ToBeTrained(space, partial(train_ncf_supernet, space, data, seed=seed), steps, seconds), data)
