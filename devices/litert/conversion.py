"""From a space's torch module to a ``.tflite`` file, by litert-torch; kept in the cache."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from typing import TYPE_CHECKING

from layerclock.atomic import make_folder, write_atomically
from layerclock.devices.attribution import SourceGraph
from layerclock.devices.cache import cache_folder
from layerclock.devices.export import build_network
from layerclock.errors import DeviceError
from layerclock.plugins import load_space

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import ModelFile

__all__ = ["converted"]


def converted(model: ModelFile) -> Path:
    """The ``.tflite`` file of the module that ``model`` was exported from, with the same weights.

    Raises :class:`DeviceError` for a model that no registered space built, and for one that litert-torch cannot convert.
    """
    if not model.space:
        raise DeviceError(
            f"{model.path.name} is a model without a torch module behind it",
            "LiteRT runs networks of a space: --space; other models run on onnxruntime, openvino or ncnn",
        )
    path = cache_folder() / "models" / f"{model.digest}-litert{version('litert-torch')}.tflite"
    if not path.exists():
        make_folder(path.parent)
        try:
            content = _converter().submit(_convert, model).result()
        except BrokenProcessPool as error:
            _converter.cache_clear()
            raise DeviceError(
                f"litert-torch crashed while it converted {model.path.name}", "use another device for this network"
            ) from error
        except Exception as error:  # converters fail in many ways
            first = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise DeviceError(
                f"litert-torch cannot convert {model.path.name}: {first[0]}", "use another device for this network"
            ) from error
        write_atomically(path, lambda draft: draft.write_bytes(content))
    return path


@cache
def _converter() -> ProcessPoolExecutor:
    """A process that loads the converter once, takes its memory away with it, and says nothing."""
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), initializer=_say_nothing)


def _say_nothing() -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(silence, stream.fileno())


def _convert(model: ModelFile) -> bytes:
    import litert_torch
    import torch

    module = build_network(load_space(model.space), model.genome, model.digest)
    inputs = tuple(torch.as_tensor(value) for value in SourceGraph(model.path).example_inputs().values())
    return bytes(litert_torch.convert(module, inputs).model_content())
