"""Inverted bottlenecks (Sandler et al., CVPR 2018, arXiv:1801.04381) and plain convolutions as layers, and stages of them.

The words in which the spaces of MobileNets describe themselves. Counts of multiply-accumulates follow the convention of
once-for-all's tools: convolutions and linear layers, without biases, normalisation, activations and pooling.
"""

from __future__ import annotations

from dataclasses import dataclass

from layerclock.network import Layer, TensorSpec

__all__ = ["DEPTHS", "EXPANSIONS", "KERNELS", "BlockSpec", "ConvSpec", "StageSpec", "classifier_layer", "round_channels"]

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
DEPTHS = (2, 3, 4)


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of ``divisor``, but never below 90 % of ``channels`` (as in MobileNet's reference code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What the blocks of one stage share, and how many there may be, in ascending order."""

    out_channels: int
    stride: int
    activation: str
    squeeze_excite: bool
    depths: tuple[int, ...] = DEPTHS


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """A convolution with its normalisation and activation; ``pooled`` means that global average pooling comes first."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: str
    normalised: bool = True
    pooled: bool = False

    def layer(self, size: int) -> Layer:
        """The layer on an input of ``size`` x ``size`` pixels."""
        out_size = 1 if self.pooled else -(-size // self.stride)
        weights = self.in_channels * self.out_channels * self.kernel**2
        return Layer(
            op="pool_conv" if self.pooled else "conv",
            inputs=(TensorSpec((1, self.in_channels, size, size)),),
            outputs=(TensorSpec((1, self.out_channels, out_size, out_size)),),
            attributes=(("act", self.activation), ("k", self.kernel), ("s", self.stride)),
            macs=weights * out_size**2,
            params=weights + (2 * self.out_channels if self.normalised else 0),
        )


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """An inverted bottleneck: expand (unless ``mid_channels == in_channels``), depthwise, squeeze-excite, project.

    Its input is added to its output where both have one shape, unless ``shortcut`` is false.
    """

    in_channels: int
    mid_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: str
    squeeze_excite: bool
    shortcut: bool = True

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.shortcut and self._keeps_shape

    @property
    def _keeps_shape(self) -> bool:
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def squeezed_channels(self) -> int:
        """Channels inside squeeze-excite, 0 without it."""
        return round_channels(self.mid_channels // 4) if self.squeeze_excite else 0

    def layer(self, size: int) -> Layer:
        """The layer on an input of ``size`` x ``size`` pixels."""
        out_size = -(-size // self.stride)
        mid, squeezed = self.mid_channels, self.squeezed_channels
        expand = self.in_channels * mid if mid != self.in_channels else 0
        depthwise, project = mid * self.kernel**2, mid * self.out_channels
        excite = 2 * mid * squeezed
        normalisation = 2 * (mid * (2 if expand else 1) + self.out_channels)
        return Layer(
            op="mbconv",
            inputs=(TensorSpec((1, self.in_channels, size, size)),),
            outputs=(TensorSpec((1, self.out_channels, out_size, out_size)),),
            attributes=(
                ("act", self.activation),
                ("k", self.kernel),
                ("mid", mid),
                ("s", self.stride),
                ("se", squeezed),
                # Told only where the shapes leave it open.
                *((("shortcut", False),) if self._keeps_shape and not self.shortcut else ()),
            ),
            macs=expand * size**2 + (depthwise + project) * out_size**2 + excite,
            params=expand + depthwise + project + normalisation + excite + (squeezed + mid if squeezed else 0),
        )


def classifier_layer(in_channels: int, classes: int, size: int = 0) -> Layer:
    """The last linear layer; with ``size``, on feature maps of ``size`` x ``size`` that it averages first."""
    return Layer(
        op="pool_linear" if size else "linear",
        inputs=(TensorSpec((1, in_channels, size, size) if size else (1, in_channels)),),
        outputs=(TensorSpec((1, classes)),),
        attributes=(),
        macs=in_channels * classes,
        params=(in_channels + 1) * classes,
    )
