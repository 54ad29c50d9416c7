"""Accuracy of the elastic MobileNetV3 space's networks as once-for-all's own published predictor tells it.

After Cai et al., ICLR 2020 (arXiv:1908.09791, section 3.4): a perceptron of three hidden layers, trained by them on 16,000
sub-networks with the accuracy of their inherited weights on images held out of ImageNet's *training* set. Its numbers are
therefore about six points above those on the usual validation set; it is the order that can be relied on. The file is
theirs and does not come with Layerclock. No torch is needed, neither to read it nor to ask it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError
from layerclock.search.accuracy.torch_file import read_tensors
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from layerclock.space import GenomeArray

__all__ = ["OfaPredictor", "ofa_predictor"]

_RESOLUTIONS = tuple(range(112, 225, 16))
# What once-for-all's tools ask for. The file takes smaller ones, but its answers there are those of untrained weights.
_TRAINED = tuple(range(160, 225, 16))
_LAYERS = ("0", "2", "4", "6")
_SHAPES = ((400, 128), (400, 400), (400, 400), (1, 400))
_BATCH = 4096


class OfaPredictor:
    """Top-1 accuracy in percent, of networks of ``ofa-mobilenetv3`` on ImageNet's images at ``resolution`` pixels a side.

    ``weights`` are the file's arrays by name. Raises :class:`ArgumentError` if one is missing or not of its shape, or if
    the predictor was not trained at ``resolution``.
    """

    metric = "top1_percent"

    def __init__(self, weights: dict[str, npt.NDArray[np.float32]], resolution: int = 224) -> None:
        if resolution not in _TRAINED:
            raise ArgumentError(
                f"once-for-all's predictor knows no accuracy at {resolution} pixels", f"one of {', '.join(map(str, _TRAINED))}"
            )
        self.space = ofa_mobilenetv3(resolution=resolution)
        self._index = SiteIndex.of(self.space)
        self._layers = [_layer(weights, name, shape) for name, shape in zip(_LAYERS, _SHAPES, strict=True)]

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Predicted accuracy in percent, float64[N], of the networks int64[N, G].

        Raises :class:`~layerclock.errors.GenomeError` for genomes of another space.
        """
        checked = self._index.check(genomes)
        batches = [self._ask(checked[start : start + _BATCH]) for start in range(0, len(checked), _BATCH)]
        return 100.0 * np.concatenate([np.zeros(0), *batches])

    def features(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """What the predictor sees, float32[N, 128]: one of three kernels and one of three expansions for each of 20 blocks,
        none where the stage is shallower, and the resolution, as ones among zeros.
        """
        checked = self._index.check(genomes)
        active = self._index.active(checked)
        parts = [self._one_of_three(checked, active, name) for name in ("kernel", "expand")]
        side = np.zeros((len(checked), len(_RESOLUTIONS)), dtype=np.float32)
        side[:, _RESOLUTIONS.index(self.space.resolution)] = 1
        return np.concatenate([*parts, side], axis=1)

    def _one_of_three(self, genomes: GenomeArray, active: npt.NDArray[np.bool_], name: str) -> npt.NDArray[np.float32]:
        columns = [number for number, gene in enumerate(self._index.genes) if gene.name.endswith(f".{name}")]
        chosen = genomes[:, columns, None] == np.arange(3)
        ones: npt.NDArray[np.float32] = (chosen & active[:, columns, None]).astype(np.float32)
        return ones.reshape(len(genomes), 3 * len(columns))

    def _ask(self, genomes: GenomeArray) -> npt.NDArray[np.float32]:
        values = self.features(genomes)
        *hidden, (weight, bias) = self._layers
        for inner, offset in hidden:
            values = np.maximum(values @ inner.T + offset, 0)
        answers: npt.NDArray[np.float32] = (values @ weight.T + bias)[:, 0]
        return answers


def _layer(
    weights: dict[str, npt.NDArray[np.float32]], name: str, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    found = []
    for key, expected in ((f"{name}.weight", shape), (f"{name}.bias", shape[:1])):
        if key not in weights or weights[key].shape != expected:
            held = weights[key].shape if key in weights else "not there"
            raise ArgumentError(
                f"not once-for-all's accuracy predictor: {key} is {held}, not {expected}", "give its acc_predictor.pth for MobileNetV3"
            )
        found.append(weights[key].astype(np.float32))
    return found[0], found[1]


def ofa_predictor(path: Path | str, resolution: int = 224) -> OfaPredictor:
    """The predictor in once-for-all's file at ``path``, for images of ``resolution`` pixels a side.

    Raises :class:`ArgumentError` if the file holds no such predictor, or for a resolution that it was not trained at.
    """
    return OfaPredictor(read_tensors(path), resolution)
