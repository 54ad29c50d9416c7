"""What once-for-all's latency tables for MobileNetV3 call the layers of our space.

After `MBv3LatencyTable` in `ofa/nas/efficiency_predictor/latency_lookup_table.py` of https://github.com/mit-han-lab/once-for-all: shapes
are height x width x channels; a block's key names its middle channels, kernel, stride, and whether it has a shortcut, squeeze-excite and
hard swish. Their pooling before the last convolution has an entry of its own; our layer is both together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from layerclock.errors import TableError
from layerclock.plugins import load_space
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Collection

    from layerclock.interfaces import SearchSpace
    from layerclock.network import Layer

__all__ = ["FAMILY", "entries_of", "ofa_space"]

FAMILY = "ofa-mobilenetv3"
# The widths at which once-for-all published super-networks.
_WIDTHS = (1.0, 1.2)


def entries_of(space: SearchSpace) -> dict[str, tuple[str, ...]]:
    """Keys of once-for-all's entries for each layer of the space, by its key in our tables."""
    layers = _layers(space)
    stem = space.sites[0].layers[0]
    return {key: _NAMES[layer.op](layer, layer != stem) for key, layer in layers.items()}


def _layers(space: SearchSpace) -> dict[str, Layer]:
    """The space's layers by their keys in our tables. Raises :class:`TableError` if the space is not once-for-all's MobileNetV3."""
    if space.name.partition(":")[0] != FAMILY:
        raise TableError(f"once-for-all has no name for the layers of {space.name}", f"only those of {FAMILY} can be written")
    return {layer.key: layer for layer in SiteIndex.of(space).vocabulary}


def _name(kind: str, layer: Layer) -> str:
    return f"{kind}-input:{_shape(layer.inputs[0].shape)}-output:{_shape(layer.outputs[0].shape)}"


def _shape(shape: tuple[int, ...]) -> str:
    _, channels, *sides = shape
    return "x".join(map(str, (*sides, channels)))


# Keys of the entries that make up a layer; ``last`` marks a convolution that is not the first one.
def _convolution(layer: Layer, last: bool) -> tuple[str, ...]:
    return (_name("Conv_1" if last else "Conv", layer),)


def _block(layer: Layer, _: bool) -> tuple[str, ...]:
    has = dict(layer.attributes)
    shortcut = layer.inputs == layer.outputs and bool(has.get("shortcut", True))
    facts = {"expand": has["mid"], "kernel": has["k"], "stride": has["s"], "idskip": int(shortcut), "se": int(bool(has["se"])),
             "hs": int(has["act"] == "hswish")}  # fmt: skip
    return ("-".join([_name("expanded_conv", layer), *(f"{name}:{value}" for name, value in facts.items())]),)


def _pooled_convolution(layer: Layer, _: bool) -> tuple[str, ...]:
    channels = layer.inputs[0].shape[1]
    pooled = f"AvgPool2D-input:{_shape(layer.inputs[0].shape)}-output:1x1x{channels}"
    return pooled, f"Conv_2-input:1x1x{channels}-output:{_shape(layer.outputs[0].shape)}"


def _classifier(layer: Layer, _: bool) -> tuple[str, ...]:
    return (f"Logits-input:1x1x{layer.inputs[0].shape[1]}-output:{layer.outputs[0].shape[1]}",)


_NAMES = {"conv": _convolution, "mbconv": _block, "pool_conv": _pooled_convolution, "linear": _classifier}


def ofa_space(keys: Collection[str], given: str = "") -> SearchSpace:
    """The space whose layers ``keys`` name: ``given``, or the MobileNetV3 space of the first layer's resolution that knows them all.

    Raises :class:`TableError` if there is none, or ``given`` is of another family.
    """
    if given:
        space = load_space(given)
        _layers(space)
        return space
    first = next((found for key in keys if (found := re.fullmatch(r"Conv-input:(\d+)x\1x(\d+)-output:.*", key))), None)
    classes = next((found for key in keys if (found := re.fullmatch(r"Logits-input:1x1x\d+-output:(\d+)", key))), None)
    if first is None or classes is None:
        raise TableError("the table has no entry for a first convolution or a classifier", "name the space with --space")
    for width in _WIDTHS:
        space = load_space(f"{FAMILY}:width={width},resolution={first[1]},in_channels={first[2]},classes={classes[1]}")
        if set(keys) <= {key for names in entries_of(space).values() for key in names}:
            return space
    raise TableError(f"the entries are not those of {FAMILY} at width 1 or 1.2 and {first[1]} pixels", "name the space with --space")
