"""From the path of a torch module to the site that it belongs to."""

from __future__ import annotations

import re

__all__ = ["site_of", "written_path"]

_ROOT = re.compile(r"^L\['self'\]")
_INDEX = re.compile(r"(\._modules)?\[['\"]?([^'\"\]]+)['\"]?\]")


def site_of(path: str, sites: tuple[str, ...]) -> str:
    """The innermost site that a module's path (``stage1.block1.conv``) lies in; empty if it lies outside all."""
    owners = [site for site in sites if path == site or path.startswith(f"{site}.")]
    return max(owners, key=len, default="")


def written_path(traced: str) -> str:
    """What a module's path was before torch.compile traced it: ``stage1.0.conv`` of ``L['self'].stage1[0].conv``."""
    return _INDEX.sub(r".\2", _ROOT.sub("", traced)).strip(".")
