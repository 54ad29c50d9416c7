"""The static networks of BERT and ViT genomes, with modules named after the spaces' sites. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.spaces.encoder_layer import AttentionSpec, EncoderSizes, FeedForwardSpec
    from layerclock.search.spaces.encoders import BertSpace, VitSpace

__all__ = ["Bert", "Classifier", "EncoderLayer", "FeedForward", "PatchEmbeddings", "SelfAttention", "TokenEmbeddings", "Vit"]

# As in the reference models.
_EPSILON = {True: 1e-6, False: 1e-12}
_DEVIATION = 0.02


class SelfAttention(nn.Module):
    """Multi-head self-attention as :class:`AttentionSpec` describes it, with residual and normalisation."""

    def __init__(self, spec: AttentionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.norm = nn.LayerNorm(spec.hidden, eps=_EPSILON[spec.pre_norm])
        self.query = nn.Linear(spec.hidden, spec.inner)
        self.key = nn.Linear(spec.hidden, spec.inner)
        self.value = nn.Linear(spec.hidden, spec.inner)
        self.output = nn.Linear(spec.inner, spec.hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, tokens, hidden] to the same shape."""
        out: torch.Tensor
        if self.spec.pre_norm:
            return x + self._attend(self.norm(x))
        out = self.norm(x + self._attend(x))
        return out

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        spec = self.spec
        split = (-1, spec.tokens, spec.heads, spec.head_dim)
        query = self.query(x).view(split).permute(0, 2, 1, 3)
        key = self.key(x).view(split).permute(0, 2, 3, 1)
        value = self.value(x).view(split).permute(0, 2, 1, 3)
        # Written out, for torch's fused attention reaches ONNX in as many forms as there are exporters.
        attended = torch.softmax(query @ key * spec.head_dim**-0.5, -1) @ value
        out: torch.Tensor = self.output(attended.permute(0, 2, 1, 3).reshape(-1, spec.tokens, spec.inner))
        return out


class FeedForward(nn.Module):
    """Two linear layers as :class:`FeedForwardSpec` describes them, with residual and normalisation."""

    def __init__(self, spec: FeedForwardSpec) -> None:
        super().__init__()
        self.spec = spec
        self.norm = nn.LayerNorm(spec.hidden, eps=_EPSILON[spec.pre_norm])
        self.widen = nn.Linear(spec.hidden, spec.width)
        self.act = nn.GELU()
        self.narrow = nn.Linear(spec.width, spec.hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, tokens, hidden] to the same shape."""
        out: torch.Tensor
        if self.spec.pre_norm:
            out = x + self.narrow(self.act(self.widen(self.norm(x))))
        else:
            out = self.norm(x + self.narrow(self.act(self.widen(x))))
        return out


class EncoderLayer(nn.Module):
    """Attention, then the feed-forward network."""

    def __init__(self, attention: AttentionSpec, ffn: FeedForwardSpec) -> None:
        super().__init__()
        self.attention = SelfAttention(attention)
        self.ffn = FeedForward(ffn)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, tokens, hidden] to the same shape."""
        out: torch.Tensor = self.ffn(self.attention(x))
        return out


class TokenEmbeddings(nn.Module):
    """BERT's sum of the embeddings of token, position and (always the first) token type, normalised."""

    def __init__(self, space: BertSpace) -> None:
        super().__init__()
        from layerclock.search.spaces.encoders import TOKEN_TYPES

        hidden = space.sizes.hidden
        self.length = space.length
        self.words = nn.Embedding(space.vocabulary, hidden)
        self.positions = nn.Embedding(space.positions, hidden)
        self.types = nn.Embedding(TOKEN_TYPES, hidden)
        self.norm = nn.LayerNorm(hidden, eps=_EPSILON[False])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Int64[B, length] to float32[B, length, hidden]."""
        out: torch.Tensor = self.norm(self.words(tokens) + (self.positions.weight[: self.length] + self.types.weight[0]))
        return out


class PatchEmbeddings(nn.Module):
    """ViT's projection of square patches, with the class token before them and positions added to all."""

    def __init__(self, space: VitSpace) -> None:
        super().__init__()
        hidden = space.sizes.hidden
        self.project = nn.Conv2d(space.in_channels, hidden, space.patch, space.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.positions = nn.Parameter(torch.empty(1, space.sizes.tokens, hidden).normal_(0, _DEVIATION))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float32[B, channels, side, side] to float32[B, patches + 1, hidden]."""
        patches = self.project(images).flatten(2).permute(0, 2, 1)
        # The class token's own position is added to it alone, so that it need not be repeated before the batch is known.
        first = (self.class_token + self.positions[:, :1]).expand(patches.shape[0], -1, -1)
        return torch.cat([first, patches + self.positions[:, 1:]], 1)


class Classifier(nn.Module):
    """Classes of the first token: after a normalisation for ViT, after BERT's pooler (a linear layer and tanh) for BERT."""

    def __init__(self, sizes: EncoderSizes, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.hidden, eps=_EPSILON[True]) if sizes.pre_norm else nn.Identity()
        self.pooler = nn.Identity() if sizes.pre_norm else nn.Sequential(nn.Linear(sizes.hidden, sizes.hidden), nn.Tanh())
        self.linear = nn.Linear(sizes.hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, tokens, hidden] to logits float32[B, classes]."""
        out: torch.Tensor = self.linear(self.pooler(self.norm(x[:, 0])))
        return out


class Bert(nn.Module):
    """One sub-network; ``get_submodule(site.name)`` is the module that stands at a site."""

    def __init__(self, space: BertSpace, genome: npt.ArrayLike) -> None:
        super().__init__()
        self.embeddings = TokenEmbeddings(space)
        self.layers = nn.ModuleList(EncoderLayer(attention, ffn) for attention, ffn in space.sizes.chosen(genome))
        self.classifier = Classifier(space.sizes, space.classes)
        self.apply(_start_small)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits float32[B, classes] of sentences int64[B, length]."""
        x = self.embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        out: torch.Tensor = self.classifier(x)
        return out


class Vit(nn.Module):
    """One sub-network; ``get_submodule(site.name)`` is the module that stands at a site."""

    def __init__(self, space: VitSpace, genome: npt.ArrayLike) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(space)
        self.layers = nn.ModuleList(EncoderLayer(attention, ffn) for attention, ffn in space.sizes.chosen(genome))
        self.classifier = Classifier(space.sizes, space.classes)
        self.apply(_start_even)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits float32[B, classes] of images float32[B, channels, side, side]."""
        x = self.embeddings(images)
        for layer in self.layers:
            x = layer(x)
        out: torch.Tensor = self.classifier(x)
        return out


def _start_small(module: nn.Module) -> None:
    """BERT's start: normal weights of a small deviation, and zero biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0, _DEVIATION)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def _start_even(module: nn.Module) -> None:
    """ViT's start (Glorot & Bengio, AISTATS 2010): what goes through a layer keeps its size, however narrow the layer is."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
