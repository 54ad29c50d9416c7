"""The weight-sharing super-network of the elastic MobileNetV3 space: one set of weights, every sub-network a slice of it.

After once-for-all (Cai et al., ICLR 2020, arXiv:1908.09791, section 3.3). The weights are those of the largest network.
A narrower block takes the leading channels of every tensor; a smaller kernel is the centre of the next larger one, times a
learned matrix; a shallower stage leaves out its last blocks.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from layerclock.search.networks.mobilenetv3 import ConvUnit, InvertedBottleneck, MobileNetV3, SqueezeExcite
from layerclock.search.spaces.mobilenetv3 import KERNELS, BlockSpec, MobileNetV3Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["ElasticBlock", "ElasticMobileNetV3", "largest_genome", "smallest_genome"]

_DESCENDING = tuple(sorted(KERNELS, reverse=True))


def largest_genome(space: SearchSpace) -> GenomeArray:
    """int64[G] of the network that takes the last choice everywhere, the largest where choices ascend."""
    return np.array([len(gene.choices) - 1 for gene in space.genes], dtype=np.int64)


def smallest_genome(space: SearchSpace) -> GenomeArray:
    """int64[G] of the network that takes the first choice everywhere, the smallest where choices ascend."""
    return np.zeros(len(space.genes), dtype=np.int64)


class ElasticBlock(nn.Module):
    """An inverted bottleneck that also runs as every narrower one and with every smaller kernel."""

    def __init__(self, largest: BlockSpec) -> None:
        super().__init__()
        self.full = InvertedBottleneck(largest)
        # 7 -> 5 is 25 x 25 and 5 -> 3 is 9 x 9, shared by all channels of the block; the identity is a plain centre crop.
        self.transforms = nn.ParameterList([nn.Parameter(torch.eye(size**2)) for size in _DESCENDING[1:]])
        # One static block a specification, which computes with the slices that it is handed; and the shapes of the slices.
        self._skeletons: dict[BlockSpec, tuple[InvertedBottleneck, dict[str, torch.Size]]] = {}

    def kernel(self, size: int) -> torch.Tensor:
        """The depthwise kernel of one size for all mid channels: float32[mid, 1, size, size]."""
        weight = self._depthwise.conv.weight
        for (larger, smaller), transform in zip(pairwise(_DESCENDING), self.transforms, strict=True):
            if larger <= size:
                break
            margin = (larger - smaller) // 2
            crop = weight[:, :, margin : margin + smaller, margin : margin + smaller]
            weight = (crop.flatten(1) @ transform.T).view_as(crop)
        return weight

    def weights(self, spec: BlockSpec) -> dict[str, torch.Tensor]:
        """Parameters and buffers of the static block ``spec``, by name, as differentiable slices of the shared ones."""
        shared = dict(self.full.named_parameters()) | dict(self.full.named_buffers())
        shared["depthwise.conv.weight"] = self.kernel(spec.kernel)
        return {name: _leading(shared[name], shape) for name, shape in self._skeleton(spec)[1].items()}

    def forward(self, x: torch.Tensor, spec: BlockSpec) -> torch.Tensor:
        """Float32[B, in, H, W] to float32[B, out, H / stride, W / stride], as the static block ``spec`` would."""
        skeleton, _ = self._skeleton(spec)
        if skeleton.training != self.training:
            skeleton.train(self.training)
        out: torch.Tensor = functional_call(skeleton, self.weights(spec), (x,))
        return out

    @torch.no_grad()
    def sort_channels(self) -> None:
        """Put the mid channels (and the squeezed ones) in order of falling importance; what is computed stays the same.

        Importance is the L1 norm of the weights that read the channel (once-for-all, section 3.3).
        """
        expand, depthwise, project = self.full.expand, self._depthwise, self.full.project
        order = _importance_order(project.conv.weight)
        for unit in (expand, depthwise):
            if isinstance(unit, ConvUnit):
                _permute(unit.conv.weight, order, 0)
                for tensor in [*unit.norm.parameters(), *unit.norm.buffers()]:
                    if tensor.ndim:
                        _permute(tensor, order, 0)
        _permute(project.conv.weight, order, 1)
        excite = self.full.excite
        if isinstance(excite, SqueezeExcite):
            _permute(excite.reduce.weight, order, 1)
            _permute(excite.expand.weight, order, 0)
            _permute(_bias(excite.expand), order, 0)
            squeezed = _importance_order(excite.expand.weight)
            _permute(excite.reduce.weight, squeezed, 0)
            _permute(_bias(excite.reduce), squeezed, 0)
            _permute(excite.expand.weight, squeezed, 1)

    @property
    def _depthwise(self) -> ConvUnit:
        return self.full.depthwise

    def _skeleton(self, spec: BlockSpec) -> tuple[InvertedBottleneck, dict[str, torch.Size]]:
        if spec not in self._skeletons:
            with torch.random.fork_rng(devices=[]):  # its own weights are never used; the caller's seed must not notice them
                block = InvertedBottleneck(spec)
            tensors = [*block.named_parameters(), *block.named_buffers()]
            self._skeletons[spec] = block, {name: tensor.shape for name, tensor in tensors}
        return self._skeletons[spec]


class ElasticMobileNetV3(nn.Module):
    """All sub-networks of ``space`` in one module; starts with random weights, which follow torch's global seed."""

    def __init__(self, space: MobileNetV3Space) -> None:
        super().__init__()
        self.space = space
        largest = MobileNetV3(space, largest_genome(space))
        self.stem, self.first_block = largest.stem, largest.first_block
        self.stages = nn.ModuleList(nn.ModuleList(ElasticBlock(spec) for spec in stage) for stage in space.blocks(largest_genome(space)))
        self.final_expand, self.feature_mix, self.classifier = largest.final_expand, largest.feature_mix, largest.classifier

    def forward(self, x: torch.Tensor, genome: npt.ArrayLike) -> torch.Tensor:
        """Logits float32[B, classes] of the sub-network ``genome`` (int64[G]) for images float32[B, channels, side, side].

        In training mode normalisation uses the batch's statistics and updates the leading slice of the running ones:
        these are then a mixture over sub-networks, so an extracted network has to be calibrated again.
        Raises :class:`~layerclock.errors.GenomeError` for a genome of another space.
        """
        x = self.first_block(self.stem(x))
        for blocks, specs in zip(self._blocks, self.space.blocks(genome), strict=True):
            for block, spec in zip(blocks, specs, strict=False):
                x = block(x, spec)
        out: torch.Tensor = self.classifier(self.feature_mix(self.final_expand(x)).flatten(1))
        return out

    @torch.no_grad()
    def extract(self, genome: npt.ArrayLike) -> MobileNetV3:
        """The static network of ``genome`` with copies of the inherited weights, in evaluation mode.

        Raises :class:`~layerclock.errors.GenomeError` for a genome of another space.
        """
        inherited = {
            f"{name}.{key}": tensor
            for name in ("stem", "first_block", "final_expand", "feature_mix", "classifier")
            for key, tensor in self.get_submodule(name).state_dict().items()
        }
        for stage, (blocks, specs) in enumerate(zip(self._blocks, self.space.blocks(genome), strict=True), start=1):
            for number, (block, spec) in enumerate(zip(blocks, specs, strict=False), start=1):
                inherited |= {f"stage{stage}.block{number}.{key}": tensor for key, tensor in block.weights(spec).items()}
        with torch.random.fork_rng(devices=[]):
            network = MobileNetV3(self.space, genome)
        network.load_state_dict(_copies(inherited), assign=True)
        return network.eval()

    def sort_channels(self) -> None:
        """Sort the mid channels of every block by importance, so that narrow blocks keep the channels that matter.

        The largest network computes the same as before. An optimiser's state does not follow: start a new one.
        """
        for blocks in self._blocks:
            for block in blocks:
                block.sort_channels()

    @property
    def _blocks(self) -> list[list[ElasticBlock]]:
        stages = [stage for stage in self.stages if isinstance(stage, nn.ModuleList)]
        return [[block for block in stage if isinstance(block, ElasticBlock)] for stage in stages]


def _leading(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return tensor if tensor.shape == shape else tensor[tuple(slice(size) for size in shape)]


def _copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def _importance_order(reading: torch.Tensor) -> torch.Tensor:
    """Input channels of a convolution's weights [out, in, 1, 1], the most important first; ties keep their order."""
    return reading.abs().sum((0, 2, 3)).argsort(descending=True, stable=True)


def _permute(tensor: torch.Tensor, order: torch.Tensor, axis: int) -> None:
    tensor.copy_(tensor.index_select(axis, order))


def _bias(convolution: nn.Conv2d) -> torch.Tensor:
    if convolution.bias is None:
        raise TypeError("squeeze-excite convolutions have biases")
    return convolution.bias
