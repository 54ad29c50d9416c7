"""``layerclock table import``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerclock.cli.output import json_option, print_json, print_table
from layerclock.errors import ArgumentError, TableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.datasets.table import LatencyTable

__all__ = ["command"]

# The formats stand here so that --help imports no reader; a test holds the list against the readers' own.
FORMATS = ("rows", "help", "hw-nas-bench", "latbench", "hat", "ofa-yaml", "nn-meter", "nnlqp", "wide-parquet")


@click.command("import")
@click.argument("kind", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("paths", metavar="PATH...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the tables.")
@click.option("--space", default="", help="Search space of the networks, where the files leave it open.")
@click.option("--device", default="", help="Name of the device, where the files do not tell it (ofa-yaml).")
@json_option
def command(kind: str, paths: tuple[Path, ...], output: Path, space: str, device: str, as_json: bool) -> None:
    """Turn latencies that others published into tables, one a device.

    \b
    FORMAT is one of
      rows          CSV or JSONL of `table export`, and the .footer.json beside it
      help          HELP's folder data/nasbench201 or data/fbnet
      hw-nas-bench  HW-NAS-Bench-v1_0.pickle
      latbench      pickles of LatBench (BRP-NAS), one a device
      hat           CSVs of HAT, or a Parquet copy
      ofa-yaml      once-for-all's lookup tables for MobileNetV3
      nn-meter      JSONL files of nn-Meter's dataset
      nnlqp         gt.txt of NNLQP
      wide-parquet  a column arch_str, arch or genome, one of ms a device

    What was not published (samples, intervals, noise) is null. No file can run anything. A table of other content is not written over.

    Example: layerclock table import latbench desktop-cpu.pickle -o tables
    """
    from layerclock.datasets.public.formats import import_tables

    tables = import_tables(kind, paths, space, device)
    files = [output / f"{name}.parquet" for name in _names(tables)]
    for table, file in zip(tables, files, strict=True):
        _refuse_other_content(file, table)
    for table, file in zip(tables, files, strict=True):
        table.write(file)
    if as_json:
        print_json(
            [
                {"table": str(file), "device": table.target.device, "target": str(table.target), "space": table.space, "rows": len(table),
                 "source": table.provenance.conditions.get("source", ""), "licence": table.provenance.licence}
                for table, file in zip(tables, files, strict=True)
            ]
        )  # fmt: skip
        return
    cells = [(str(len(table)), table.target.device, table.space, file.name) for table, file in zip(tables, files, strict=True)]
    print_table(f"{len(tables)} tables in {output}", ("rows", "device", "space", "file"), cells)


def _refuse_other_content(file: Path, table: LatencyTable) -> None:
    """Raise :class:`ArgumentError` if ``file`` is there and holds something else: its name is the device's, and not its source's."""
    from layerclock.datasets.table import read_table

    if not file.exists():
        return
    try:
        same = read_table(file).content_hash == table.content_hash
    except TableError:
        same = False
    if not same:
        raise ArgumentError(f"{file} is there, with other content", "name another folder with -o, or move that file away")


def _names(tables: Sequence[LatencyTable]) -> list[str]:
    """A file name for each table: the device's, and as much more as tells it from the others."""
    fullest = [
        [_plain(table.target.device), _plain(table.space), f"batch{table.target.batch}", str(number)]
        for number, table in enumerate(tables, start=1)
    ]
    names = []
    for own in fullest:
        parts = next(number for number in range(1, 5) if sum(other[:number] == own[:number] for other in fullest) == 1)
        names.append("-".join(own[:parts]))
    return names


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.") or "table"
