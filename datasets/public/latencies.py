"""What a published collection of network latencies holds, whatever the format of its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.space import GenomeArray

__all__ = ["NamedLatencies", "PublicLatencies", "Settings"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a collection tells of how a device was run; what it does not tell is None, or empty."""

    batch: int | None = None
    precision: str = ""
    runtime: str = ""


@dataclass(frozen=True, slots=True)
class PublicLatencies:
    """Latencies of N networks of one space on D devices.

    ``space`` is the space's registered name with its parameters, ``genomes`` int64[N, G], ``latency_ms`` float64[N, D] with NaN where
    nobody measured, ``devices`` the columns' names, ``source`` where it was published, ``settings`` what is known of some devices.
    Raises :class:`TableError` where these do not fit together, or a latency is not a positive number.
    """

    space: str
    genomes: GenomeArray
    latency_ms: FloatArray
    devices: tuple[str, ...]
    source: str
    licence: str
    settings: Mapping[str, Settings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.genomes.ndim != 2:
            raise TableError(f"genomes of shape {self.genomes.shape} are not one row a network", f"the source is {self.source}")
        _require_sound(self.latency_ms, len(self.genomes), self.devices, self.source)


@dataclass(frozen=True, slots=True)
class NamedLatencies:
    """Latencies of N networks that have names but are of no space of ours: no genome stands for them.

    ``collection`` names where the names mean something; ``names`` and ``kinds`` (families) are one a network; ``facts`` what else is
    known of each, as canonical JSON; ``latency_ms`` float64[N, D], NaN where nobody measured; ``std_ms`` float64[N, D] the standard
    deviations, NaN where they were not told; ``holdout`` bool[N] the networks that the collection keeps for tests.
    Raises :class:`TableError` where these do not fit together, or a latency is not a positive number.
    """

    collection: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    facts: tuple[str, ...]
    latency_ms: FloatArray
    std_ms: FloatArray
    holdout: npt.NDArray[np.bool_]
    devices: tuple[str, ...]
    source: str
    licence: str
    settings: Mapping[str, Settings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_sound(self.latency_ms, len(self.names), self.devices, self.source)
        lengths = {len(self.names), len(self.kinds), len(self.facts), len(self.holdout)}
        if len(lengths) > 1 or self.std_ms.shape != self.latency_ms.shape:
            raise TableError(f"what is told of the networks of {self.collection} differs in length", f"the source is {self.source}")


def _require_sound(latency_ms: FloatArray, networks: int, devices: tuple[str, ...], source: str) -> None:
    if latency_ms.shape != (networks, len(devices)):
        raise TableError(
            f"{networks} networks on {len(devices)} devices, but latencies of shape {latency_ms.shape}",
            f"the files of {source} do not belong together: give those of one release",
        )
    if len(set(devices)) < len(devices):
        raise TableError(f"the device {max(devices, key=devices.count)!r} occurs twice", "give each device's file once")
    wrong = np.argwhere((latency_ms <= 0) | np.isinf(latency_ms))
    if len(wrong):
        network, device = map(int, wrong[0])
        raise TableError(
            f"network {network} took {latency_ms[network, device]} ms on {devices[device]}", "what was not measured is NaN, never zero"
        )
