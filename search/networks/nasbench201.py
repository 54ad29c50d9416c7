"""The static network of one NAS-Bench-201 cell, with modules named after the space's sites. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from layerclock.search.spaces.nasbench201 import EDGES, ReductionSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.spaces.nasbench201 import EdgeSpec, NasBench201Space

__all__ = ["Cell", "Edge", "NasBench201", "Reduction"]


def _activated_conv(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    """Activation, convolution, normalisation: the paper's order."""
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out_channels)
    )


class Edge(nn.Module):
    """One edge of a cell; it adds its result to what its node has got so far."""

    def __init__(self, spec: EdgeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.operation: nn.Module
        if spec.kernel:
            self.operation = _activated_conv(spec.channels, spec.channels, spec.kernel, 1)
        elif spec.operation == "avg_pool_3x3":
            self.operation = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        else:
            self.operation = nn.Identity()

    def forward(self, x: torch.Tensor, sum_so_far: torch.Tensor | None = None) -> torch.Tensor:
        """Float32[B, channels, H, W] to the same shape; ``sum_so_far``, of that shape too, is added."""
        out: torch.Tensor = self.operation(x)
        return out if sum_so_far is None else sum_so_far + out


class Cell(nn.Module):
    """The edges that stand, as sub-modules ``edge01``, ``edge02``, ..."""

    def __init__(self, edges: dict[tuple[int, int], EdgeSpec]) -> None:
        super().__init__()
        for (start, end), spec in edges.items():
            self.add_module(f"edge{start}{end}", Edge(spec))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, channels, H, W] to the same shape; zeros where no edge leads to the last node."""
        nodes: dict[int, torch.Tensor] = {0: x}
        for start, end in EDGES:
            if hasattr(self, f"edge{start}{end}"):
                # A node to which no edge leads is zero.
                value = nodes[start] if start in nodes else torch.zeros_like(x)
                nodes[end] = self.get_submodule(f"edge{start}{end}")(value, nodes.get(end))
        return nodes[3] if 3 in nodes else torch.zeros_like(x)


class Reduction(nn.Module):
    """The residual block between two stages (He et al., 2016), with average pooling in its shortcut."""

    def __init__(self, spec: ReductionSpec) -> None:
        super().__init__()
        self.first = _activated_conv(spec.in_channels, spec.out_channels, 3, 2)
        self.second = _activated_conv(spec.out_channels, spec.out_channels, 3, 1)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(spec.in_channels, spec.out_channels, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, channels, H, W] to float32[B, 2 * channels, H / 2, W / 2]."""
        out: torch.Tensor = self.shortcut(x) + self.second(self.first(x))
        return out


class NasBench201(nn.Module):
    """One network; ``get_submodule(site.name)`` is the module that stands at a site."""

    def __init__(self, space: NasBench201Space, genome: npt.ArrayLike) -> None:
        super().__init__()
        last = space.stage_channels[-1]
        self.stem = nn.Sequential(nn.Conv2d(space.in_channels, space.channels, 3, 1, 1, bias=False), nn.BatchNorm2d(space.channels))
        self.body: list[str] = []
        for stage, channels in enumerate(space.stage_channels):
            if stage:
                self._append(f"reduction{stage}", Reduction(ReductionSpec(channels // 2)))
            self._append(f"stage{stage + 1}", nn.Sequential())
            for cell in range(space.cells):
                self.get_submodule(f"stage{stage + 1}").add_module(f"cell{cell + 1}", Cell(space.edges(genome, channels)))
        self.head = nn.Sequential(nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(last, space.classes)

    def _append(self, name: str, module: nn.Module) -> None:
        self.add_module(name, module)
        self.body.append(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32[B, classes] of images float32[B, channels, side, side]."""
        x = self.stem(x)
        for name in self.body:
            x = self.get_submodule(name)(x)
        out: torch.Tensor = self.classifier(self.head(x).flatten(1))
        return out
