"""Once-for-all's published super-networks as weights of this project's networks. Needs torch.

A file of theirs is a mapping from parameter names to tensors, those of the largest network, with the channels already in
order of importance. A sub-network takes the leading channels of each tensor, and of a larger depthwise kernel the
transformed centre (see :mod:`layerclock.search.supernet.slices`).
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from layerclock.errors import ArgumentError
from layerclock.search.spaces.mobilenetv3 import MobileNetV3Space
from layerclock.search.spaces.proxyless import ProxylessSpace
from layerclock.search.spaces.resnet50 import ResNet50Space
from layerclock.search.supernet.slices import DESCENDING_KERNELS, leading, smaller_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt
    from torch import nn

__all__ = ["OfaSpace", "OfaWeights", "load_ofa_weights"]

OfaSpace = MobileNetV3Space | ProxylessSpace | ResNet50Space

_REMEDY = "give a super-network of once-for-all's model zoo, and the space, width and number of classes that it was trained for"
_COUNTER = "num_batches_tracked"  # which their files may hold or not: nothing depends on it
_MATRICES = [f"{larger}to{smaller}_matrix" for larger, smaller in pairwise(DESCENDING_KERNELS)]


@dataclass(frozen=True, slots=True)
class _Unit:
    """Where a part of our network stands in theirs. The layers of an ``elastic`` part are wrapped once more."""

    path: str
    elastic: bool = True

    def key(self, leaf: str) -> str:
        """Their name for ``leaf`` of this part: of a convolution, of its normalisation, or anything else as it is."""
        if leaf == "conv.weight":
            return f"{self.path}.conv.conv.weight" if self.elastic else f"{self.path}.conv.weight"
        if leaf.startswith("norm."):
            return f"{self.path}.{'bn.bn' if self.elastic else 'bn'}.{leaf.removeprefix('norm.')}"
        return f"{self.path}.{leaf}"


class OfaWeights:
    """The weights of a super-network of ``space``, and its sub-networks.

    ``state`` is once-for-all's mapping of names to tensors. Raises :class:`ArgumentError`, which names the first such key,
    if one is missing, is not among those of the space's super-network, or has another shape. ``source`` is what messages call it.
    """

    def __init__(self, space: OfaSpace, state: Mapping[str, torch.Tensor], source: str = "the mapping") -> None:
        self.space = space
        self._units = _units(space)
        self._state = {_usual(key): tensor for key, tensor in state.items() if not key.endswith(_COUNTER)}
        expected = self._expected()
        for key in [*expected, *self._state]:
            problem = _problem(key, expected, self._state)
            if problem:
                raise ArgumentError(f"{source} holds no super-network of {space.name!r} by once-for-all: {key} {problem}", _REMEDY)

    def extract(self, genome: npt.ArrayLike) -> nn.Module:
        """The static network of ``genome`` with copies of the inherited weights, in evaluation mode.

        Its normalisation has still to be calibrated. Raises :class:`~layerclock.errors.GenomeError` for a foreign genome.
        """
        with torch.device("meta"):  # shapes alone: all weights are replaced
            network = self.space.build(genome)
        network.load_state_dict({name: self._inherited(name, tensor.shape) for name, tensor in network.state_dict().items()}, assign=True)
        return network.eval()

    def _inherited(self, name: str, shape: torch.Size) -> torch.Tensor:
        if name.endswith(_COUNTER):
            return torch.zeros(shape, dtype=torch.int64)
        unit, leaf = self._place(name)
        tensor = self._state[unit.key(leaf)]
        if self._has_matrices(name):
            transforms = [self._state[f"{unit.path}.conv.{matrix}"] for matrix in _MATRICES]
            tensor = smaller_kernel(tensor[: shape[0]], transforms, shape[-1])
        return leading(tensor, shape).detach().float().clone(memory_format=torch.contiguous_format)

    def _place(self, name: str) -> tuple[_Unit, str]:
        """The part of the network that the tensor ``name`` belongs to, and its name there."""
        path, leaf = name, ""
        while path not in self._units:
            path, _, last = path.rpartition(".")
            leaf = f"{last}.{leaf}" if leaf else last
        return self._units[path], leaf

    def _has_matrices(self, name: str) -> bool:
        unit, _ = self._place(name)
        return unit.elastic and name.endswith(".depthwise.conv.weight")

    def _expected(self) -> dict[str, tuple[int, ...]]:
        """Keys and shapes of the whole super-network, from the largest network of our space."""
        largest = np.array([len(gene.choices) - 1 for gene in self.space.genes], dtype=np.int64)
        with torch.device("meta"):
            tensors = self.space.build(largest).state_dict()
        shapes: dict[str, tuple[int, ...]] = {}
        for name, tensor in tensors.items():
            if name.endswith(_COUNTER):
                continue
            unit, leaf = self._place(name)
            shapes[unit.key(leaf)] = tuple(tensor.shape)
            if self._has_matrices(name):
                for matrix, size in zip(_MATRICES, DESCENDING_KERNELS[1:], strict=True):
                    shapes[f"{unit.path}.conv.{matrix}"] = (size**2, size**2)
        return shapes


def load_ofa_weights(path: Path | str, space: OfaSpace) -> OfaWeights:
    """Read a super-network of once-for-all's, as their model zoo has it or the bare mapping of its ``state_dict``.

    Only tensors are loaded; nothing in the file can run. Raises :class:`ArgumentError` as :class:`OfaWeights` does, and if the
    file cannot be read or holds anything else.
    """
    try:
        content = torch.load(Path(path), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArgumentError(f"cannot read the super-network {path}: {first}", _REMEDY) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ArgumentError(f"{path} holds no mapping of names to tensors", _REMEDY)
    return OfaWeights(space, state, str(path))


def _problem(key: str, expected: Mapping[str, tuple[int, ...]], state: Mapping[str, torch.Tensor]) -> str:
    if key not in state:
        return "is missing"
    if key not in expected:
        return "is not part of it"
    if not isinstance(state[key], torch.Tensor):
        return f"is a {type(state[key]).__name__} and no tensor"
    if tuple(state[key].shape) != expected[key]:
        return f"has shape {tuple(state[key].shape)}, not {expected[key]}"
    return ""


def _usual(key: str) -> str:
    """The name as published: newer versions of their code call the convolutions of a block ``conv``."""
    return re.sub(r"^(blocks\.\d+)\.conv\.", r"\1.mobile_inverted_conv.", key)


def _units(space: OfaSpace) -> dict[str, _Unit]:
    if isinstance(space, ResNet50Space):
        return dict(_resnet_units(space))
    return dict(_mobile_units(space))


def _mobile_units(space: MobileNetV3Space | ProxylessSpace) -> Iterator[tuple[str, _Unit]]:
    yield "stem", _Unit("first_conv", elastic=False)
    for ours, theirs in (("depthwise", "depth_conv"), ("project", "point_linear")):
        yield f"first_block.{ours}", _Unit(f"blocks.0.mobile_inverted_conv.{theirs}", elastic=False)
    for number, block in enumerate(_block_names([max(stage.depths) for stage in space.elastic_stages]), 1):
        path = f"blocks.{number}.mobile_inverted_conv"
        yield f"{block}.expand", _Unit(f"{path}.inverted_bottleneck")
        yield f"{block}.depthwise", _Unit(f"{path}.depth_conv")
        yield f"{block}.excite", _Unit(f"{path}.depth_conv.se.fc")
        yield f"{block}.project", _Unit(f"{path}.point_linear")
    yield "final_expand", _Unit("final_expand_layer", elastic=False)
    yield "feature_mix", _Unit("feature_mix_layer", elastic=False)
    yield "classifier.linear", _Unit("classifier.linear")
    yield "classifier", _Unit("classifier.linear")


def _resnet_units(space: ResNet50Space) -> Iterator[tuple[str, _Unit]]:
    for number, (ours, theirs) in enumerate((("first", ""), ("residual.unit", ".conv"), ("last", ""))):
        yield f"stem.{ours}", _Unit(f"input_stem.{number}{theirs}")
    for number, block in enumerate(_block_names([space.blocks_of(stage) for stage in range(len(space.base_blocks))])):
        for ours, theirs in (("reduce", "conv1"), ("spatial", "conv2"), ("expand", "conv3"), ("project", "downsample")):
            yield f"{block}.{ours}", _Unit(f"blocks.{number}.{theirs}")
    yield "classifier.linear", _Unit("classifier.linear.linear")


def _block_names(depths: list[int]) -> list[str]:
    return [f"stage{stage}.block{block}" for stage, depth in enumerate(depths, 1) for block in range(1, depth + 1)]
