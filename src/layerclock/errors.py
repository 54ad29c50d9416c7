"""Every error that Layerclock raises on purpose.

::

    LayerclockError
    |-- UnknownNameError        no device, space, predictor ... of that name
    |-- MissingExtraError       an optional dependency is not installed
    |-- ArgumentError           a value that no part of the tool can accept
    |-- GenomeError             a genome that does not belong to its space
    |-- SpaceError              a search space that contradicts itself
    |-- DeviceError             a runtime could not load, run or report
    |   `-- DeviceUnavailableError
    |-- TargetMismatchError     numbers of two targets would have been mixed
    |-- CampaignError           a measuring campaign cannot start or go on
    |   |-- FleetError          no scheduler, no board or no certificates; what was measured is kept
    |   `-- TooNoisyError       it finished, but the numbers cannot be trusted
    |-- TableError              a latency table that cannot be read or is not valid
    |-- CoverageError           a layer is needed that nobody measured
    |-- PredictorError          a predictor file that cannot be read or does not fit its input
    |-- SearchError             no result can be given (no network satisfies the constraint, ...)
    `-- OutputError             a file or folder cannot be written

Each message says what went wrong and where; ``hint`` says what to do next.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "CampaignError",
    "CoverageError",
    "DeviceError",
    "DeviceUnavailableError",
    "FleetError",
    "GenomeError",
    "LayerclockError",
    "MissingExtraError",
    "OutputError",
    "PredictorError",
    "SearchError",
    "SpaceError",
    "TableError",
    "TargetMismatchError",
    "TooNoisyError",
    "UnknownNameError",
]


class LayerclockError(Exception):
    """Base of every error raised on purpose: a message and a hint."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UnknownNameError(LayerclockError):
    """A name that is not registered; the hint suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        by_lower = {known_name.lower(): known_name for known_name in names}
        near = [by_lower[found] for found in get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5)]
        listed = ", ".join(names) or "none"
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {listed}"
        super().__init__(f"unknown {kind} {name!r}", hint)


class MissingExtraError(LayerclockError):
    """An optional dependency is absent; the hint names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            f"pip install 'layerclock[{extra}]'",
        )


class ArgumentError(LayerclockError):
    """A value that cannot be accepted."""


class GenomeError(LayerclockError):
    """A genome of the wrong length, type or range for its space."""


class SpaceError(LayerclockError):
    """A search space whose genes, sites and networks disagree."""


class DeviceError(LayerclockError):
    """A runtime failed to load a model, to run it or to report its kernels."""


class DeviceUnavailableError(DeviceError):
    """The device is known but cannot be used on this machine."""


class TargetMismatchError(LayerclockError):
    """Measurements or predictors of different targets were about to be mixed."""


class CampaignError(LayerclockError):
    """A measuring campaign cannot start, resume or finish."""


class FleetError(CampaignError):
    """A fleet cannot be reached, is not safe, or has no board for the device; what was measured before is kept."""


class TooNoisyError(CampaignError):
    """The campaign finished, but its noise is above the limit that was asked for."""

    exit_code = 3


class TableError(LayerclockError):
    """A latency table that cannot be read, or whose content is not valid."""


class CoverageError(LayerclockError):
    """A network needs layers for which there is no measurement."""


class PredictorError(LayerclockError):
    """A predictor file that cannot be read, or input that it cannot take."""


class SearchError(LayerclockError):
    """A search that cannot give a valid result."""


class OutputError(LayerclockError):
    """A file or folder that cannot be written."""
