"""Profiling ONNX files as they are: a space of one gene, whose choices are the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layerclock.devices.onnx_file import prepare_model
from layerclock.errors import ArgumentError, SpaceError
from layerclock.profiler.campaign import profile
from layerclock.profiler.ceilings import measure_ceilings
from layerclock.profiler.plan import Plan
from layerclock.space import Gene, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    import torch

    from layerclock.datasets.table import LatencyTable
    from layerclock.devices.onnx_file import PreparedModel
    from layerclock.interfaces import Device, ModelFile
    from layerclock.network import TensorSpec
    from layerclock.profiler.progress import Progress

__all__ = ["FileSpace", "profile_files"]


@dataclass(frozen=True)
class FileSpace:
    """The search space of some given networks: its gene ``model`` names one."""

    name: str
    models: Mapping[str, PreparedModel]

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The one gene; its choices are the files' names."""
        return (Gene("model", tuple(self.models)),)

    @property
    def sites(self) -> tuple[Site, ...]:
        """A site for each layer's name; nothing stands there in the networks that have no layer of that name."""
        placed = {name: {one.site: one.layer for one in model.layers} for name, model in self.models.items()}
        names = dict.fromkeys(site for layers in placed.values() for site in layers)
        return tuple(Site(site, self.genes, tuple(layers.get(site) for layers in placed.values())) for site in names)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Of no meaning here: each file has inputs of its own."""
        return ()

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:  # noqa: ARG002 - the protocol's signature
        """Not possible: a file is no torch module. Raises :class:`SpaceError`."""
        raise SpaceError(f"{self.name} is made of ONNX files, which cannot be built", "use export()")

    def export(self, genome: npt.ArrayLike) -> ModelFile:
        """The file of one genome, int64[1]."""
        return list(self.models.values())[int(np.asarray(genome)[0])].file


def profile_files(
    device: Device,
    paths: Sequence[Path | str],
    folder: Path | str,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    depth: int = 2,
    rounds: int = 8,
    runs: int = 10,
    budget_s: float | None = None,
    limit_s: float = 60.0,
    affinity: tuple[int, ...] = (),
    retry_failed: bool = False,
    calibration_inputs: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> LatencyTable:
    """Time any ONNX networks kernel by kernel and layer by layer; returns the table, also written to ``folder``.

    ``shapes`` fixes free axes of inputs, by input name; a free first axis becomes the device's batch. ``depth`` parts of
    an operator's module path name its layer. The device's own ceilings, its fastest matrix product and its fastest
    stream through memory, are measured beside and stand in the table's ``ceilings``. Other arguments and errors as in
    :func:`~layerclock.profiler.campaign.profile`, and those of :func:`~layerclock.devices.onnx_file.prepare_model`.
    """
    files = [Path(path) for path in paths]
    if not files or len({file.stem for file in files}) < len(files):
        raise ArgumentError("the files must be at least one, each of another name", "rename those of equal names")
    models = {file.stem: prepare_model(file, device.options.batch, shapes, depth) for file in files}
    space = FileSpace("onnx:" + ",".join(models), models)
    plan = Plan(np.arange(len(models))[:, None], np.zeros((0, 1), dtype=np.int64))
    return profile(
        device, space, folder, networks=len(models), rounds=rounds, runs=runs, budget_s=budget_s, plan=plan, limit_s=limit_s,
        affinity=affinity, retry_failed=retry_failed, export=space.export,
        calibration_inputs=calibration_inputs, ceilings=lambda: measure_ceilings(device, Path(folder), limit_s, affinity),
        progress=progress,
    )  # fmt: skip
