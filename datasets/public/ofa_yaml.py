"""Once-for-all's latency tables for MobileNetV3 (Cai et al., ICLR 2020, arXiv:1908.09791), read and written.

Format, after the published `<resolution>_lookup_table.yaml` and `MBv3LatencyTable` in https://github.com/mit-han-lab/once-for-all: YAML;
for each layer, under a key that says what it is, "count", and "mean" and "std" in ms. :mod:`layerclock.datasets.public.ofa_keys` has the
keys. A table that is read and written again is the same text.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from layerclock.atomic import write_atomically
from layerclock.datasets.public.latencies import Settings
from layerclock.datasets.public.layer_tables import PublishedLayer, layer_table
from layerclock.datasets.public.ofa_keys import entries_of, ofa_space
from layerclock.errors import CoverageError, TableError
from layerclock.plugins import load_space
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerclock.datasets.table import LatencyTable

__all__ = ["read_ofa_yaml", "write_ofa_yaml"]

SOURCE = "https://github.com/mit-han-lab/once-for-all"

Entry = dict[str, Any]


def read_ofa_yaml(path: Path, space: str = "", device: str = "") -> LatencyTable:
    """The layers of a table as rows of ``space``, by default that which the entries are of; the device is by default the file's name.

    Raises :class:`TableError` if the file cannot be read or has another form, or an entry is of no layer of the space.
    """
    entries = _read(path)
    known = ofa_space(list(entries), space)
    layers: dict[str, PublishedLayer] = {}
    used: set[str] = set()
    for key, names in entries_of(known).items():
        if all(name in entries for name in names):
            layers[key] = _published({name: entries[name] for name in names})
            if layers[key].mean_us <= 0:
                raise TableError(f"{path}: {names[-1]} takes no time", "leave out what was not measured")
            used |= set(names)
    foreign = sorted(set(entries) - used)
    if foreign:
        raise TableError(
            f"{path}: {foreign[0]} is no layer of {known.name}", f"{len(foreign)} entries are not: name their space with --space"
        )
    return layer_table(known, layers, device or path.stem, Settings(batch=1), SOURCE, "MIT")


def _read(path: Path) -> dict[str, Entry]:
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}", "give a lookup table of once-for-all") from error
    except (RecursionError, ValueError, yaml.YAMLError) as error:
        raise TableError(f"{path} is no YAML: {str(error).splitlines()[0]}", "it may be truncated: copy it again") from error
    if not isinstance(held, dict) or not held:
        raise TableError(f"{path} holds no entries", "give a lookup table of once-for-all")
    for key, entry in held.items():
        if not isinstance(key, str) or not _is_entry(entry):
            raise TableError(f"{path}: the entry {key!r} has no mean time in ms, or other values", "it may be truncated: copy it again")
    return held


def _is_entry(entry: object) -> bool:
    """Whether it holds numbers by name, and a mean among them."""
    if not isinstance(entry, dict):
        return False
    return all(type(value) in (int, float) and math.isfinite(value) for value in entry.values()) and entry.get("mean", -1) >= 0


def _published(entries: Mapping[str, Entry]) -> PublishedLayer:
    """A layer of one entry, or of several: then nothing is known of its samples."""
    mean_us = 1e3 * sum(entry["mean"] for entry in entries.values())
    if len(entries) > 1:
        return PublishedLayer(mean_us, entries)
    (entry,) = entries.values()
    std = entry.get("std")
    return PublishedLayer(mean_us, entries, None if std is None else 1e3 * std, entry.get("count"))


def write_ofa_yaml(table: LatencyTable, path: Path | str) -> None:
    """Write the layer rows of a table of ``ofa-mobilenetv3`` so that once-for-all's estimator finds every entry that it looks up.

    Where one of our layers is two of their entries, and the table does not say how its time divides, all of it stands in the last, and the
    others have a mean of 0 with a count of 0: the estimator always adds both. Raises :class:`TableError` for a table of another space,
    :class:`CoverageError` if a layer has no measurement, and :class:`~layerclock.errors.OutputError` if the file cannot be written.
    """
    space = load_space(table.space)
    names = entries_of(space)
    if table.space_digest != SiteIndex.of(space).digest:
        raise TableError(f"the table is of another version of {table.space}", "profile again, or import it again")
    table.target  # noqa: B018 - raises where the table holds several
    rows = {row["key"]: row for row in table.level("layer").to_pylist() if row["latency_us"] is not None}
    missing = [key for key in names if key not in rows]
    if missing:
        raise CoverageError(
            f"{len(missing)} of the {len(names)} layers of {table.space} have no measurement, {missing[0]} for one",
            "profile more networks: the first ones of a plan cover every layer",
        )
    entries: dict[str, Entry] = {}
    for key, own in names.items():
        entries |= _as_published(rows[key], own) or _from_row(rows[key], own)
    text = yaml.dump(entries)
    write_atomically(Path(path), lambda draft: draft.write_text(text, encoding="utf-8"))


def _as_published(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Entry]:
    """The entries that the row was made of, where it was imported and its time is still theirs."""
    try:
        held: dict[str, Entry] = dict(json.loads(row["attributes"] or "{}").get("published", {}))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TableError(f"the attributes of {row['key']} are no JSON object: {error}", "use the original file") from error
    if not all(map(_is_entry, held.values())):
        raise TableError(f"the attributes of {row['key']} hold an entry without a mean time in ms", "use the original file")
    if set(held) != set(names):
        return {}
    return held if 1e3 * sum(entry["mean"] for entry in held.values()) == row["latency_us"] else {}


def _from_row(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Entry]:
    *others, last = names
    entry = {"count": row["n_samples"], "mean": row["latency_us"] / 1e3, "std": None if row["std_us"] is None else row["std_us"] / 1e3}
    told = {name: value for name, value in entry.items() if value is not None}
    return {name: {"count": 0, "mean": 0.0} for name in others} | {last: told}
