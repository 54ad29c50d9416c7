"""The latencies of translation transformers that HAT measured (Wang et al., ACL 2020, arXiv:2005.14187).

Format, after `latency_dataset.py` of https://github.com/mit-han-lab/hardware-aware-transformers: a CSV for each task and device, called
`<task>_<device>_all.csv`; ten features of a network, then means and standard deviations, in ms, of the encoder's one pass and of the
decoder's steps for a whole sentence (its attention's keys and values of the source among them). A Parquet copy has columns ``task``
and ``device`` besides.

The features are *averages* over layers: which network it was is not told, so that no genome stands in the rows.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from layerclock.datasets.public.latencies import NamedLatencies, Settings
from layerclock.datasets.public.wide_parquet import read_columns
from layerclock.errors import TableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FEATURES", "read_hat"]

SOURCE = "https://github.com/mit-han-lab/hardware-aware-transformers"
FEATURES = (
    "encoder_embed_dim",
    "encoder_layer_num",
    "encoder_ffn_embed_dim_avg",
    "encoder_self_attention_heads_avg",
    "decoder_embed_dim",
    "decoder_layer_num",
    "decoder_ffn_embed_dim_avg",
    "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg",
    "decoder_arbitrary_ende_attn_avg",
)
_PARTS = ("encoder", "decoder")
_FILE = re.compile(r"(?P<task>[^_]+)_(?P<device>.+)_all")


def read_hat(path: Path) -> list[NamedLatencies]:
    """The tasks and devices of one file, CSV or Parquet; every network gives an encoder and a decoder.

    Raises :class:`TableError` if the file cannot be read or lacks a column.
    """
    table = read_columns(path) if path.suffix == ".parquet" else _csv(path)
    missing = [name for name in (*FEATURES, *(_column(what, part) for what in ("mean", "std") for part in _PARTS))
               if name not in table.column_names]  # fmt: skip
    if missing:
        raise TableError(f"{path} has no column {missing[0]!r}", f"give a file of latency_dataset/ in {SOURCE}")
    if "device" in table.column_names and "task" in table.column_names:
        groups = dict.fromkeys(zip(table["task"].to_pylist(), table["device"].to_pylist(), strict=True))
        return [
            _of(table.filter(pc.and_(pc.equal(table["task"], task), pc.equal(table["device"], device))), task, device)
            for task, device in groups
        ]
    told = _FILE.fullmatch(path.stem)
    return [_of(table, told["task"], told["device"]) if told else _of(table, "", path.stem)]


def _column(what: str, part: str) -> str:
    return f"latency_{what}_{part}"


def _csv(path: Path) -> pa.Table:
    try:
        return csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"cannot read {path}: {str(error).splitlines()[0]}", "it may be truncated: copy it again") from error


def _of(table: pa.Table, task: str, device: str) -> NamedLatencies:
    try:
        features = table.select(FEATURES).to_pylist()
        mean, std = (
            np.concatenate([table[_column(what, part)].cast(pa.float64()).to_numpy() for part in _PARTS]) for what in ("mean", "std")
        )
    except pa.ArrowException as error:
        raise TableError(f"a latency of {task} on {device} is no number: {error}", "copy the file again") from error
    facts = [json.dumps(row, sort_keys=True) for row in features] * len(_PARTS)
    names = [f"{part} " + ",".join(f"{value:g}" for value in row.values()) for part in _PARTS for row in features]
    return NamedLatencies(
        collection=f"hat:task={task}" if task else "hat",
        names=tuple(names),
        kinds=tuple(part for part in _PARTS for _ in features),
        facts=tuple(facts),
        latency_ms=mean[:, None],
        std_ms=std[:, None],
        holdout=np.zeros(len(names), dtype=np.bool_),
        devices=(device,),
        source=SOURCE,
        licence="MIT",
        settings={device: Settings(batch=1)},
    )
