"""What a campaign tells about itself while it goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Told to the caller as a campaign goes on.

    ``left_s`` is an estimate in seconds, ``noise`` the median over the layers of the half width of their 90 % interval
    (relative); both are NaN before there is one, and ``noise`` is infinite while half of the layers were only seen
    disturbed. ``covered`` of ``layers`` distinct layers of the space were measured.
    """

    stage: str
    done: int
    total: int
    left_s: float
    covered: int
    layers: int
    noise: float

    @property
    def noise_in_words(self) -> str:
        """The noise as a user reads it; empty before there is one."""
        if math.isnan(self.noise):
            return ""
        return f"+-{self.noise:.1%}" if math.isfinite(self.noise) else "too noisy to tell so far"
