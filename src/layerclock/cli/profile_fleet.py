"""``layerclock profile --fleet``: the campaigns of several devices at the same time, each with its own folder and progress."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import click

from layerclock.cli.output import Report, progress_bars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.cli.fleet_options import FleetChoice
    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import Device, DeviceOptions
    from layerclock.profiler.progress import Progress

__all__ = ["profile_on_fleet", "progress_teller"]


def progress_teller(device: str, report: Report) -> Callable[[Progress], None]:
    """Shows a campaign's progress under its device's name."""

    def tell(progress: Progress) -> None:
        known = ", ".join(filter(None, (f"{progress.covered}/{progress.layers} layers", progress.noise_in_words)))
        report(f"{device} {progress.stage} ({known})", progress.done, progress.total, progress.left_s)

    return tell


def profile_on_fleet(
    fleet: FleetChoice, names: tuple[str, ...], options: DeviceOptions, boards: tuple[str, ...], folder: Path,
    measured: Callable[[Device, Path, Callable[[Progress], None]], LatencyTable], quiet: bool,
) -> dict[Path, LatencyTable]:  # fmt: skip
    """Measure each device by ``measured``; returns the tables by the folders of the campaigns.

    One device's campaign is in ``folder`` itself, as without a fleet; those of several are in a folder each below it. The first campaign
    that fails ends the others after what they measure just then. Raises what campaigns raise.
    """
    from layerclock.profiler.fleet.remote import open_fleet_device

    if len(set(names)) < len(names):
        raise click.UsageError("each --device once: boards that hold the same device stand in for each other")
    folders = [folder] if len(names) == 1 else [folder / "".join(c if c.isalnum() else "-" for c in name) for name in names]
    over = Event()
    with fleet.connect() as cluster, progress_bars(quiet, len(names)) as reports:
        # All are opened before any is measured: what is missing shows at once.
        devices = [open_fleet_device(cluster, name, options, boards) for name in names]

        def campaign(number: int) -> LatencyTable:
            tell = progress_teller(names[number], reports[number])

            def tell_unless_over(progress: Progress) -> None:
                if over.is_set():
                    raise click.Abort
                tell(progress)

            try:
                return measured(devices[number], folders[number], tell_unless_over)
            except BaseException:
                over.set()
                raise

        if len(names) == 1:
            return {folder: campaign(0)}
        with ThreadPoolExecutor(len(names)) as pool:
            running = [pool.submit(campaign, number) for number in range(len(names))]
            try:
                for one in running:
                    one.exception()
            except KeyboardInterrupt:
                over.set()
                raise
        failures = [error for one in running if (error := one.exception()) is not None]
        for error in sorted(failures, key=lambda error: isinstance(error, click.Abort)):
            raise error
        return {own: one.result() for own, one in zip(folders, running, strict=True)}
