"""From a file of designs to what the networks of a search space cost on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerclock.devices.accelerators.array_pairs import ArrayPairs
from layerclock.devices.accelerators.designs import load_design_space
from layerclock.devices.accelerators.fpga_pairs import FpgaPairs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.devices.accelerators.designs import DesignSpace
    from layerclock.interfaces import SearchSpace
    from layerclock.pairs import AcceleratorDesigns

__all__ = ["accelerator_designs"]

_KINDS: dict[str, Callable[[SearchSpace, DesignSpace], AcceleratorDesigns]] = {"fpga": FpgaPairs, "array": ArrayPairs}


def accelerator_designs(path: Path | str, space: SearchSpace) -> AcceleratorDesigns:
    """The designs of a YAML file and their costs for the networks of ``space``; one design, where no field has several values.

    Raises :class:`~layerclock.errors.ArgumentError` with the place in the file where it is not valid, and
    :class:`~layerclock.errors.SpaceError` where the space's layers do not tell what they multiply.
    """
    designs = load_design_space(path)
    return _KINDS[designs.kind](space, designs)
