"""The tensors of a file that ``torch.save`` wrote, by name, as numpy arrays: without torch, and without running what the file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerclock.datasets.torch_file import MALFORMED_TORCH, load_torch
from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["read_tensors"]

_REMEDY = "give a file of tensors alone, as torch.save(network.state_dict(), path) writes it"


def read_tensors(path: Path | str) -> dict[str, npt.NDArray[Any]]:
    """Arrays by name, of the mapping in the file, or of its ``state_dict`` where it holds one.

    Raises :class:`ArgumentError` if the file cannot be read, is not such a file, or holds anything but tensors of numbers.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ArgumentError(f"cannot read {path}: {error}", "give the path of a file that torch.save wrote") from error
    try:
        held = load_torch(content)
        mapping = held.value.get("state_dict", held.value)
        return {_name(name): held.array(view) for name, view in mapping.items()}
    except MALFORMED_TORCH as error:
        raise ArgumentError(f"{path} does not hold tensors as torch.save writes them: {error}", _REMEDY) from error


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a tensor is called {name!r}")
    return name
