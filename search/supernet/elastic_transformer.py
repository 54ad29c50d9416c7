"""The weight-sharing super-network of translation transformers: one set of weights, every sub-network a slice of it.

After HAT (Wang et al., ACL 2020, arXiv:2005.14187, section 2.2): a narrower network takes the leading rows and columns of
every matrix, a shallower one the first layers; the number of heads and of attended encoder layers changes no weight.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from layerclock.errors import ArgumentError
from layerclock.search.networks.transformer import TransformerNetwork, Translation
from layerclock.search.networks.translation_modules import FeedForward
from layerclock.search.supernet.elastic import largest_genome

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.spaces.transformer import TransformerSpace

__all__ = ["ElasticTransformer", "TeacherForced"]

_SKELETONS = 32


class TeacherForced(TransformerNetwork):
    """A translation transformer that is told the words before each word, as in training."""

    def forward(self, source: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        """Ids int64[B, S] and the word before each word of the target int64[B, N] to scores float32[B, N, V]."""
        return self.whole(previous, self.read(source))


class ElasticTransformer(nn.Module):
    """All sub-networks of ``space`` in one module; starts with random weights, which follow torch's global seed.

    Raises :class:`ArgumentError` for a space that holds only one part of its networks.
    """

    def __init__(self, space: TransformerSpace) -> None:
        super().__init__()
        if not (space.reads_source and space.steps):
            raise ArgumentError(f"{space.name!r} holds only the {space.part} of its networks", "train the space with part=both")
        self.space = space
        self.full = TeacherForced(space, largest_genome(space))
        self._skeleton = lru_cache(_SKELETONS)(self._made)

    def forward(self, inputs: tuple[torch.Tensor, torch.Tensor], genome: npt.ArrayLike) -> torch.Tensor:
        """Scores float32[B, V, N] of the sub-network ``genome`` (int64[G]) for source ids int64[B, S] and the word before each
        word of the target int64[B, N].

        Raises :class:`~layerclock.errors.GenomeError` for a genome of another space.
        """
        skeleton, weights = self._sliced(genome)
        out: torch.Tensor = functional_call(skeleton, weights, inputs)
        return out.transpose(1, 2)

    @torch.no_grad()
    def extract(self, genome: npt.ArrayLike) -> Translation:
        """The static network of ``genome`` with copies of the inherited weights, in evaluation mode.

        Raises :class:`~layerclock.errors.GenomeError` for a genome of another space.
        """
        _, weights = self._sliced(genome)
        with torch.random.fork_rng(devices=[]):  # its own weights are overwritten; the caller's seed must not notice them
            network = Translation(self.space, genome)
        own = network.state_dict()
        network.load_state_dict({name: weights[name].detach().clone(memory_format=torch.contiguous_format) for name in own}, assign=True)
        return network.eval()

    @torch.no_grad()
    def sort_channels(self) -> None:
        """Sort the inner channels of every feed-forward part by importance, so that small parts keep those that matter.

        Importance is the L1 norm of the weights that read the channel (once-for-all, section 3.3). The largest network
        computes the same as before. An optimiser's state does not follow: start a new one.
        """
        for part in self.full.modules():
            if isinstance(part, FeedForward):
                order = part.narrow.weight.abs().sum(0).argsort(descending=True, stable=True)
                part.narrow.weight.copy_(part.narrow.weight[:, order])
                part.wide.weight.copy_(part.wide.weight[order])
                part.wide.bias.copy_(part.wide.bias[order])

    def _sliced(self, genome: npt.ArrayLike) -> tuple[TeacherForced, dict[str, torch.Tensor]]:
        """The network's modules, whose own weights are not used, and its weights as differentiable slices of the shared ones."""
        skeleton, shapes = self._skeleton(np.asarray(genome, dtype=np.int64).tobytes())
        shared = dict(self.full.named_parameters()) | dict(self.full.named_buffers())
        return skeleton, {name: shared[name][tuple(slice(size) for size in shape)] for name, shape in shapes.items()}

    def _made(self, genome: bytes) -> tuple[TeacherForced, dict[str, torch.Size]]:
        with torch.random.fork_rng(devices=[]):  # its own weights are never used; the caller's seed must not notice them
            skeleton = TeacherForced(self.space, np.frombuffer(genome, dtype=np.int64))
        tensors = [*skeleton.named_parameters(), *skeleton.named_buffers()]
        return skeleton, {name: tensor.shape for name, tensor in tensors}
