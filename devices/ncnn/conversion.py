"""From an exported network to ncnn's two files, by pnnx; kept in the cache."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pnnx

from layerclock.atomic import make_folder, write_atomically
from layerclock.devices.cache import cache_folder
from layerclock.errors import DeviceError

if TYPE_CHECKING:
    from layerclock.interfaces import ModelFile

__all__ = ["converted"]

_LIMIT_S = 600.0


def converted(model: ModelFile) -> tuple[Path, Path]:
    """ncnn's description (``.param``) and weights (``.bin``) of a network, with weights in float32.

    Raises :class:`DeviceError` if pnnx cannot convert it.
    """
    folder = cache_folder() / "models"
    stem = f"{model.digest}-pnnx{version('pnnx')}"
    description, weights = folder / f"{stem}.param", folder / f"{stem}.bin"
    if not (description.exists() and weights.exists()):
        with tempfile.TemporaryDirectory() as temporary:
            # pnnx writes beside the file that it reads.
            copy = Path(temporary) / "network.onnx"
            shutil.copyfile(model.path, copy)
            made = _convert(copy, model.path.name)
            make_folder(folder)
            for source, kept in zip(made, (description, weights), strict=True):
                write_atomically(kept, partial(shutil.copyfile, source))
    return description, weights


def _convert(network: Path, name: str) -> tuple[Path, Path]:
    try:
        done = subprocess.run(
            [pnnx.EXEC_PATH, network.name, "fp16=0"], cwd=network.parent, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"pnnx cannot convert {name}: {error}", "reinstall pnnx, or use another device") from error
    made = network.with_suffix(".ncnn.param"), network.with_suffix(".ncnn.bin")
    if done.returncode or not all(file.exists() for file in made):
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise DeviceError(f"pnnx cannot convert {name}: {said[0]}", "use another device for this network")
    return made
