"""What to take of a dataset, and in which folders it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from layerclock.target import Target

__all__ = ["EVERYTHING", "FOLDERS", "Selection", "folder_of", "is_runtime", "quoted"]

FOLDERS = ("device", "runtime", "space", "level")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to take of a dataset; None takes all.

    ``runtime`` is name and version (``openvino 2026.4.1``), or the name alone; ``target`` the id of one target, which tells targets of
    one device and runtime apart that differ in threads, batch or precision; ``digest`` the beginning of a space's digest, which tells
    versions of a space apart.
    """

    device: str | None = None
    runtime: str | None = None
    space: str | None = None
    level: str | None = None
    op: str | None = None
    key: str | None = None
    target: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        named = [f"{name} {value!r}" for name in (*FOLDERS, "target", "digest") if (value := getattr(self, name)) is not None]
        return ", ".join(named) or "anything"


EVERYTHING = Selection()


def folder_of(target: Target, space: str, level: str) -> str:
    """The folder of a partition, below the dataset's root."""
    values = (target.device, f"{target.runtime} {target.runtime_version}".strip(), space, level)
    return "/".join(f"{name}={quoted(value)}" for name, value in zip(FOLDERS, values, strict=True))


def quoted(text: str) -> str:
    """As Hive writes it; a name of dots or of nothing would be another folder."""
    return quote(text, safe="").replace(".", "%2E") if set(text) <= {"."} else quote(text, safe="")


def is_runtime(part: str, wanted: str) -> bool:
    """Whether ``part``, a folder's name, is of the runtime ``wanted``, with or without its version."""
    own = unquote(part.partition("=")[2])
    return own == wanted or own.partition(" ")[0] == wanted
