"""Reading Parquet files of strangers: how much memory a file would take is looked at before it is taken.

A few kilobytes of Parquet may mean terabytes: pages are compressed, equal rows are run lengths, and a long text is written once
and meant by every row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_bounded"]

# One campaign has some thousand rows, an import of everything that was published some hundred thousand. More is a dataset's.
_MOST_ROWS = 5_000_000
_MOST_BYTES = 2 * 2**30
# Chunks of text that could be more than this once they are unfolded are first read folded.
_SUSPICIOUS_BYTES = 64 * 2**20
_BYTES_A_VALUE = 8


def read_bounded(path: Path) -> pa.Table:
    """The rows of a Parquet file, its pages held against their checksums where it has some.

    Raises ``ValueError`` if they would take more than two gigabytes, and what pyarrow raises for a damaged file.
    """
    # Memory maps would turn a file that shrinks meanwhile into a crash.
    with pq.ParquetFile(path, memory_map=False, page_checksum_verification=True) as file:
        meta = file.metadata
        if meta.num_rows > _MOST_ROWS:
            raise ValueError(f"it says that it has {meta.num_rows} rows; a table has at most {_MOST_ROWS}")
        expected, suspicious = 0, set()
        for group in range(meta.num_row_groups):
            for number in range(meta.num_columns):
                chunk = meta.row_group(group).column(number)
                texts = chunk.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
                expected += chunk.total_uncompressed_size if texts else max(chunk.num_values, 0) * _BYTES_A_VALUE
                if texts and chunk.num_values * chunk.total_uncompressed_size > _SUSPICIOUS_BYTES:
                    suspicious.add(chunk.path_in_schema)
        if not 0 <= expected <= _MOST_BYTES:
            raise ValueError(f"it would take {expected / 2**30:.0f} GB of memory")
        for name in sorted(suspicious):
            expected += _unfolded_bytes(path, name)
            if expected > _MOST_BYTES:
                raise ValueError(f"its column {name!r} would take {expected / 2**30:.0f} GB of memory")
        return file.read()


def _unfolded_bytes(path: Path, name: str) -> int:
    """Bytes of a column of texts as it would be read; read as a dictionary, every text is held once."""
    with pq.ParquetFile(path, read_dictionary=[name], page_checksum_verification=True) as file:
        column = file.read(columns=[name]).column(0)
    total = 0
    for chunk in column.chunks:
        values = chunk
        while pa.types.is_list(values.type):
            values = values.flatten()
        if pa.types.is_dictionary(values.type):
            lengths = pc.binary_length(values.dictionary)
            total += pc.sum(lengths.take(values.indices)).as_py() or 0
        else:
            total += values.nbytes
    return int(total)
