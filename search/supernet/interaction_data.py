"""The data: who took what, drawn from a latent-factor model that is stated here in full, and split once and for all.

The model, for user u and item i, all draws independent and from one seed:

- linear taste ``l = <z_u, v_i>`` with ``z_u, v_i ~ N(0, 1)`` in 16 dimensions;
- non-linear taste ``n = <r, tanh(A p_u + B q_i)>`` with ``p_u, q_i ~ N(0, 1)`` in 4 dimensions, ``A, B ~ N(0, 1)`` of shape
  12 x 4 and ``r ~ N(0, 1)``;
- popularity ``b_i ~ N(0, 0.7^2)``;
- log-weight ``w_ui = 2 l / sd(l) + 2 n / sd(n) + b_i``, where ``sd`` is over all pairs;
- user u takes 40 to 80 items (uniform), without replacement, each time with a probability proportional to ``exp(w_ui)``:
  the largest values of ``w_ui`` plus standard Gumbel noise.

Four items of each user, drawn at random, are held out: two for validation, two for the test. Each stands among 99 items that
the user never took, drawn uniformly (He et al., WWW 2017, section 4.1, hold out one item a user). The inner product suits
one half of the taste and the perceptron the other, and a product of fewer than 16 dimensions cannot hold the first half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["CANDIDATES", "InteractionData", "Ranking", "draw_interactions"]

CANDIDATES = 100

_LINEAR, _NONLINEAR, _HIDDEN = 16, 4, 12
_LINEAR_TASTE, _NONLINEAR_TASTE, _POPULARITY = 2.0, 2.0, 0.7
_FEWEST, _MOST, _HELD_OUT = 40, 80, 4


@dataclass(frozen=True, slots=True)
class Ranking:
    """``users`` int64[N, 1]; ``items`` int64[N, 100]: the first of each row was taken, the others were not."""

    users: torch.Tensor
    items: torch.Tensor

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, slots=True)
class InteractionData:
    """``taken`` int64[N, 2] are the pairs of user and item to learn from, and ``known`` bool[users, items] says the same.

    ``validation`` is for the search, ``test`` only for the final report.
    """

    taken: torch.Tensor
    known: torch.Tensor
    validation: Ranking
    test: Ranking


def draw_interactions(users: int, items: int, seed: int = 0) -> InteractionData:
    """Interactions of ``users`` with ``items`` by the model above; the same for the same arguments.

    Raises :class:`ArgumentError` unless there are at least 2 users and 180 items.
    """
    if users < 2 or items < _MOST + CANDIDATES:
        raise ArgumentError(
            f"users={users}, items={items}: too few to rank {CANDIDATES} candidates", f"at least 2 users and {_MOST + CANDIDATES} items"
        )
    rng = np.random.default_rng(seed)
    weights = _log_weights(users, items, rng)
    ranked = np.argsort(-(weights + rng.gumbel(size=weights.shape)), axis=1)
    known = np.zeros((users, items), dtype=np.bool_)
    taken, held_out = [], []
    for user, number in enumerate(rng.integers(_FEWEST, _MOST + 1, users)):
        own, others = rng.permutation(ranked[user, :number]), ranked[user, number:]
        known[user, own[_HELD_OUT:]] = True
        taken += [(user, item) for item in own[_HELD_OUT:]]
        held_out += [(user, item, *rng.choice(others, CANDIDATES - 1, replace=False)) for item in own[:_HELD_OUT]]
    rankings = torch.as_tensor(np.array(held_out), dtype=torch.int64).view(users, _HELD_OUT, 1 + CANDIDATES)
    validation, test = (part.reshape(-1, 1 + CANDIDATES) for part in rankings.chunk(2, dim=1))
    return InteractionData(
        torch.as_tensor(np.array(taken), dtype=torch.int64),
        torch.from_numpy(known),
        Ranking(validation[:, :1], validation[:, 1:]),
        Ranking(test[:, :1], test[:, 1:]),
    )


def _log_weights(users: int, items: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """How much each user likes each item, ``w_ui`` of the model: float64[users, items]."""
    linear = rng.standard_normal((users, _LINEAR)) @ rng.standard_normal((items, _LINEAR)).T
    of_users = rng.standard_normal((users, _NONLINEAR)) @ rng.standard_normal((_HIDDEN, _NONLINEAR)).T
    of_items = rng.standard_normal((items, _NONLINEAR)) @ rng.standard_normal((_HIDDEN, _NONLINEAR)).T
    nonlinear = np.zeros((users, items))
    for unit, weight in enumerate(rng.standard_normal(_HIDDEN)):
        nonlinear += weight * np.tanh(of_users[:, unit, None] + of_items[None, :, unit])
    weights: npt.NDArray[np.float64] = _LINEAR_TASTE * linear / linear.std() + _NONLINEAR_TASTE * nonlinear / nonlinear.std()
    return weights + _POPULARITY * rng.standard_normal(items)
