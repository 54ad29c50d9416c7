"""Random composite networks: a search space whose only use is to show the kernels of a runtime in many forms.

A composite is a stem or a feature map of random size, a few blocks and perhaps a classifier. Its two genes are the *theme*,
the kind of block that most of its blocks are, and the *seed*, from which everything else is drawn. The networks are made as
ONNX directly, with random weights that keep activations in scale; no torch is needed. Some end in a head whose weights fill the
machine's last cache, so that all their kernels run as in a large network: with their own weights gone from there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx

from layerclock.atomic import write_atomically
from layerclock.devices.cache import cache_folder
from layerclock.errors import SpaceError
from layerclock.interfaces import ModelFile
from layerclock.network import Layer, TensorSpec
from layerclock.profiler.blocks import BLOCKS, classifier, heavy_head, stem
from layerclock.profiler.drafting import Draft, Tensor
from layerclock.space import Gene, Site

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

__all__ = ["THEMES", "CompositeSpace", "composite"]

# Part of the networks' names: raise it when the same genome gives another network.
_VERSION = 3
_SEEDS = 512
_LAYER = "network"
THEMES = (*BLOCKS, "mixed")

_FEWEST_BLOCKS, _MOST_BLOCKS = 4, 12
_OF_THE_THEME = 0.6
# A network ends before it grows beyond these; with small ones among them, so that small kernels are met often.
_MOST_PARAMS = 5_000_000
_MACS = (10_000_000, 400_000_000)
_HEAVY = 0.15
_HEAVY_PARAMS = (2_000_000, 20_000_000)
_IMAGES = (96, 128, 160, 192, 224, 256)
_SIDES = (7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 56, 64)


def composite(theme: str, seed: int) -> onnx.ModelProto:
    """The composite network of a theme (one of :data:`THEMES`) and a seed."""
    generator = np.random.default_rng([_VERSION, THEMES.index(theme), seed])
    draft = Draft(generator, _LAYER)
    if draft.chance(0.35):
        side = draft.pick(*_IMAGES)
        given = Tensor("image", (1, 3, side, side))
        x = stem(draft, given)
    else:
        side = draft.pick(*_SIDES)
        given = x = Tensor("features", (1, draft.width(high=max(32, min(512, 200_000 // side**2))), side, side))
    most_macs = np.exp(generator.uniform(*np.log(_MACS)))
    kinds = list(BLOCKS)
    for number in range(draft.pick(*range(_FEWEST_BLOCKS, _MOST_BLOCKS + 1))):
        kind = theme if theme != "mixed" and (number == 1 or draft.chance(_OF_THE_THEME)) else str(generator.choice(kinds))
        x = BLOCKS[kind](draft, x)
        if number >= 1 and (draft.macs > most_macs or draft.params > _MOST_PARAMS):
            break
    if draft.chance(0.5):
        x = classifier(draft, x)
    if draft.chance(_HEAVY):
        x = heavy_head(draft, x, round(float(np.exp(generator.uniform(*np.log(_HEAVY_PARAMS))))))
    return draft.model(given, x)


@dataclass(frozen=True)
class CompositeSpace:
    """The space of all composites with seeds below ``seeds``."""

    seeds: int = _SEEDS

    @property
    def name(self) -> str:
        """The registered name."""
        return "composites" if self.seeds == _SEEDS else f"composites:seeds={self.seeds}"

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Theme and seed."""
        return Gene("theme", THEMES), Gene("seed", tuple(range(self.seeds)))

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """One site, at which each whole network stands as one layer: what it is made of, its kernels tell."""
        layers = (
            Layer("Composite", (), (), (("seed", seed), ("theme", theme), ("uncounted", 1), ("unshaped", 1)), macs=0, params=0)
            for theme in THEMES
            for seed in range(self.seeds)
        )
        return (Site(_LAYER, self.genes, tuple(layers)),)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Of no meaning here: each network has an input of its own."""
        return ()

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:  # noqa: ARG002 - the protocol's signature
        """Not possible: composites are made as ONNX. Raises :class:`SpaceError`."""
        raise SpaceError("a composite is no torch module", "use export()")

    def export(self, genome: npt.ArrayLike) -> ModelFile:
        """The ONNX file of one genome, int64[2], in the cache."""
        theme, seed = (int(value) for value in np.asarray(genome))
        digest = hashlib.sha256(f"composite {_VERSION} {onnx.__version__} {THEMES[theme]} {seed}".encode()).hexdigest()[:24]
        path = cache_folder() / "composites" / f"{digest}.onnx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            model = composite(THEMES[theme], seed)
            write_atomically(path, lambda draft: onnx.save(model, str(draft)))
        return ModelFile(path, digest, (_LAYER,))
