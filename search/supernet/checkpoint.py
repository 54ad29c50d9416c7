"""Super-networks as files: safetensors, with the space in the metadata. Nothing that is loaded can run code."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from layerclock.errors import ArgumentError, OutputError
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.search.supernet.elastic_network import ElasticNetwork, ElasticSpace

__all__ = ["SavedSupernet", "load_supernet", "load_weights", "save_supernet"]

_FORMAT = "layerclock-supernet-1"


class SavedSupernet(Protocol):
    """What a super-network needs to become a file: the space as a dataclass, and the members of a torch module."""

    @property
    def space(self) -> Any:
        """The search space."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The weights by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take these weights; raises ``RuntimeError`` if they do not fit."""
        ...


def save_supernet(supernet: SavedSupernet, path: Path | str) -> None:
    """Write weights, and the space's name, parameters and digest. Raises :class:`OutputError` if that fails."""
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    try:
        save_file({name: tensor.contiguous() for name, tensor in supernet.state_dict().items()}, partial, _metadata(supernet.space))
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"cannot write the super-network {target}: {error}", "choose a folder that exists and can be written") from error


def load_supernet(path: Path | str, space: ElasticSpace) -> ElasticNetwork:
    """Read a super-network of a ``space`` that knows its super-network, in evaluation mode.

    Raises :class:`ArgumentError` if the file cannot be read, is not a super-network, or belongs to another space.
    """
    with torch.random.fork_rng(devices=[]):  # the random weights are overwritten; the caller's seed must not notice them
        supernet = space.super_network()
    load_weights(path, supernet)
    return supernet.eval()


def load_weights(path: Path | str, supernet: SavedSupernet) -> None:
    """Read the weights of ``supernet`` from a file that :func:`save_supernet` wrote.

    Raises :class:`ArgumentError` if the file cannot be read, is not a super-network, or belongs to another space.
    """
    space = supernet.space
    remedy = "give a file that save_supernet wrote, or train a super-network again"
    try:
        with safe_open(Path(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ArgumentError(f"cannot read the super-network {path}: {error}", remedy) from error
    expected = _metadata(space)
    if metadata.get("format") != _FORMAT:
        raise ArgumentError(f"{path} is not a super-network of this version (format {metadata.get('format')!r})", remedy)
    if metadata != expected:
        key = next(key for key in ("digest", "space", "parameters") if metadata.get(key) != expected[key])
        raise ArgumentError(
            f"{path} holds a super-network of {metadata.get('space')!r}, not of {space.name!r}: "
            f"{key} is {metadata.get(key)}, not {expected[key]}",
            "load it with the space that it was trained for",
        )
    try:
        supernet.load_state_dict(tensors)
    except RuntimeError as error:
        raise ArgumentError(f"{path} does not hold the weights of {space.name!r}: {error}", remedy) from error


def _metadata(space: Any) -> dict[str, str]:
    return {
        "format": _FORMAT,
        "space": space.name,
        "parameters": json.dumps(asdict(space) if is_dataclass(space) and not isinstance(space, type) else {}, sort_keys=True),
        "digest": SiteIndex.of(space).digest,
    }
