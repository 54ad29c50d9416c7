"""The formats of published latencies by name, each with its reader: what ``layerclock table import`` offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerclock.datasets.public.as_tables import named_tables, space_tables
from layerclock.datasets.public.hat import read_hat
from layerclock.datasets.public.help_folder import read_help
from layerclock.datasets.public.hw_nas_bench import hw_nas_bench_tables
from layerclock.datasets.public.latbench import read_latbench
from layerclock.datasets.public.nn_meter import read_nn_meter
from layerclock.datasets.public.nnlqp import read_nnlqp
from layerclock.datasets.public.ofa_yaml import read_ofa_yaml
from layerclock.datasets.public.wide_parquet import read_wide_parquet
from layerclock.datasets.row_files import read_rows
from layerclock.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable

__all__ = ["FORMATS", "Format", "import_tables"]


@dataclass(frozen=True, slots=True)
class Format:
    """A reader of files, with a space and a device's name as far as it takes them: empty where the files are to tell."""

    description: str
    read: Callable[[Sequence[Path], str, str], list[LatencyTable]]
    takes_space: bool = True
    takes_device: bool = False


def import_tables(name: str, paths: Sequence[Path], space: str = "", device: str = "") -> list[LatencyTable]:
    """The tables, one a device and space, that files of a published format hold.

    Raises :class:`UnknownNameError` for another format, :class:`ArgumentError` for a space or device where the files tell it themselves,
    and :class:`~layerclock.errors.TableError` if a file cannot be read.
    """
    if name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    chosen = FORMATS[name]
    for given, taken, what in ((space, chosen.takes_space, "space"), (device, chosen.takes_device, "device")):
        if given and not taken:
            raise ArgumentError(f"files of the format {name} tell their {what} themselves: {given!r} cannot be", f"leave out --{what}")
    return chosen.read(paths, space, device)


FORMATS = {
    "rows": Format(
        "CSV or JSONL that `layerclock table export` wrote, with its .footer.json beside it",
        lambda paths, *_: [read_rows(path) for path in paths],
        takes_space=False,
    ),
    "help": Format(
        "HELP's folder data/nasbench201 or data/fbnet, or files of its latency/",
        lambda paths, space, _: space_tables(read_help(paths, space)),
    ),
    "hw-nas-bench": Format(
        "HW-NAS-Bench-v1_0.pickle: networks of NAS-Bench-201, layers of FBNet",
        lambda paths, space, _: [table for path in paths for table in hw_nas_bench_tables(path, space)],
    ),
    "latbench": Format(
        "LatBench's (BRP-NAS) pickles of NAS-Bench-201, one a device", lambda paths, space, _: space_tables(read_latbench(paths, space))
    ),
    "hat": Format(
        "HAT's CSVs of translation transformers, or a Parquet copy",
        lambda paths, *_: [table for path in paths for part in read_hat(path) for table in named_tables(part)],
        takes_space=False,
    ),
    "ofa-yaml": Format(
        "once-for-all's lookup tables of MobileNetV3 layers, one a resolution",
        lambda paths, space, device: [read_ofa_yaml(path, space, device) for path in paths],
        takes_device=True,
    ),
    "nn-meter": Format("nn-Meter's JSONL files, one a family", lambda paths, *_: named_tables(read_nn_meter(paths)), takes_space=False),
    "nnlqp": Format(
        "NNLQP's lists gt.txt",
        lambda paths, *_: [table for path in paths for part in read_nnlqp(path) for table in named_tables(part)],
        takes_space=False,
    ),
    "wide-parquet": Format(
        "Parquet with a column arch_str, arch or genome, and a column of ms a device",
        lambda paths, space, _: [table for path in paths for table in space_tables(read_wide_parquet(path, space))],
    ),
}
