"""A campaign over composite networks that measures next where a predictor of kernels errs most."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError
from layerclock.profiler.campaign import profile
from layerclock.profiler.composites import THEMES, CompositeSpace
from layerclock.profiler.plan import Plan
from layerclock.profiler.store import CampaignFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import Device
    from layerclock.profiler.progress import Progress

__all__ = ["profile_composites", "theme_shares"]

# Networks of the first wave, two of each theme, and of the waves behind it.
_FIRST_OF_A_THEME = 2
_WAVE = 30
# What a network is taken to cost before the first ones were measured.
_USUAL_S = 4.0
# Every theme goes on with this share of what even turns would give it, wherever the errors are.
_EVEN_SHARE = 0.3
_ROUNDS = 2


def profile_composites(
    device: Device,
    folder: Path | str,
    *,
    budget_s: float = 900.0,
    runs: int = 6,
    seed: int = 0,
    limit_s: float = 60.0,
    affinity: tuple[int, ...] = (),
    retry_failed: bool = False,
    errors: Callable[[LatencyTable], Mapping[str, float]] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> LatencyTable:
    """Measure composite networks kernel by kernel until ``budget_s`` seconds are spent; returns the latency table.

    After each wave of networks, ``errors`` says from the table so far how wrong a predictor is on each theme of
    :data:`~layerclock.profiler.composites.THEMES` (any positive numbers; themes that it leaves out count as their mean); the next
    wave draws its themes in proportion. Without it, themes take turns. Given the same folder again, the campaign goes on.

    Raises what :func:`~layerclock.profiler.campaign.profile` raises.
    """
    if not budget_s > 0:
        raise ArgumentError(f"budget_s={budget_s} leaves no time", "budget_s above 0")
    if device.target.batch != 1:
        raise ArgumentError(f"composites are networks of batch 1, not {device.target.batch}", "leave --batch at 1")
    begin = monotonic()
    space = CompositeSpace()
    store = CampaignFolder(Path(folder))
    generator = np.random.default_rng(seed)
    present = (store.path / "campaign.json").exists()
    chosen: list[tuple[int, int]] = [(theme, number) for theme, number in store.record().profiled] if present else []
    spent_before_s = store.done().spent_s if present else 0.0
    measured, measured_s, table = 0, 0.0, None
    shares = np.full(len(THEMES), 1 / len(THEMES))

    def affordable() -> int:
        left_s = budget_s - spent_before_s - (monotonic() - begin)
        return max(0, int(left_s / (measured_s / measured if measured else _USUAL_S)))

    while True:
        if not chosen:
            more = [theme for theme in range(len(THEMES)) for _ in range(_FIRST_OF_A_THEME)][: max(1, affordable())]
        elif table is None:
            more = []  # an interrupted wave is finished first
        elif affordable():
            if errors is not None:
                shares = theme_shares(errors(table))
            more = generator.choice(len(THEMES), size=min(_WAVE, affordable()), p=shares).tolist()
        else:
            return table
        for theme in more:
            used = sum(one == theme for one, _ in chosen)
            if used < space.seeds:
                chosen.append((theme, used))
        start = monotonic()
        plan = Plan(np.array(chosen, dtype=np.int64), np.zeros((0, 2), dtype=np.int64))
        table = profile(
            device, space, folder, networks=len(chosen), rounds=_ROUNDS, runs=runs, plan=plan, limit_s=limit_s, affinity=affinity,
            retry_failed=retry_failed and table is None, export=space.export, progress=progress,
        )  # fmt: skip
        measured, measured_s = measured + len(more), measured_s + monotonic() - start


def theme_shares(errors: Mapping[str, float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How often each theme is drawn, float64[T], given how wrong a predictor is on each."""
    known = [error for error in errors.values() if np.isfinite(error) and error > 0]
    usual = float(np.mean(known)) if known else 1.0
    each = np.array([errors.get(theme, usual) for theme in THEMES])
    each = np.where(np.isfinite(each) & (each > 0), each, usual)
    shares: np.ndarray[tuple[int], np.dtype[np.float64]] = _EVEN_SHARE / len(THEMES) + (1 - _EVEN_SHARE) * each / each.sum()
    return shares
