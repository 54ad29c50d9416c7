"""What a worker sends back: raw samples of one network in one round, with what was seen of the machine around each run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerclock.interfaces import KernelTimes

__all__ = ["Measurement", "Order", "Watched"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Watched:
    """What was seen around each of n runs.

    ``before_ns`` and ``after_ns`` float64[n]: the reference workload's time on both sides of the run (NaN on a device that is
    not this machine's processor); ``switches`` int64[n]: how often the process was made to wait for others (involuntary
    context switches) in between.
    """

    before_ns: FloatArray
    after_ns: FloatArray
    switches: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.switches)

    @property
    def reference_ns(self) -> FloatArray:
        """The longer of the reference workload's times before and after each run."""
        longer: FloatArray = np.maximum(self.before_ns, self.after_ns)
        return longer

    @classmethod
    def join(cls, parts: Sequence[Watched]) -> Watched:
        """The runs of all parts, in order."""
        if not parts:
            return cls.unseen(0)
        return cls(
            np.concatenate([part.before_ns for part in parts]),
            np.concatenate([part.after_ns for part in parts]),
            np.concatenate([part.switches for part in parts]),
        )

    @classmethod
    def unseen(cls, runs: int) -> Watched:
        """Runs around which nobody looked."""
        return cls(np.full(runs, np.nan), np.full(runs, np.nan), np.zeros(runs, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to measure: ``runs`` undisturbed runs, and no more than ``most_runs`` in all.

    ``enough_s``: after so many seconds nothing is repeated, and a network too slow for ``runs`` runs has fewer.
    ``reference_ns`` is the reference workload's time on the machine at rest, as far as the campaign has seen it (NaN at
    first); ``profiled`` asks for kernel times, too.
    """

    runs: int
    most_runs: int
    enough_s: float
    reference_ns: float
    profiled: bool


@dataclass(frozen=True)
class Measurement:
    """Raw samples of one network in one round; ``kernels`` is absent for a held-out network.

    ``rest_ns`` are the reference workload's readings before the first run of a wave of networks, kept with its first
    measurement. ``facts`` are numbers about the measurement as a whole (see :mod:`layerclock.profiler.clock`): energy, memory,
    steal. ``board`` is the member of a fleet that measured, empty on this machine.
    """

    network: int
    round: int
    end_to_end_ns: FloatArray
    watched: Watched
    kernels: KernelTimes | None = None
    kernels_watched: Watched | None = None
    warm_up_ns: FloatArray = field(default_factory=lambda: np.array([]))
    rest_ns: FloatArray = field(default_factory=lambda: np.array([]))
    facts: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    board: str = ""

    @classmethod
    def failed(cls, network: int, round_number: int, reason: str) -> Measurement:
        """A measurement that gave nothing but its reason."""
        return cls(network, round_number, np.array([]), Watched.join([]), failure=reason)
