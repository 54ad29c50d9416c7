"""What a device's precision costs: the accuracy of trained networks as the device runs them, beside the same in float32."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from layerclock.devices.export import export_network
from layerclock.errors import ArgumentError
from layerclock.interfaces import ModelFile
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    import torch

    from layerclock.interfaces import Device, SearchSpace, Session

__all__ = ["DeviceAccuracy", "HasTrainedNetworks", "accuracy_on_device"]


class HasTrainedNetworks(Protocol):
    """An evaluator that gives its networks and images away: ``digits-supernet`` and the other super-networks of images."""

    @property
    def space(self) -> SearchSpace:
        """Whose networks they are."""

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Top-1 accuracy in percent, float64[N], in float32."""

    def network(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The trained network of one genome, ready for inference."""

    def judged_images(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Held-out images float32[N, ...] and labels int64[N]."""

    def calibration_images(self) -> torch.Tensor:
        """Training images, float32[n, ...], which quantising may look at."""


@dataclass(frozen=True, slots=True)
class DeviceAccuracy:
    """Top-1 accuracy in percent on the same held-out images, float64[N] each: as the device runs the networks, and in float32."""

    on_device_percent: npt.NDArray[np.float64]
    float32_percent: npt.NDArray[np.float64]

    @property
    def drop_points(self) -> float:
        """Mean loss in percentage points; below zero where the device's networks are better by chance."""
        return float(np.mean(self.float32_percent - self.on_device_percent))


def accuracy_on_device(device: Device, evaluator: HasTrainedNetworks, genomes: npt.ArrayLike) -> DeviceAccuracy:
    """Judge the trained networks int64[N, G] on ``device`` in its precision; INT8 is calibrated on the evaluator's training images.

    Raises :class:`ArgumentError` for an evaluator without trained networks, and :class:`~layerclock.errors.DeviceError` where a network
    cannot be run (torch's devices build random networks, and cannot run trained ones).
    """
    lacking = [name for name in ("network", "judged_images", "calibration_images") if not hasattr(evaluator, name)]
    if lacking:
        raise ArgumentError("the evaluator has no trained networks to run on a device", "use digits-supernet or images-supernet")
    networks = SiteIndex.of(evaluator.space).canonical(genomes)
    with tempfile.TemporaryDirectory() as folder:
        percent = [_percent(device, evaluator, genome, Path(folder)) for genome in networks]
    return DeviceAccuracy(np.array(percent, dtype=np.float64), evaluator.evaluate(networks))


def _percent(device: Device, evaluator: HasTrainedNetworks, genome: npt.NDArray[np.int64], folder: Path) -> float:
    images, labels = evaluator.judged_images()
    batch = device.options.batch
    sites = tuple(placed.site for placed in SiteIndex.of(evaluator.space).network(genome).layers)
    path, real = folder / "trained.onnx", folder / "inputs.npz"
    export_network(evaluator.network(genome), path, (images[:batch],), sites)
    np.savez(real, input=evaluator.calibration_images().numpy())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:24]
    session = device.load(ModelFile(path, digest, sites, calibration=real))
    try:
        answers = _answers(session, images.numpy(), batch)
    finally:
        session.close()
    return 100.0 * float(np.mean(answers == labels.numpy()))


def _answers(session: Session, images: npt.NDArray[Any], batch: int) -> npt.NDArray[np.int64]:
    """The class that the network sees in each image, int64[N]."""
    answers = []
    for first in range(0, len(images), batch):
        rows = np.arange(first, first + batch) % len(images)  # the last batch is filled up with the first images
        answers.append(session.infer({"input": np.ascontiguousarray(images[rows])})["output"].argmax(1))
    return np.concatenate(answers)[: len(images)]
