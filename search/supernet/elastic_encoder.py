"""The weight-sharing super-network of the encoder spaces, BERT's and ViT's.

The weights are those of the largest network: fewer heads are the leading ones, a narrower feed-forward network takes the
leading columns, a shallower network the leading layers (Hou et al., DynaBERT, NeurIPS 2020, arXiv:2004.04037, section 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.func import functional_call

from layerclock.search.networks.encoders import Bert, EncoderLayer, FeedForward, SelfAttention, Vit
from layerclock.search.spaces.encoder_layer import AttentionSpec
from layerclock.search.supernet.elastic import largest_genome
from layerclock.search.supernet.elastic_network import ElasticNetwork

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.spaces.encoder_layer import FeedForwardSpec
    from layerclock.search.spaces.encoders import BertSpace, VitSpace

__all__ = ["ElasticEncoder"]


class ElasticEncoder(ElasticNetwork):
    """All sub-networks of a BERT or ViT space; ``full`` is the largest one and holds the weights."""

    def __init__(self, space: BertSpace | VitSpace) -> None:
        super().__init__()
        self.space: BertSpace | VitSpace = space
        self.full: Bert | Vit = space.build(largest_genome(space))
        # One static module a specification, which computes with the slices that it is handed. A list hides them from torch.
        self._skeletons: dict[AttentionSpec | FeedForwardSpec, list[nn.Module]] = {}

    def forward(self, x: torch.Tensor, genome: npt.ArrayLike) -> torch.Tensor:
        """Logits float32[B, classes] of the sub-network ``genome`` (int64[G]) for inputs as the space says.

        Raises :class:`~layerclock.errors.GenomeError` for a genome of another space.
        """
        x = self.full.embeddings(x)
        for layer, (attention, ffn) in zip(self._layers, self.space.sizes.chosen(genome), strict=False):
            x = self._part(layer.attention, attention, x)
            x = self._part(layer.ffn, ffn, x)
        out: torch.Tensor = self.full.classifier(x)
        return out

    @torch.no_grad()
    def extract(self, genome: npt.ArrayLike) -> Bert | Vit:
        """The static network of ``genome`` with copies of the inherited weights, in evaluation mode.

        Raises :class:`~layerclock.errors.GenomeError` for a genome of another space.
        """
        with torch.random.fork_rng(devices=[]):
            network = self.space.build(genome)
        shared = self.full.state_dict()
        network.load_state_dict({name: _leading(shared[name], own.shape) for name, own in network.state_dict().items()})
        return network.eval()

    @torch.no_grad()
    def sort_channels(self) -> None:
        """Put the heads and the feed-forward columns of every layer in order of falling importance.

        Importance is the L1 norm of the weights that read them, as for convolutions in once-for-all. The largest network
        computes the same as before. An optimiser's state does not follow: start a new one.
        """
        size = self.space.sizes.head_dim
        for layer in self._layers:
            attention, ffn = layer.attention, layer.ffn
            by_head = attention.output.weight.abs().sum(0).view(-1, size).sum(1)
            heads = by_head.argsort(descending=True, stable=True)
            rows = (heads[:, None] * size + torch.arange(size)).flatten()
            for linear in (attention.query, attention.key, attention.value):
                _permute_rows(linear, rows)
            attention.output.weight.copy_(attention.output.weight[:, rows])
            columns = ffn.narrow.weight.abs().sum(0).argsort(descending=True, stable=True)
            _permute_rows(ffn.widen, columns)
            ffn.narrow.weight.copy_(ffn.narrow.weight[:, columns])

    @property
    def _layers(self) -> list[EncoderLayer]:
        return [layer for layer in self.full.layers if isinstance(layer, EncoderLayer)]

    def _part(self, whole: nn.Module, spec: AttentionSpec | FeedForwardSpec, x: torch.Tensor) -> torch.Tensor:
        """What the static module of ``spec`` computes with the leading slices of the weights of ``whole``."""
        if spec not in self._skeletons:
            with torch.random.fork_rng(devices=[]):  # its own weights are never used; the caller's seed must not notice them
                self._skeletons[spec] = [_module(spec)]
        (skeleton,) = self._skeletons[spec]
        shared = dict(whole.named_parameters())
        weights = {name: _leading(shared[name], own.shape) for name, own in skeleton.named_parameters()}
        out: torch.Tensor = functional_call(skeleton, weights, (x,))
        return out


def _module(spec: AttentionSpec | FeedForwardSpec) -> nn.Module:
    return SelfAttention(spec) if isinstance(spec, AttentionSpec) else FeedForward(spec)


def _leading(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return tensor[tuple(slice(length) for length in shape)]


def _permute_rows(linear: nn.Linear, order: torch.Tensor) -> None:
    linear.weight.copy_(linear.weight[order])
    linear.bias.copy_(linear.bias[order])
