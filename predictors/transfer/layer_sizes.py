"""Sizes of whole networks that follow from their layers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import SpaceError

if TYPE_CHECKING:
    from layerclock.network import Layer
    from layerclock.space import SiteIndex

__all__ = ["SIZES", "layer_sizes"]

# The columns. All but the depth are logarithms, log(1 + x).
SIZES = ("macs", "params", "depth", "activations", "largest_activation", "bytes")

_PARAMETER_BYTES = 4


def layer_sizes(index: SiteIndex, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Columns :data:`SIZES`, float64[N, 6], of genomes int64[N, G].

    Activations are elements of the layers' outputs, all together and of the largest layer. Bytes are what the layers read and write:
    inputs, outputs and parameters (of 4 bytes). The depth is the number of layers.
    Raises :class:`~layerclock.errors.GenomeError` for genomes of another space, and :class:`SpaceError` for an element type of
    unknown width.
    """
    of_layer = np.array([_sizes(layer) for layer in index.vocabulary] + [(0,) * 4], dtype=np.float64)
    numbers = index.layers(genomes)
    stands = of_layer[numbers]  # [N, S, 4]
    macs, params, outputs, moved = stands.sum(axis=1).T
    largest = stands[:, :, 2].max(axis=1)
    logarithms = np.log1p(np.stack([macs, params, outputs, largest, moved], axis=1))
    return np.insert(logarithms, SIZES.index("depth"), (numbers >= 0).sum(axis=1), axis=1)


def _sizes(layer: Layer) -> tuple[int, int, int, int]:
    """Multiply-accumulates, parameters, elements of the outputs, bytes moved."""
    try:
        moved = sum(spec.bytes for spec in (*layer.inputs, *layer.outputs)) + _PARAMETER_BYTES * layer.params
    except KeyError as error:
        raise SpaceError(f"layer {layer.key}: the width of the element type {error} is not known", "use a numpy type's name") from error
    return layer.macs, layer.params, sum(spec.elements for spec in layer.outputs), moved
