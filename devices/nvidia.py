"""Which NVIDIA GPU a CUDA program means by a number, and what identifies it.

A program numbers the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves it, the fastest first unless ``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``;
``nvidia-smi`` and NVML number all of them, as they are on the bus.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

from layerclock.errors import DeviceError

__all__ = ["Gpu", "gpus_meant", "nvidia_fingerprint"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as ``nvidia-smi`` tells it."""

    number: str
    uuid: str
    name: str
    driver: str


@lru_cache(maxsize=1)
def _gpus() -> tuple[Gpu, ...]:
    program = shutil.which("nvidia-smi")
    if not program:
        return ()
    asked = [program, "--query-gpu=index,uuid,name,driver_version", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30).stdout.splitlines()
    rows = [[part.strip() for part in line.split(",")] for line in told]
    return tuple(Gpu(*row) for row in rows if len(row) == 4)


def gpus_meant(number: int) -> tuple[Gpu, ...]:
    """The GPUs that a program in this environment may mean by ``number``: none, one, or all where their order is not known.

    A part of a GPU (``MIG-...``) is not told from others.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    place = str(number)
    if visible is not None:
        places = [one.strip() for one in visible.split(",") if one.strip()]
        if number >= len(places):
            return ()
        place = places[number]
    named = tuple(gpu for gpu in _gpus() if gpu.uuid.startswith(place))
    if named:
        return named
    known = len(_gpus()) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return tuple(gpu for gpu in _gpus() if gpu.number == place) if known and place.isdigit() else _gpus()


def nvidia_fingerprint(number: int = 0) -> tuple[tuple[str, str], ...]:
    """Name and driver of the GPU that ``number`` means; nothing where there is none.

    Raises :class:`DeviceError` where it may mean different ones: their times must not meet in one table.
    """
    meant = gpus_meant(number)
    if len({gpu.name for gpu in meant}) > 1:
        raise DeviceError(
            f"CUDA's GPU {number} may be any of {', '.join(sorted({gpu.name for gpu in meant}))}",
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or CUDA_VISIBLE_DEVICES to the UUID that `nvidia-smi -L` tells",
        )
    return (("gpu", meant[0].name), ("driver", meant[0].driver)) if meant else ()
