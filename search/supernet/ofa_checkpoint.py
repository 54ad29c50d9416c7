"""Accuracy of sub-networks with the weights of once-for-all's published super-networks, measured on the user's own images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from layerclock.errors import ArgumentError
from layerclock.plugins import load_space
from layerclock.search.supernet.image_folder import ImageFolder, LabelledFile, central_view, find_images, normalised, random_view
from layerclock.search.supernet.judged_once import JudgedOnce
from layerclock.search.supernet.ofa_weights import OfaSpace, OfaWeights, load_ofa_weights
from layerclock.search.supernet.recalibration import recalibrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

__all__ = ["OfaCheckpointEvaluator", "ofa_checkpoint"]

_SEED = 2
_BATCH = 64
# Networks that are held in memory together, so that the images are decoded once for all of them.
_TOGETHER = 8


class OfaCheckpointEvaluator:
    """Top-1 accuracy in percent of sub-networks of ``weights`` on the images of ``folder``.

    Each network's normalisation is first calibrated on ``calibration_images`` random views of training images, as once-for-all
    does it, the same ones for every network. ``judged_images`` limits the images that are judged to a random choice, the same for
    every network; 0 means all. A network is judged once: ``evaluations`` counts those that were run. Raises
    :class:`ArgumentError` for fewer than two images to calibrate on, or a negative number.
    """

    metric = "top1_percent"

    def __init__(self, weights: OfaWeights, folder: ImageFolder, calibration_images: int = 2000, judged_images: int = 0) -> None:
        if calibration_images < 2 or len(folder.training) < 2 or judged_images < 0:
            raise ArgumentError(
                f"calibration_images={calibration_images} of {len(folder.training)}, judged_images={judged_images}: "
                "no network can be judged",
                "at least 2 images to calibrate on, and at least 0 (which means all) to judge",
            )
        self.space = weights.space
        self.weights = weights
        rng = np.random.default_rng(_SEED)
        side = self.space.resolution
        seen = [random_view(file.path, side, rng) for file in _drawn(folder.training, calibration_images, rng)]
        # Whole numbers take a quarter of the memory; parts of one size, so that none is a single image.
        self._calibration = torch.stack(seen).tensor_split(-(-len(seen) // _BATCH))
        self._judged = _drawn(folder.judged, judged_images, rng) if judged_images else list(folder.judged)
        self._once = JudgedOnce(self.space, lambda new: self._judge([self._calibrated(genome) for genome in new]), _TOGETHER)

    @property
    def evaluations(self) -> int:
        """Number of distinct networks that were really run."""
        return len(self._once)

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Accuracy in percent, float64[N], of the networks int64[N, G].

        Raises :class:`~layerclock.errors.GenomeError` for genomes of another space, :class:`ArgumentError` for an unreadable image.
        """
        return self._once(genomes)

    def _calibrated(self, genome: npt.ArrayLike) -> nn.Module:
        network = self.weights.extract(genome)
        recalibrate(network, (normalised(batch) for batch in self._calibration))
        return network

    def _judge(self, networks: list[nn.Module]) -> list[float]:
        right = [0] * len(networks)
        with torch.inference_mode():
            for images, labels in self._batches():
                for number, network in enumerate(networks):
                    right[number] += int((network(images).argmax(1) == labels).sum())
        return [100.0 * number / len(self._judged) for number in right]

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self._judged), _BATCH):
            files = self._judged[start : start + _BATCH]
            views = torch.stack([central_view(file.path, self.space.resolution) for file in files])
            yield normalised(views), torch.tensor([file.label for file in files])


def ofa_checkpoint(
    path: Path | str,
    images: Path | str,
    space: str = "ofa-mobilenetv3",
    width: float = 0.0,
    resolution: int = 224,
    classes: int = 1000,
    calibration_images: int = 2000,
    judged_images: int = 0,
) -> OfaCheckpointEvaluator:
    """The evaluator of a super-network of once-for-all's in the file ``path``, on an ImageNet-like folder ``images``.

    ``space`` is ``ofa-mobilenetv3``, ``ofa-proxyless`` or ``ofa-resnet50``; ``width`` 0 means the space's usual one. The
    folder is as :func:`~layerclock.search.supernet.image_folder.find_images` says. Raises :class:`ArgumentError` if the file
    is no super-network of the space, or the images do not fit.
    """
    parameters = [f"resolution={resolution}", f"classes={classes}", *([f"width={width}"] if width else [])]
    family = load_space(f"{space}:{','.join(parameters)}")
    if not isinstance(family, OfaSpace):
        raise ArgumentError(f"once-for-all has no super-network of {space!r}", "one of ofa-mobilenetv3, ofa-proxyless, ofa-resnet50")
    weights = load_ofa_weights(path, family)
    return OfaCheckpointEvaluator(weights, find_images(images, classes), calibration_images, judged_images)


def _drawn(files: tuple[LabelledFile, ...], number: int, rng: np.random.Generator) -> list[LabelledFile]:
    return [files[position] for position in rng.permutation(len(files))[:number]]
