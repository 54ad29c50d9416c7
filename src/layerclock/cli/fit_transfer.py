"""``layerclock fit --transfer``: a predictor for a new device from a handful of networks and other devices' tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerclock.cli.output import print_json, print_table, progress_bar, told
from layerclock.cli.trust import tell_distrust
from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import DeviceOptions
    from layerclock.predictors.portable import OnnxPredictor
    from layerclock.predictors.transfer.gaussian import GaussianPrior
    from layerclock.profiler.progress import Progress

__all__ = ["fit_by_transfer"]


def fit_by_transfer(
    paths: Sequence[Path],
    output: Path,
    *,
    space_name: str,
    device_name: str,
    options: DeviceOptions,
    measured: Path | None,
    samples: int,
    folder: Path | None,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Choose networks, measure them on the device (or take those of the table ``measured``), fit, and tell what was fitted.

    Raises :class:`ArgumentError` unless exactly one of ``device_name`` and ``measured`` is given, and where nothing tells the space.
    """
    from layerclock.datasets.table import read_table
    from layerclock.plugins import load_space
    from layerclock.predictors.transfer.fitting import fit_transfer, transfer_prior

    if bool(device_name) == (measured is not None):
        raise ArgumentError("a transfer needs the new device, or its measurements", "give either --device or --measured TABLE")
    tables = [read_table(path) for path in paths]
    own = read_table(measured) if measured is not None else None
    given = [*zip(paths, tables, strict=True), *([(measured, own)] if measured is not None and own is not None else [])]
    broken = [f"{path}: {rule}" for path, table in given for rule in tell_distrust(path, table)]
    named = space_name or next((table.space for _, table in given), "")
    if not named:
        raise ArgumentError("nothing tells the search space", "name it with --space")
    prior = transfer_prior(load_space(named), tables, seed)
    if own is None:
        own = _measure(prior, device_name, options, samples, folder or output.with_suffix(""), seed, quiet)
    predictor = fit_transfer(own, prior)
    predictor.save(output)
    _tell(predictor, [table.target.device for table in tables], broken, output, as_json)


def _measure(
    prior: GaussianPrior, device_name: str, options: DeviceOptions, samples: int, folder: Path, seed: int, quiet: bool
) -> LatencyTable:
    import numpy as np

    from layerclock.plugins import open_device
    from layerclock.predictors.transfer.fitting import choose_networks
    from layerclock.profiler.campaign import profile
    from layerclock.profiler.plan import Plan

    device = open_device(device_name, options)
    chosen = choose_networks(prior, samples, seed)
    plan = Plan(chosen, np.zeros((0, chosen.shape[1]), dtype=np.int64))
    with progress_bar(quiet) as report:

        def tell(progress: Progress) -> None:
            report(f"{device_name} {progress.stage}", progress.done, progress.total, progress.left_s)

        return profile(device, prior.views.space, folder, networks=samples, plan=plan, progress=tell)


def _tell(predictor: OnnxPredictor, devices: Sequence[str], broken: Sequence[str], output: Path, as_json: bool) -> None:
    from layerclock.predictors.transfer.fitting import MISLED

    card = predictor.card
    trust = card.parameters.get("trust_in_sources")
    misled = trust is not None and trust < MISLED
    if as_json:
        print_json(
            {"predictor": str(output), "kind": card.kind, "space": card.space, "target": str(card.target),
             "networks": card.fitted_on_networks, "source_devices": list(devices), "trust_in_sources": trust, "misled": misled,
             "interval_level": card.interval_level, "interval_half_width": card.interval_half_width, "noise_floor": card.noise_floor,
             "broken_rules": list(broken)}
        )  # fmt: skip
    else:
        rows = [
            ("fitted on", f"{card.fitted_on_networks} networks of {card.space}"),
            ("helped by", ", ".join(devices) or "no other device"),
            *([("trust in them", f"{trust:.0%}")] if trust is not None else []),
            (f"{card.interval_level:.0%} interval", f"+-{card.interval_half_width:.1%} for a typical network"),
            ("noise floor", told(card.noise_floor, ".2%")),
            ("file", str(output)),
        ]
        print_table(str(card.target), ("", ""), rows)
    if misled:
        click.echo(
            f"the measurements speak against the other devices ({trust:.0%} trust): the fit rests on this device's own networks; measure "
            "more of them with --samples, or leave tables out",
            err=True,
        )
