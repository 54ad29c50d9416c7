"""A controller that writes pairs gene by gene: an LSTM, taught by REINFORCE.

After Zoph and Le, "Neural Architecture Search with Reinforcement Learning" (ICLR 2017, arXiv:1611.01578), as Jiang et al. use it for
networks and hardware together (arXiv:1907.04650): each step chooses one gene, and is told what the step before it chose. The gradient
is that of Williams (Machine Learning 8, 1992) with a moving average of past rewards as baseline, and a bonus for entropy. Needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from layerclock.search.objective import FloatArray
    from layerclock.space import GenomeArray

    _Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

__all__ = ["Baseline", "Controller"]

_HIDDEN = 64
_LEARNING_RATE = 5e-3
_ENTROPY = 0.01
_GRADIENT_NORM = 5.0
_MEMORY = 0.9


class Baseline:
    """A moving average of rewards: what is subtracted from them, so that only better than usual is encouraged."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def advantage(self, rewards: FloatArray) -> FloatArray:
        """``rewards`` float64[E] less the average before them, which then takes them in."""
        mean = float(rewards.mean()) if self._mean is None else self._mean
        self._mean = _MEMORY * mean + (1 - _MEMORY) * float(rewards.mean())
        return rewards - mean


class _Network(nn.Module):
    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__()
        self.begin = nn.Parameter(torch.zeros(1, _HIDDEN))
        self.chosen = nn.ModuleList(nn.Embedding(number, _HIDDEN) for number in numbers)
        self.cell = nn.LSTMCell(_HIDDEN, _HIDDEN)
        heads = [nn.Linear(_HIDDEN, number) for number in numbers]
        for head in heads:
            nn.init.zeros_(head.weight)  # uniform choices to begin with
            nn.init.zeros_(head.bias)
        self.heads = nn.ModuleList(heads)


class Controller:
    """Writes G genes, of ``numbers`` choices each. One seed gives one sequence of samples."""

    def __init__(self, numbers: Sequence[int], seed: int) -> None:
        self._numbers = list(numbers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = _Network(self._numbers)
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=_LEARNING_RATE)
        self._random = torch.Generator().manual_seed(seed)

    def sample(self, episodes: int, prefix: GenomeArray | None = None) -> GenomeArray:
        """Choices int64[E, G] of new episodes. With ``prefix`` int64[E, K] the first K genes are given, and the others follow from them."""
        given = np.zeros((episodes, 0), dtype=np.int64) if prefix is None else prefix
        with torch.no_grad():
            chosen, _, _ = self._write(episodes, torch.from_numpy(given))
        found: GenomeArray = chosen.numpy()
        return found

    def reinforce(self, choices: GenomeArray, active: npt.NDArray[np.bool_], advantage: FloatArray) -> None:
        """One step towards the ``choices`` int64[E, G] of a positive ``advantage`` float64[E]; only ``active`` bool[E, G] genes count."""
        weight = torch.from_numpy(advantage).float()

        def loss(logs: torch.Tensor, entropies: torch.Tensor) -> torch.Tensor:
            return -(weight * logs).mean() - _ENTROPY * entropies.mean()

        self._step(choices, active, loss)

    def imitate(self, choices: GenomeArray, active: npt.NDArray[np.bool_], steps: int) -> None:
        """A warm start: so many steps of maximum likelihood towards good pairs of an earlier search, ``choices`` int64[E, G]."""
        for _ in range(steps):
            self._step(choices, active, lambda logs, _: -logs.mean())

    def _step(self, choices: GenomeArray, active: npt.NDArray[np.bool_], loss: _Loss) -> None:
        _, logs, entropies = self._write(len(choices), torch.from_numpy(choices))
        mask = torch.from_numpy(active).float()
        self._optimiser.zero_grad()
        loss((logs * mask).sum(dim=1), (entropies * mask).sum(dim=1)).backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), _GRADIENT_NORM)
        self._optimiser.step()

    def _write(self, episodes: int, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Choices, their log-probabilities and the entropies of each step, [E, G]; the columns of ``given`` are taken as they are."""
        network = self._network
        state = (torch.zeros(episodes, _HIDDEN), torch.zeros(episodes, _HIDDEN))
        seen = network.begin.expand(episodes, -1)
        chosen, logs, entropies = [], [], []
        for gene, (head, embedding) in enumerate(zip(network.heads, network.chosen, strict=True)):
            state = network.cell(seen, state)
            log = torch.log_softmax(head(state[0]), dim=1)
            if gene < given.shape[1]:
                choice = given[:, gene]
            else:
                choice = torch.multinomial(log.exp(), 1, generator=self._random)[:, 0]
            chosen.append(choice)
            logs.append(log.gather(1, choice[:, None])[:, 0])
            entropies.append(-(log.exp() * log).sum(dim=1))
            seen = embedding(choice)
        return torch.stack(chosen, dim=1), torch.stack(logs, dim=1), torch.stack(entropies, dim=1)
