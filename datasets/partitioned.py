"""Tables of many devices as one dataset: a folder or an object store that is asked for one device and operator without reading the rest.

::

    URL/device=D/runtime=R/space=S/level=L/<content hash>.parquet      parts, one a table
                                          /merged-*.parquet, log-*.json  after a compaction

The names of the folders are percent-encoded, as Hive's are. pandas, Polars and DuckDB read the parts without this package.
"""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from layerclock.datasets.merging import best_rows
from layerclock.datasets.partitions import batches, commit, state_of
from layerclock.datasets.schema import FOOTER_KEY, LEVELS, SCHEMA
from layerclock.datasets.selections import EVERYTHING, FOLDERS, Selection, folder_of, is_runtime, quoted
from layerclock.datasets.storage import Storage
from layerclock.datasets.table import LatencyTable, Provenance
from layerclock.errors import ArgumentError, TableError
from layerclock.target import Target
from layerclock.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["EVERYTHING", "Compacted", "LatencyDataset", "Selection"]

T = TypeVar("T")

_ROWS_A_GROUP = 32_768
_READS = 5


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did, over all partitions."""

    parts_before: int
    parts_after: int
    bytes_written: int


class LatencyDataset:
    """A dataset at ``url``: a folder, ``memory://NAME``, ``s3://BUCKET/FOLDER``, or whatever else fsspec knows.

    Any number of processes may append, read and compact at once. Raises what :class:`~layerclock.datasets.storage.Storage` raises.
    """

    def __init__(self, url: str) -> None:
        self.storage = Storage(url)

    def append(self, table: LatencyTable) -> int:
        """Add a table: the number of rows that were added, 0 if all of them are there.

        A table appended twice, or by two at once, adds nothing the second time: parts are named by content. Raises
        :class:`~layerclock.errors.OutputError` if the place cannot be written.
        """
        footer = table.footer()
        content_hash, added = str(footer["content_hash"]), 0
        name = f"{content_hash[:32]}.parquet"
        # Targets that differ in threads, say, share a folder, and there a part.
        sharing: dict[tuple[str, str], list[str]] = {}
        for identity, target in table.targets.items():
            for level in LEVELS:
                sharing.setdefault((folder_of(target, table.space, level), level), []).append(identity)
        for (folder, level), identities in sharing.items():
            of_targets = pc.is_in(table.rows["target_id"], value_set=pa.array(identities, pa.string()))
            rows = table.rows.filter(pc.and_(of_targets, pc.equal(table.rows["level"], level)))
            if len(rows) and not state_of(self.storage, folder).holds(name):
                self.storage.write(f"{folder}/{name}", _as_part(rows, {content_hash: footer}))
                added += len(rows)
        return added

    def query(self, selection: Selection = EVERYTHING) -> pa.Table:
        """The rows that ``selection`` takes, in the columns of the schema; its metadata hold the footers of the tables they are from.

        All rows as they were published: a key that two tables of one target have is there twice. Only the folders of what is selected
        are listed, and only the row groups that may hold the operator are read. Raises :class:`TableError` if nothing of that device,
        runtime, space or level is there, or a part is damaged.
        """
        return self._settled(lambda: self._query(selection))

    def count(self, selection: Selection = EVERYTHING) -> int:
        """How many rows the partitions that ``selection`` takes hold, from the parts' footers alone; no operators, keys or targets."""
        return self._settled(lambda: self._count(selection))

    def table(self, selection: Selection) -> LatencyTable:
        """The same as one latency table whose parents are the tables it is from.

        Where several of them, such as two campaigns of one target, have a row of a key, the one that was measured better stays, as in
        :func:`~layerclock.datasets.merging.merge_tables`. Raises :class:`~layerclock.errors.ArgumentError` if they are of several spaces.
        """
        rows = self.query(selection)
        if not len(rows):
            raise TableError(
                f"{self.storage.url} holds no rows of {selection}",
                "operators have the runtime's own names (Conv in ONNX Runtime, Convolution in OpenVINO), layers those of the space",
            )
        footers = json.loads(rows.schema.metadata[FOOTER_KEY])
        spaces = {(footer["space"], footer["space_digest"]) for footer in footers.values()}
        if len(spaces) > 1:
            listed = ", ".join([f"{space}@{digest}" for space, digest in sorted(spaces)][:4])
            raise ArgumentError(
                f"a table is of one space, and this selection of {len(spaces)}: {listed}", "take one: --space NAME, or NAME@DIGEST as here"
            )
        ((space, digest),) = spaces
        present = set(pc.unique(rows["target_id"]).to_pylist())
        targets = {one.id: one for footer in footers.values() for one in map(_target, footer["targets"]) if one.id in present}
        written = max(str(footer["provenance"]["written_utc"]) for footer in footers.values())
        licences = sorted({str(footer["provenance"]["licence"]) for footer in footers.values()})
        provenance = Provenance(
            f"layerclock {VERSION}", f"selected from {self.storage.url}", "", written, " and ".join(licences),
            {"source": self.storage.url}, tuple(sorted(footers)),
        )  # fmt: skip
        rows = best_rows(rows.replace_schema_metadata(SCHEMA.metadata).cast(SCHEMA))
        return LatencyTable(rows, targets, space, digest, provenance)

    def compact(self, most_bytes: int = 64 * 2**20) -> Compacted:
        """Merge the small parts of every partition into parts of about ``most_bytes``, sorted by operator.

        A crash at any moment leaves every row there once for :meth:`query`; what it leaves behind, and other readers would count, the
        next compaction deletes. Of two compactions at once, one takes effect. Raises :class:`~layerclock.errors.OutputError` if the
        place cannot be written, :class:`TableError` if no dataset is there.
        """
        folders = list(self._partitions(Selection()))
        if not folders:
            raise TableError(f"{self.storage.url} holds no dataset", "layerclock table publish TABLE... --to URL makes one")
        done = [self._settled(partial(self._compacted, folder, most_bytes)) for folder in folders]
        return Compacted(*(sum(numbers) for numbers in zip(*map(astuple, done), strict=True)))

    def _compacted(self, folder: str, most_bytes: int) -> Compacted:
        """Compact one partition. Where another compaction is faster, what this one wrote is left over, and goes with the next."""
        state = state_of(self.storage, folder)
        merged, replaced = dict[str, int](), set[str]()
        # Rows do not tell their space's digest: the parts of each stay apart.
        kinds: dict[frozenset[str], dict[str, int]] = {}
        small = {name: size for name, size in state.parts.items() if size < most_bytes // 2}
        for name, size in small.items() if len(small) > 1 else ():
            kinds.setdefault(self._digests(self.storage.path(f"{folder}/{name}")), {})[name] = size
        for batch in (batch for parts in kinds.values() for batch in batches(parts, most_bytes)):
            content = self._merged(folder, batch)
            name = f"merged-{uuid.uuid4().hex}.parquet"
            self.storage.write(f"{folder}/{name}", content)
            merged[name] = len(content)
            replaced |= set(batch)
        took = bool(merged or state.left_over) and commit(self.storage, folder, state, merged, replaced)
        saved = len(replaced) - len(merged) if took else 0
        return Compacted(len(state.parts), len(state.parts) - saved, sum(merged.values()))

    def _settled(self, read: Callable[[], T]) -> T:
        """What ``read`` gives, which is asked again where a compaction replaced what had just been listed."""
        for _ in range(_READS):
            try:
                return read()
            except FileNotFoundError:
                continue
        raise TableError(f"{self.storage.url} changed {_READS} times while it was read", "try again")

    def _count(self, selection: Selection) -> int:
        paths = self._parts(selection)
        try:
            dataset = pads.FileSystemDataset.from_paths(
                paths, schema=SCHEMA, format=pads.ParquetFileFormat(), filesystem=self.storage.arrow
            )
            return int(dataset.count_rows())
        except pa.ArrowException as error:
            raise self._damaged(error) from error

    def _query(self, selection: Selection) -> pa.Table:
        paths = self._parts(selection)
        if not paths:
            raise TableError(f"{self.storage.url} holds nothing of {selection}", "layerclock table query URL lists what it holds")
        keep = None
        for column, value in (("op", selection.op), ("key", selection.key), ("target_id", selection.target)):
            if value is not None:
                rule = pads.field(column) == value
                keep = rule if keep is None else keep & rule
        arrow = self.storage.arrow
        try:
            dataset = pads.FileSystemDataset.from_paths(
                paths, schema=SCHEMA, format=pads.ParquetFileFormat(), filesystem=arrow
            )  # fmt: skip
            scanner = dataset.scanner(filter=keep, batch_size=_ROWS_A_GROUP, batch_readahead=1, fragment_readahead=2, use_threads=True)
            rows = scanner.to_table()
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error
        footers = {name: footer for path in paths for name, footer in self._footers(path).items()}
        present = set(pc.unique(rows["target_id"]).to_pylist())
        of_rows = {name: one for name, one in footers.items() if any(_target(target).id in present for target in one["targets"])}
        return rows.replace_schema_metadata({FOOTER_KEY: json.dumps(of_rows or footers)})

    def _parts(self, selection: Selection) -> list[str]:
        """Whole paths of the parts that count of the partitions, and of the space's digest, that ``selection`` takes."""
        folders = list(self._partitions(selection))
        paths = [self.storage.path(f"{folder}/{name}") for folder in folders for name in state_of(self.storage, folder).parts]
        wanted, chosen = selection.digest, list[str]()
        for path in paths if wanted is not None else ():
            its = {digest.startswith(str(wanted)) for digest in self._digests(path)}
            if its == {True, False}:
                raise TableError(
                    f"{path} was compacted when spaces of one name were not kept apart", "publish its tables to another dataset"
                )
            chosen += [path] if True in its else []
        return paths if wanted is None else chosen

    def _digests(self, path: str) -> frozenset[str]:
        """Digests of the spaces that a part's tables are of: one, but for parts that early versions compacted."""
        return frozenset(str(footer["space_digest"]) for footer in self._footers(path).values())

    def _footers(self, path: str) -> dict[str, Any]:
        """Footers of the tables that a part has rows of, by content hash. Raises ``FileNotFoundError`` if the part is gone."""
        try:
            with self.storage.arrow.open_input_file(path) as file:
                return _told((pq.read_schema(file).metadata or {})[FOOTER_KEY])
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error, path.rpartition("/")[2]) from error

    def _damaged(self, error: Exception, part: str = "") -> TableError:
        first = (str(error).splitlines() or ["?"])[0]
        named = f"{part}: its footer or rows, at {first}" if part else first
        return TableError(f"a part of {self.storage.url} is damaged: {named}", "delete that part, and publish its table again")

    def partitions(self, selection: Selection) -> list[dict[str, str]]:
        """Device, runtime, space and level of each partition that ``selection`` takes."""
        return [
            {name: unquote(part.partition("=")[2]) for name, part in zip(FOLDERS, folder.split("/"), strict=True)}
            for folder in self._partitions(selection)
        ]

    def _partitions(self, selection: Selection) -> Iterator[str]:
        """Folders of the partitions; what is selected by its whole name is not searched for."""
        folders = [""]
        for name in FOLDERS:
            wanted = getattr(selection, name)
            deeper = []
            for folder in folders:
                at = f"{folder}/" if folder else ""
                if wanted is not None and name != "runtime":
                    deeper.append(f"{at}{name}={quoted(wanted)}")
                    continue
                found = sorted(part for part in self.storage.names(folder) if part.startswith(f"{name}="))
                deeper += [f"{at}{part}" for part in found if wanted is None or is_runtime(part, wanted)]
            folders = deeper
        yield from folders

    def _merged(self, folder: str, names: list[str]) -> bytes:
        tables: list[pa.Table] = []
        footers: dict[str, Any] = {}
        for name in names:
            try:
                rows = pq.read_table(io.BytesIO(self.storage.read(f"{folder}/{name}")))
                footers |= _told((rows.schema.metadata or {})[FOOTER_KEY])
            except (pa.ArrowException, ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._damaged(error, name) from error
            tables.append(rows.replace_schema_metadata(None))
        return _as_part(pa.concat_tables(tables), footers)


def _as_part(rows: pa.Table, footers: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    ordered = rows.sort_by([("op", "ascending"), ("key", "ascending")]).replace_schema_metadata({FOOTER_KEY: json.dumps(footers)})
    pq.write_table(ordered, file, compression="zstd", row_group_size=_ROWS_A_GROUP, write_page_checksum=True)
    return file.getvalue()


def _told(written: bytes) -> dict[str, Any]:
    """Footers by content hash. Raises ``ValueError``, ``KeyError``, ``TypeError`` or ``AttributeError`` where one is none."""
    footers: dict[str, Any] = dict(json.loads(written).items())
    for footer in footers.values():
        _ = (footer["space"], footer["space_digest"], footer["provenance"]["written_utc"], footer["provenance"]["licence"])
        for target in footer["targets"]:
            _target(target)
    return footers


def _target(fields: dict[str, Any]) -> Target:
    return Target.from_json(json.dumps(fields))
