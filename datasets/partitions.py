"""One partition of a dataset: a folder of parts that nobody changes, and a log that says which of them count.

A part is called by the content hash of its table: written twice, it is the same file. A compaction writes a merged part, then the next
number of the log, which names the merged parts and what is *contained* in them, and only then deletes. Of several compactions at once one
gets the number, and the others drop what they did. A reader takes the highest number of the log, its merged parts, and every part that is
not contained. So a crash leaves the state before or after, with files that nobody counts; the next compaction deletes them. (The idea of
an ordered log of whole files whose next entry is created exclusively is Delta Lake's: Armbrust et al., VLDB 2020, section 3.)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layerclock.datasets.storage import Storage

__all__ = ["State", "batches", "commit", "state_of"]

_LOG, _MERGED, _PART = "log-", "merged-", ".parquet"


@dataclass(frozen=True, slots=True)
class State:
    """What a partition holds: live parts with their sizes in bytes, the parts contained in merged ones, and the log's number.

    ``left_over`` are files that do not count: what a crashed compaction did not come to delete, or one that is still at work has written.
    """

    parts: dict[str, int]
    contained: frozenset[str] = field(default_factory=frozenset)
    number: int = 0
    left_over: frozenset[str] = field(default_factory=frozenset)

    def holds(self, part: str) -> bool:
        """Whether a part's rows are there, on their own or merged."""
        return part in self.parts or part in self.contained


def state_of(storage: Storage, folder: str) -> State:
    """Read a partition's state. Raises :class:`TableError` if its log is damaged."""
    names = storage.names(folder)
    logs = _logs(names)
    contained, merged, number = frozenset[str](), list[str](), 0
    if logs:
        try:
            written = json.loads(storage.read(f"{folder}/{logs[-1]}"))
            contained, merged = frozenset(map(str, written["contains"])), [str(name) for name in written["merged"]]
            number = int(logs[-1].removeprefix(_LOG).removesuffix(".json"))
        except FileNotFoundError:  # a compaction has just put the next one in its place
            return state_of(storage, folder)
        except (ValueError, KeyError, TypeError) as error:
            raise TableError(f"{storage.url}/{folder}/{logs[-1]} is damaged: {error}", "restore it from a copy of the dataset") from error
    if _logs(storage.names(folder))[-1:] != logs[-1:]:
        # Listing takes its time: a part that a compaction deleted meanwhile may be missing without the log that says where its rows are.
        return state_of(storage, folder)
    parts = [name for name in names if name.endswith(_PART) and not name.startswith(".")]
    plain = [name for name in parts if not name.startswith(_MERGED) and name not in contained]
    left_over = frozenset(parts) - {*merged, *plain} | frozenset(logs[:-2])
    return State({name: names.get(name, 0) for name in (*merged, *plain)}, contained, number, left_over)


def _logs(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(_LOG))


def commit(storage: Storage, folder: str, before: State, merged: dict[str, int], replaced: set[str]) -> bool:
    """Let ``merged`` stand for the parts ``replaced``: whether it took effect; not, if another compaction came first.

    What is no longer counted is deleted, this commit's own merged parts if it did not take effect. What was left over ``before`` may go
    with it: another compaction that wrote some of that began before this one took effect, and so will not.
    """
    contained = before.contained | {name for name in replaced if not name.startswith(_MERGED)}
    kept = [name for name in before.parts if name.startswith(_MERGED) and name not in replaced]
    entry = json.dumps({"merged": [*kept, *merged], "contains": sorted(contained)}).encode()
    own = f"{_LOG}{before.number + 1:08d}.json"
    took = storage.create(f"{folder}/{own}", entry)
    if took and max(name for name in (own, *storage.names(folder)) if name.startswith(_LOG)) > own:
        # Others took this number and the next ones, and deleted it, while the parts were merged.
        storage.remove(f"{folder}/{own}")
        took = False
    for name in sorted(replaced | before.left_over if took else merged):
        storage.remove(f"{folder}/{name}")
    if took and before.number > 1:  # the last one before stays, for readers that have just listed it
        storage.remove(f"{folder}/{_LOG}{before.number - 1:08d}.json")
    return took


def batches(parts: Mapping[str, int], most_bytes: int) -> Iterator[list[str]]:
    """Small parts, with their sizes in bytes, in groups of about ``most_bytes``, smallest first; one alone is left as it is."""
    batch, size = list[str](), 0
    for name, own in sorted(parts.items(), key=lambda part: (part[1], part[0])):
        batch.append(name)
        size += own
        if size >= most_bytes:
            yield batch
            batch, size = [], 0
    if len(batch) > 1:
        yield batch
