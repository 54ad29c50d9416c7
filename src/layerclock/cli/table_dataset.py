"""``layerclock table publish``, ``query`` and ``compact``: many tables as one dataset."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import click

from layerclock.cli.output import json_option, print_json, print_table
from layerclock.errors import ArgumentError, TableError

__all__ = ["compact", "publish", "query"]


@click.command("publish")
@click.argument("paths", metavar="TABLE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--to", "url", required=True, metavar="URL", help="Dataset: a folder, s3://BUCKET/FOLDER, or what else fsspec knows.")
@json_option
def publish(paths: tuple[Path, ...], url: str, as_json: bool) -> None:
    """Add tables to a dataset of many devices. One that is there already adds nothing; several may publish at once.

    A file that is no table stops it before anything is added.

    Example: layerclock table publish runs/*/table.parquet --to s3://latencies/lab
    """
    from layerclock.datasets.partitioned import LatencyDataset
    from layerclock.datasets.table import read_table

    dataset = LatencyDataset(url)
    tables = {str(path): read_table(path) for path in paths}
    added = {path: dataset.append(table) for path, table in tables.items()}
    if as_json:
        print_json({"dataset": url, "rows_added": added})
    else:
        print_table(url, ("rows added", "table"), [(str(rows), path) for path, rows in added.items()])


@click.command("query")
@click.argument("url")
@click.option("--device", help="Device, such as openvino:CPU.")
@click.option("--runtime", help="Runtime, with or without its version.")
@click.option(
    "--space", metavar="NAME[@DIGEST]", help="Search space; of several of one name, the one whose digest begins so, or DIGEST alone."
)
@click.option("--level", type=click.Choice(["layer", "kernel", "network"]), help="Which rows.")
@click.option("--op", help="Kind of layer or kernel.")
@click.option("--target", metavar="ID", help="One target, by the id that table card tells.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write what is found as a table.")
@json_option
def query(
    url: str,
    device: str | None,
    runtime: str | None,
    space: str | None,
    level: str | None,
    op: str | None,
    target: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Ask a dataset for a device, runtime, space, level, operator or target; the rest is not read. Without -o, list what it holds.

    Example: layerclock table query s3://latencies/lab --device openvino:CPU --op Conv -o conv.parquet
    """
    from layerclock.datasets.partitioned import LatencyDataset, Selection

    name, digest = _space_and_digest(space)
    dataset, selection = LatencyDataset(url), Selection(device, runtime, name, level, op, target=target, digest=digest)
    if output is not None:
        if Path(url).resolve() in output.resolve().parents:
            raise ArgumentError(f"-o {output} lies in the dataset, which would take it for a part", "name a file elsewhere")
        table = dataset.table(selection)
        table.write(output)
        if as_json:
            print_json({"file": str(output), "rows": len(table), "targets": list(table.targets), "parents": table.provenance.parents})
        else:
            click.echo(f"{output}: {len(table)} rows of {len(table.targets)} targets")
        return
    parts = dataset.partitions(selection)
    counted = [dataset.count(Selection(**part, digest=digest)) for part in parts]
    if op or target:
        counted = [
            dataset.query(Selection(**part, op=op, target=target, digest=digest)).num_rows if rows else 0
            for part, rows in zip(parts, counted, strict=True)
        ]
    found = [(part, rows) for part, rows in zip(parts, counted, strict=True) if rows]
    if not found:
        raise TableError(f"{url} holds nothing of that", "layerclock table query URL lists what it holds, if it is a dataset")
    if as_json:
        print_json([{**part, "rows": rows} for part, rows in found])
    else:
        names = ("device", "runtime", "space", "level")
        print_table(url, ("rows", *names), [(str(rows), *(part[name] for name in names)) for part, rows in found])


def _space_and_digest(text: str | None) -> tuple[str | None, str | None]:
    """``NAME``, ``NAME@DIGEST`` or ``DIGEST``, of which eight digits are enough."""
    found = re.fullmatch(r"(?:(.*)@)?([0-9a-f]{8,64})", text or "")
    return (found[1], found[2]) if found else (text, None)


@click.command("compact")
@click.argument("url")
@json_option
def compact(url: str, as_json: bool) -> None:
    """Merge a dataset's small parts, which many publications leave. Safe beside writers, readers and crashes.

    Example: layerclock table compact s3://latencies/lab
    """
    from layerclock.datasets.partitioned import LatencyDataset

    done = LatencyDataset(url).compact()
    if as_json:
        print_json({"dataset": url, **asdict(done)})
    else:
        click.echo(f"{url}: {done.parts_before} parts are {done.parts_after} now, {done.bytes_written / 2**20:.1f} MB were written")
