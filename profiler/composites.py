"""Random composite networks: a search space whose only use is to show the kernels of a runtime in many forms.

A composite is a stem or a feature map of random size, a few blocks and perhaps a classifier. Its two genes are the *theme*,
the kind of block that most of its blocks are, and the *seed*, from which everything else is drawn. The networks are made as
ONNX directly, with random weights that keep activations in scale; no torch is needed. Some are heavy: with large convolutions, and a
head where these have too few weights to fill the machine's last cache, so that all kernels run with their own gone from there.
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
_VERSION = 4
_SEEDS = 512
_LAYER = "network"
THEMES = (*BLOCKS, "mixed")

_FEWEST_BLOCKS, _MOST_BLOCKS = 4, 12
_OF_THE_THEME = 0.6
# Published networks have numbers of channels of one kind throughout: multiples of 64, say, or of 8.
_UNITS, _OF_UNITS = (2, 8, 16, 32, 64), (0.1, 0.3, 0.2, 0.15, 0.25)
# A network ends before it grows beyond these; with small ones among them, so that small kernels are met often.
_MOST_PARAMS = 5_000_000
_MACS = (10_000_000, 400_000_000)
# Large networks are of large convolutions, mostly.
_HEAVY, _HEAVY_OF_CONVOLUTIONS = 0.15, 0.4
_CONVOLUTIONS = frozenset({"dense", "pointwise", "grouped", "mixed"})
_HEAVY_PARAMS = (2_000_000, 20_000_000)
_HEAVY_MACS = (200_000_000, 3_000_000_000)
# They are wider where maps are smaller: from so large a side on, at least so wide, and as wide as that in the end.
_LARGEST_SIDE, _WIDTH_THERE, _WIDEST = 28, 64, 256
_IMAGES = (96, 128, 160, 192, 224, 256)
_SIDES = (7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 56, 64)


def composite(theme: str, seed: int) -> onnx.ModelProto:
    """The composite network of a theme (one of :data:`THEMES`) and a seed."""
    generator = np.random.default_rng([_VERSION, THEMES.index(theme), seed])
    heavy = bool(generator.random() < (_HEAVY_OF_CONVOLUTIONS if theme in _CONVOLUTIONS else _HEAVY))
    most_macs = _between(generator, _HEAVY_MACS if heavy else _MACS)
    most_params = _between(generator, _HEAVY_PARAMS) if heavy else _MOST_PARAMS
    draft = Draft(generator, _LAYER, int(generator.choice(_UNITS, p=_OF_UNITS)))
    if draft.chance(0.35):
        side = draft.pick(*_IMAGES)
        given = Tensor("image", (1, 3, side, side))
        x = stem(draft, given)
    else:
        side = draft.pick(*(one for one in _SIDES if not heavy or one <= _LARGEST_SIDE))
        given = x = Tensor("features", (1, draft.width(high=max(32, min(512, 200_000 // side**2))), side, side))
    kinds = list(BLOCKS)
    for number in range(draft.pick(*range(_FEWEST_BLOCKS, _MOST_BLOCKS + 1)) * (1 + heavy)):
        kind = theme if theme != "mixed" and (number == 1 or draft.chance(_OF_THE_THEME)) else str(generator.choice(kinds))
        here = max(x.shape[2:])
        draft.narrowest = min(_WIDEST, _LARGEST_SIDE * _WIDTH_THERE // here) if heavy and here <= _LARGEST_SIDE else 1
        x = BLOCKS[kind](draft, x)
        if number >= 1 and (draft.macs > most_macs or draft.params > most_params):
            break
    if draft.chance(0.5):
        x = classifier(draft, x)
    if heavy and 2 * draft.params < most_params:
        x = heavy_head(draft, x, most_params - draft.params)
    return draft.model(given, x)


def _between(generator: np.random.Generator, bounds: tuple[int, int]) -> int:
    """A whole number between two, even on a logarithmic scale."""
    return round(float(np.exp(generator.uniform(*np.log(bounds)))))


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
