"""LatBench: latencies of NAS-Bench-201's cells that BRP-NAS published (Dudziak et al., NeurIPS 2020, arXiv:2007.08668).

Format, after the README of https://github.com/SamsungLabs/eagle: one pickle a device, called by its name; a dict from a tuple of six
operation codes to seconds. Cells that could not be measured are absent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from layerclock.datasets.plain_pickle import read_plain_pickle
from layerclock.datasets.public.codes import CELL_OPERATIONS, CELLS, from_operation_codes, space_or
from layerclock.datasets.public.latencies import PublicLatencies, Settings
from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["read_latbench"]

_PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


def read_latbench(paths: Sequence[Path], space: str = "") -> PublicLatencies:
    """The devices of ``paths``, each called by its file's name; networks in the order in which they first occur.

    Raises :class:`TableError` if a file cannot be read or holds anything else.
    """
    known = space_or(space, CELLS, CELLS)
    held = {path.stem: _seconds(path) for path in paths}
    if len(held) < len(paths):
        raise TableError("two of the files have one name, which is the device's", "rename one")
    codes = list(dict.fromkeys(code for device in held.values() for code in device))
    latency_ms = np.array([[1e3 * device.get(code, np.nan) for device in held.values()] for code in codes]).reshape(len(codes), len(held))
    settings = {name: Settings(precision=_PRECISIONS[found[1]]) for name in held if (found := re.search("[-_](fp32|fp16|int8)$", name))}
    genomes = from_operation_codes(known, codes, CELL_OPERATIONS)
    return PublicLatencies(known.name, genomes, latency_ms, tuple(held), "https://github.com/SamsungLabs/eagle", "Apache-2.0", settings)


def _seconds(path: Path) -> dict[tuple[int, ...], float]:
    held = read_plain_pickle(path)
    try:
        return {tuple(map(int, code)): float(seconds) for code, seconds in held.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise TableError(f"{path} does not map operation codes to seconds: {error}", "give a pickle of LatBench") from error
