"""Accuracy of sub-networks from a super-network's shared weights: the search's second objective."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import kendalltau

from layerclock.errors import ArgumentError
from layerclock.search.spaces.encoders import digits_vit
from layerclock.search.spaces.mobilenetv3 import digits_mobilenetv3
from layerclock.search.supernet.checkpoint import load_supernet
from layerclock.search.supernet.digits import load_digits_data
from layerclock.search.supernet.image_data import channels_last
from layerclock.search.supernet.judged_once import JudgedOnce
from layerclock.search.supernet.recalibration import recalibrate
from layerclock.search.supernet.to_be_trained import ToBeTrained, trained
from layerclock.search.supernet.training import TrainingOptions, train_alone, train_supernet
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from torch import nn

    from layerclock.search.spaces.encoders import VitSpace
    from layerclock.search.spaces.mobilenetv3 import MobileNetV3Space
    from layerclock.search.supernet.elastic_network import ElasticNetwork
    from layerclock.search.supernet.image_data import ImageData
    from layerclock.search.supernet.training import Progress
    from layerclock.space import GenomeArray

__all__ = ["RankAgreement", "SupernetEvaluator", "digits_supernet", "rank_agreement"]

_CALIBRATION_SEED = 2
_BATCH = 64


class SupernetEvaluator:
    """Top-1 accuracy of sub-networks with inherited weights on the ``validation`` (or, for reports, ``test``) images.

    What is to be trained is trained when the first network is judged. A network is judged once: ``evaluations`` counts the distinct
    networks that were really run. Raises :class:`ArgumentError` for another ``split`` or if the images are not of the space's shape.
    """

    metric = "top1_percent"

    def __init__(
        self,
        supernet: ElasticNetwork | ToBeTrained[MobileNetV3Space | VitSpace, ElasticNetwork],
        data: ImageData,
        split: str = "validation",
        calibration_images: int = 128,
    ) -> None:
        self.space = supernet.space
        self._supernet = supernet
        self.data = data
        parts = {"validation": data.validation, "test": data.test}
        if split not in parts:
            raise ArgumentError(f"split={split!r} cannot judge networks", f"one of {', '.join(parts)}")
        judged = parts[split]
        if judged.shape != self.space.inputs[0].shape[1:]:
            raise ArgumentError(
                f"images of shape {judged.shape} do not fit the space {self.space.name!r}",
                f"it takes {self.space.inputs[0].shape[1:]}",
            )
        generator = torch.Generator().manual_seed(_CALIBRATION_SEED)
        seen = data.distorted(slice(0, calibration_images), generator)
        self._calibration = [channels_last(batch) for batch in torch.split(seen, _BATCH)]
        self._judged = judged
        self._once = JudgedOnce(self.space, lambda new: [self.accuracy(self.supernet.extract(genome)) for genome in new])

    @property
    def supernet(self) -> ElasticNetwork:
        """The super-network, trained now if it was not before."""
        return trained(self._supernet)

    @property
    def evaluations(self) -> int:
        """Number of distinct networks that were really run."""
        return len(self._once)

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Accuracy in percent, float64[N], of the networks int64[N, G].

        Raises :class:`~layerclock.errors.GenomeError` for genomes of another space.
        """
        return self._once(genomes)

    def network(self, genome: npt.ArrayLike) -> nn.Module:
        """The network of one genome as it is judged: with its inherited weights, and its normalisation calibrated on training images."""
        network = self.supernet.extract(genome)
        recalibrate(network, self._calibration)
        return network.eval()

    def judged_images(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The images that networks are judged on, float32[N, channels, side, side], and their labels, int64[N]."""
        return self._judged.batch(slice(None)), self._judged.labels

    def calibration_images(self) -> torch.Tensor:
        """Training images, float32[n, channels, side, side]: what quantising a network may look at."""
        return torch.cat(self._calibration).contiguous()

    def accuracy(self, network: nn.Module) -> float:
        """Accuracy in percent of any network on the same images, after calibrating its normalisation on training images."""
        recalibrate(network, self._calibration)
        with torch.inference_mode():
            batches = (self._judged.batch(slice(first, first + _BATCH)) for first in range(0, len(self._judged), _BATCH))
            answers = torch.cat([network(channels_last(batch)).argmax(1) for batch in batches])
        return 100.0 * float((answers == self._judged.labels).double().mean())


@dataclass(frozen=True, slots=True)
class RankAgreement:
    """Whether inherited weights order networks as training alone does.

    ``genomes`` int64[N, G]; ``inherited_percent`` and ``alone_percent`` float64[N]; ``tau`` is Kendall's tau-b, and NaN
    where all accuracies of a kind are the same.
    """

    genomes: GenomeArray
    inherited_percent: npt.NDArray[np.float64]
    alone_percent: npt.NDArray[np.float64]
    tau: float


def rank_agreement(
    evaluator: SupernetEvaluator, genomes: npt.ArrayLike, steps: int, seed: int = 0, progress: Progress | None = None
) -> RankAgreement:
    """Train each of the networks int64[N, G] alone for ``steps`` steps and compare with its inherited weights.

    Raises :class:`ArgumentError` for fewer than two networks or ``steps < 1``.
    """
    networks = SiteIndex.of(evaluator.space).canonical(genomes)
    if len(networks) < 2:
        raise ArgumentError(f"{len(networks)} networks have no order", "give at least two")
    inherited = evaluator.evaluate(networks)
    alone = []
    for number, genome in enumerate(networks):
        network = train_alone(
            evaluator.space, genome, evaluator.data, steps=steps, seed=seed, progress=_part(progress, number, len(networks))
        )
        alone.append(evaluator.accuracy(network))
    tau = float(kendalltau(inherited, alone).statistic)
    return RankAgreement(networks, inherited, np.array(alone, dtype=np.float64), tau)


def _part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """``progress`` as one of several equal parts of the work sees it."""
    if progress is None:
        return None
    return lambda done, text: progress((number + done) / parts, f"network {number + 1} of {parts} alone, {text}")


# The space of the networks that read digits, and how their super-network is trained.
_READERS: dict[str, tuple[Callable[[], MobileNetV3Space | VitSpace], TrainingOptions]] = {
    "mobilenetv3": (digits_mobilenetv3, TrainingOptions()),
    "vit": (digits_vit, TrainingOptions(learning_rate=3e-3)),
}


def digits_supernet(checkpoint: str = "", steps: int = 0, seconds: float = 90.0, network: str = "mobilenetv3") -> SupernetEvaluator:
    """The evaluator ``digits-supernet``: from a ``checkpoint`` file, else trained for ``steps`` or ``seconds`` when it is first asked.

    The networks are those of ``digits-mobilenetv3``, or, with ``network="vit"``, of :func:`digits_vit`.
    Raises :class:`ArgumentError` for another ``network``, and for an unreadable checkpoint or one of another space.
    """
    if network not in _READERS:
        raise ArgumentError(f"network={network!r} reads no digits", f"one of {', '.join(_READERS)}")
    make, options = _READERS[network]
    space = make()
    data = load_digits_data(space.resolution)
    if checkpoint:
        return SupernetEvaluator(load_supernet(checkpoint, space), data)
    return SupernetEvaluator(ToBeTrained(space, partial(train_supernet, space, data, options=options), steps, seconds), data)
