"""The static networks of one translation transformer, with modules named after the space's sites. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from layerclock.search.networks import translation_modules as modules
from layerclock.search.spaces import translation_layers as layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from layerclock.search.spaces.transformer import TransformerSpace

__all__ = ["DecodingStep", "Folder", "SourcePass", "TransformerNetwork", "Translation", "build_transformer"]

Stored = tuple[torch.Tensor, torch.Tensor]
_Module = TypeVar("_Module", bound=nn.Module)


class Folder(nn.Module):
    """A module on the way to others. They are called through it, so that exporters see the whole path of each."""

    def forward(self, path: str, *inputs: torch.Tensor) -> Any:
        """What the module at ``path``, dotted names from here, makes of ``inputs``."""
        child, _, rest = path.partition(".")
        module = self.get_submodule(child)
        return module(rest, *inputs) if rest else module(*inputs)


class TransformerNetwork(nn.Module):
    """The modules of one genome, as far as the space's part has them; ``get_submodule(site.name)`` is the one at a site.

    Subclasses say what is computed of them.
    """

    def __init__(self, space: TransformerSpace, genome: npt.ArrayLike) -> None:
        super().__init__()
        plan, sizes = space.plan(genome), space.sizes
        self.encoder_depth, self.decoder_depth = sizes.encoder_layers, len(plan.decoder_layers)
        self.attended = [layer.attended for layer in plan.decoder_layers]
        named: dict[str, nn.Module] = {}
        if space.reads_source:
            dim, length = plan.encoder_dim, sizes.source_length
            embedding = layers.Embedding(sizes.vocabulary, dim, length)
            named["encoder.embed"] = modules.Embedding(embedding, max(sizes.encoder_dims), length)
            for number, encoder_layer in enumerate(plan.encoder_layers, start=1):
                attention = layers.SelfAttention(dim, sizes.qkv, encoder_layer.heads, length)
                named[f"encoder.layer{number}.self_attention"] = modules.SelfAttention(attention)
                named[f"encoder.layer{number}.ffn"] = modules.FeedForward(layers.FeedForward(dim, encoder_layer.ffn, length))
            for number, attended in enumerate(self.attended, start=1):
                named[f"decoder.layer{number}.memory"] = modules.Memory(layers.Memory(dim, sizes.qkv, attended, length))
        if space.steps:
            dim, cached = plan.decoder_dim, space.cached
            embedding = layers.Embedding(sizes.vocabulary, dim, 1, cached)
            named["decoder.embed"] = modules.Embedding(embedding, max(sizes.decoder_dims), sizes.target_length)
            for number, layer in enumerate(plan.decoder_layers, start=1):
                own = layers.CachedAttention(dim, sizes.qkv, layer.self_heads, cached)
                cross = layers.CrossAttention(dim, sizes.qkv, layer.cross_heads, layer.attended * sizes.source_length)
                named[f"decoder.layer{number}.self_attention"] = modules.CachedAttention(own)
                named[f"decoder.layer{number}.cross_attention"] = modules.CrossAttention(cross)
                named[f"decoder.layer{number}.ffn"] = modules.FeedForward(layers.FeedForward(dim, layer.ffn, 1))
            named["decoder.project"] = nn.Linear(dim, sizes.vocabulary, bias=False)
        for name, module in named.items():
            _place(self, name, module)

    def _at(self, site: str, *inputs: torch.Tensor) -> Any:
        folder, _, rest = site.partition(".")
        return self.get_submodule(folder)(rest, *inputs)

    def read(self, source: torch.Tensor) -> list[Stored]:
        """What each decoder layer remembers of source ids int64[B, S]: keys and values float32[B, qkv, attended * S]."""
        x = self._at("encoder.embed", source)
        outputs = []
        for number in range(1, self.encoder_depth + 1):
            x = self._at(f"encoder.layer{number}.self_attention", x)
            x = self._at(f"encoder.layer{number}.ffn", x)
            outputs.append(x)
        outputs.reverse()
        return [self._at(f"decoder.layer{number}.memory", *outputs[:last]) for number, last in enumerate(self.attended, start=1)]

    def step(self, token: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, remembered: Sequence[Stored]) -> torch.Tensor:
        """Scores float32[B, 1, V] of the next word, after ``token`` int64[B, 1] and the stored words before it.

        The layers read the same stored words, float32[B, qkv, cached]: their values decide no time.
        """
        x = self._at("decoder.embed", token)
        for number, memory in enumerate(remembered, start=1):
            x = self._at(f"decoder.layer{number}.self_attention", x, keys, values)
            x = self._at(f"decoder.layer{number}.cross_attention", x, *memory)
            x = self._at(f"decoder.layer{number}.ffn", x)
        out: torch.Tensor = self._at("decoder.project", x)
        return out

    def whole(self, target: torch.Tensor, remembered: Sequence[Stored]) -> torch.Tensor:
        """Scores float32[B, N, V] of the word after each of ``target`` int64[B, N], which stand from the first position on."""
        x = _module(self, "decoder.embed", modules.Embedding).whole(target)
        for number, memory in enumerate(remembered, start=1):
            x = _module(self, f"decoder.layer{number}.self_attention", modules.CachedAttention).whole(x)
            x = _module(self, f"decoder.layer{number}.cross_attention", modules.CrossAttention).whole(x, *memory)
            x = self._at(f"decoder.layer{number}.ffn", x)
        out: torch.Tensor = self._at("decoder.project", x)
        return out


class SourcePass(TransformerNetwork):
    """What is done once for a sentence."""

    def forward(self, source: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Ids int64[B, S] to keys and values of each decoder layer in turn, float32[B, qkv, attended * S] each."""
        return tuple(stored for memory in self.read(source) for stored in memory)


class DecodingStep(TransformerNetwork):
    """What is done for each word of the target."""

    def forward(self, token: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *memories: torch.Tensor) -> torch.Tensor:
        """The word before int64[B, 1], stored words float32[B, qkv, cached] twice, and keys and values of one, two and three
        encoder layers, to scores float32[B, 1, V]."""
        pairs = list(zip(memories[::2], memories[1::2], strict=True))
        return self.step(token, keys, values, [pairs[attended - 1] for attended in self.attended])


class Translation(TransformerNetwork):
    """What is done once, and one step."""

    def forward(self, source: torch.Tensor, token: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Ids int64[B, S], the word before int64[B, 1] and stored words float32[B, qkv, cached] twice to float32[B, 1, V]."""
        return self.step(token, keys, values, self.read(source))


_NETWORKS: dict[str, type[TransformerNetwork]] = {"encoder": SourcePass, "decoder": DecodingStep, "both": Translation}


def build_transformer(space: TransformerSpace, genome: npt.ArrayLike) -> TransformerNetwork:
    """The network of one genome int64[G] for the space's part. Raises :class:`~layerclock.errors.GenomeError` as the space does."""
    return _NETWORKS[space.part](space, genome)


def _place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Register ``module`` under a dotted name, in folders."""
    *folders, last = name.split(".")
    for folder in folders:
        if folder not in dict(root.named_children()):
            root.add_module(folder, Folder())
        root = root.get_submodule(folder)
    root.add_module(last, module)


def _module(network: nn.Module, name: str, kind: type[_Module]) -> _Module:
    module = network.get_submodule(name)
    if not isinstance(module, kind):
        raise TypeError(f"{name} is a {type(module).__name__}")
    return module
