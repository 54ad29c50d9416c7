"""What a measured number is valid for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from layerclock.errors import TargetMismatchError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Target", "require_same_target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Device, runtime and settings under which latencies were measured.

    ``fingerprint`` identifies the hardware (CPU model, instruction sets, caches ...); ``options`` are the session
    options that change speed. ``threads`` and ``batch`` are None where those who measured do not tell them. Two targets are the
    same exactly if every field is; ``id`` is a short hash of them all.
    """

    device: str
    runtime: str
    runtime_version: str
    precision: str
    threads: int | None
    batch: int | None
    options: tuple[tuple[str, str], ...] = ()
    fingerprint: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        """The device's name and a hash of every field."""
        digest = hashlib.sha256(self.to_json().encode()).hexdigest()[:10]
        return f"{self.device}-{digest}"

    def to_json(self) -> str:
        """All fields as JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Target:
        """Inverse of :meth:`to_json`; raises ``ValueError``, ``KeyError`` or ``TypeError`` on other text."""
        fields: dict[str, Any] = json.loads(text)
        for name in ("options", "fingerprint"):
            fields[name] = tuple((str(key), str(value)) for key, value in fields[name])
        return cls(**fields)

    def differences(self, other: Target) -> dict[str, tuple[object, object]]:
        """The fields in which two targets differ: name to (own value, other's value)."""
        own, others = asdict(self), asdict(other)
        pairs: dict[str, tuple[object, object]] = {}
        for name, value in own.items():
            if name in ("options", "fingerprint"):
                mine, theirs = dict(value), dict(others[name])
                for key in sorted({*mine, *theirs}):
                    if mine.get(key) != theirs.get(key):
                        pairs[f"{name}.{key}"] = (mine.get(key), theirs.get(key))
            elif value != others[name]:
                pairs[name] = (value, others[name])
        return pairs

    def __str__(self) -> str:
        threads = "threads not told" if self.threads is None else f"{self.threads} thread(s)"
        batch = "batch not told" if self.batch is None else f"batch {self.batch}"
        runtime = f"{self.runtime} {self.runtime_version}".rstrip()
        return f"{self.device} ({runtime}, {self.precision}, {threads}, {batch})"


def require_same_target(first: Target, others: Iterable[Target], what: str) -> None:
    """Raise :class:`TargetMismatchError`, naming the fields that differ, unless all targets are ``first``."""
    for other in others:
        differing = first.differences(other)
        if differing:
            listed = "; ".join(f"{name}: {own!r} against {theirs!r}" for name, (own, theirs) in list(differing.items())[:4])
            raise TargetMismatchError(
                f"{what}: the targets differ in {listed}",
                "numbers of different targets cannot be mixed; measure again on one target, or keep them apart",
            )
