"""The latencies that HELP measured (Lee et al., NeurIPS 2021, arXiv:2106.08630), as its repository keeps them.

Format, after `loader.py` of https://github.com/HayeonLee/HELP: in `data/nasbench201` and `data/fbnet`, a file of torch for each device,
`latency/<device>.pt`, holds a list of milliseconds in the order of the architectures. For NAS-Bench-201 `str_arch2idx.pt` maps
architecture strings to their numbers; for FBNet `metainfo.pt` lists under "arch" the 22 operation codes of each, as "op_idx_list".
A GPU's name ends with the batch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.datasets.public.codes import CELLS, FBNET_OPERATIONS, FBNET_SPACE, from_arch_strings, from_operation_codes, space_or
from layerclock.datasets.public.latencies import PublicLatencies, Settings
from layerclock.datasets.torch_file import read_torch
from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layerclock.space import GenomeArray

__all__ = ["SOURCE", "gpu_settings", "read_help"]

SOURCE = "https://github.com/HayeonLee/HELP"
_GPU = re.compile(r"(?:\d+ti|titan(?:_rtx|_?xp?)|v100)_(\d+)")


def gpu_settings(devices: Sequence[str]) -> dict[str, Settings]:
    """The batch that the names of HELP's GPUs tell, such as 256 for ``titan_rtx_256``; other devices are not in it."""
    return {name: Settings(batch=int(found[1])) for name in devices if (found := _GPU.fullmatch(name))}


def read_help(paths: Sequence[Path], space: str = "") -> PublicLatencies:
    """The devices of one folder (`data/nasbench201` or `data/fbnet`), or those of some `latency/<device>.pt` in it.

    Raises :class:`TableError` if a file is absent, cannot be read or does not fit the others.
    """
    given = [found for path in paths for found in (sorted((path / "latency").glob("*.pt")) if path.is_dir() else [path])]
    folders = {path.parent.parent for path in given}
    if len(folders) != 1:
        raise TableError(
            f"the paths name latencies in {len(folders)} folders of HELP", "give data/nasbench201 or data/fbnet, or files of its latency/"
        )
    name, genomes = _architectures(folders.pop(), space)
    devices = tuple(path.stem for path in given)
    latency_ms = np.stack([_milliseconds(path, len(genomes)) for path in given], axis=1)
    return PublicLatencies(name, genomes, latency_ms, devices, SOURCE, "MIT", gpu_settings(devices))


def _architectures(folder: Path, space: str) -> tuple[str, GenomeArray]:
    if (folder / "str_arch2idx.pt").is_file():
        known = space_or(space, CELLS, CELLS)
        return known.name, from_arch_strings(known, _ordered(folder / "str_arch2idx.pt"))
    if (folder / "metainfo.pt").is_file():
        known = space_or(space, FBNET_SPACE, "fbnet")
        held = read_torch(folder / "metainfo.pt")
        try:
            codes = [list(arch["op_idx_list"]) for arch in held["arch"]]
        except (KeyError, TypeError) as error:
            raise TableError(f"{folder / 'metainfo.pt'} lists no architectures: {error}", f"give the file of {SOURCE}") from error
        return known.name, from_operation_codes(known, codes, FBNET_OPERATIONS)
    raise TableError(f"neither str_arch2idx.pt nor metainfo.pt is in {folder}", "keep the folders of HELP's data together")


def _ordered(path: Path) -> list[str]:
    numbers = read_torch(path)
    try:
        ordered = sorted(numbers, key=numbers.__getitem__)
        sound = [int(numbers[text]) for text in ordered] == list(range(len(ordered)))
    except (AttributeError, TypeError, ValueError) as error:
        raise TableError(f"{path} does not number architectures: {error}", f"give the file of {SOURCE}") from error
    if not sound:
        raise TableError(f"{path} does not number its {len(ordered)} architectures from 0", f"give the file of {SOURCE}")
    return ordered


def _milliseconds(path: Path, number: int) -> npt.NDArray[np.float64]:
    try:
        latency_ms = np.asarray(read_torch(path), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TableError(f"{path} holds no list of milliseconds: {error}", f"give the file of {SOURCE}") from error
    if latency_ms.shape != (number,):
        raise TableError(f"{path} holds {latency_ms.shape} latencies for {number} architectures", "keep one release's files together")
    return latency_ms
