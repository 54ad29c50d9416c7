"""What a translation transformer may choose, and what one has chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["ATTENDED", "PRESETS", "DecoderLayerPlan", "EncoderLayerPlan", "TransformerPlan", "TransformerSizes"]

# HAT's names for what a decoder layer attends to, and the number of the encoder's last layers that each means.
ATTENDED = {-1: 1, 1: 2, 2: 3}


@dataclass(frozen=True, slots=True)
class TransformerSizes:
    """What the networks of a space may choose from, and what they share; choices ascend."""

    encoder_dims: tuple[int, ...]
    decoder_dims: tuple[int, ...]
    ffns: tuple[int, ...]
    heads: tuple[int, ...]
    encoder_layers: int
    decoder_depths: tuple[int, ...]
    qkv: int
    vocabulary: int
    source_length: int
    target_length: int


# HAT's design space for WMT'14 English-German, the larger one that its latency data were drawn from, and one to train here.
_WMT14 = TransformerSizes((512, 640), (512, 640), (1024, 2048, 3072), (4, 8), 6, (1, 2, 3, 4, 5, 6), 512, 32768, 30, 30)
PRESETS = {
    "wmt14ende": _WMT14,
    "wmt14ende-latency": replace(_WMT14, ffns=(512, 1024, 2048, 3072), heads=(2, 4, 8)),
    "tiny": TransformerSizes((24, 48), (24, 48), (16, 48, 96), (2, 4), 3, (1, 2, 3), 32, 11, 12, 12),
}


@dataclass(frozen=True, slots=True)
class EncoderLayerPlan:
    """What one encoder layer has chosen."""

    ffn: int
    heads: int


@dataclass(frozen=True, slots=True)
class DecoderLayerPlan:
    """What one decoder layer has chosen; ``attended`` counts the encoder's last layers that it attends to."""

    ffn: int
    self_heads: int
    cross_heads: int
    attended: int


@dataclass(frozen=True, slots=True)
class TransformerPlan:
    """The choices of one genome."""

    encoder_dim: int
    encoder_layers: tuple[EncoderLayerPlan, ...]
    decoder_dim: int
    decoder_layers: tuple[DecoderLayerPlan, ...]
