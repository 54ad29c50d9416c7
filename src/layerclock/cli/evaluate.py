"""``layerclock evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerclock.cli.output import json_option, print_json, print_table, quiet_option, refuse_without, told

if TYPE_CHECKING:
    from layerclock.predictors.evaluate import Evaluation


@click.command("evaluate")
@click.argument("predictor_path", metavar="PREDICTOR", required=False, type=click.Path(path_type=Path))
@click.argument("table_path", metavar="TABLE", required=False, type=click.Path(path_type=Path))
@click.option(
    "--role", type=click.Choice(["holdout", "profiled"]), default="holdout", show_default=True, help="Networks to hold it against."
)
@click.option("--other-target", is_flag=True, help="Hold it against another target's table, too.")
@click.option("--tasks", default="", metavar="COLLECTION", help="Instead: judge transfer on published tasks; nasflat.")
@click.option("--task", "task_names", multiple=True, help="With --tasks: one of them only; may be repeated.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="With --tasks: their files.  [default: $LAYERCLOCK_DATA]")
@click.option("--samples", default=20, show_default=True, help="With --tasks: networks measured on each unseen device.")
@click.option("--seeds", default=1, show_default=True, help="With --tasks: draws of the networks.")
@json_option
@quiet_option
def command(
    predictor_path: Path | None, table_path: Path | None, role: str, other_target: bool, tasks: str, task_names: tuple[str, ...],
    data: Path | None, samples: int, seeds: int, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Hold a predictor against measured networks that it never saw.

    A kernelwise one is held against networks that were profiled kernel by kernel, and --role says nothing.

    \b
    Examples: layerclock evaluate cpu.onnx runs/x/table.parquet
              layerclock evaluate --tasks nasflat --task F4
    """
    if tasks:
        from layerclock.cli.evaluate_tasks import evaluate_tasks

        evaluate_tasks(tasks, data, task_names, samples, seeds, as_json, quiet)
        return
    refuse_without("--tasks", {"task_names": "task"} | {one: one for one in ("data", "samples", "seeds")})
    if predictor_path is None or table_path is None:
        raise click.UsageError("give PREDICTOR and TABLE, or --tasks nasflat")
    from layerclock.datasets.table import read_table
    from layerclock.predictors.evaluate import evaluate
    from layerclock.predictors.portable import is_kernelwise, load

    if is_kernelwise(predictor_path):
        _evaluate_kernelwise(predictor_path, table_path, other_target, as_json)
        return
    predictor = load(predictor_path)
    result = evaluate(predictor, read_table(table_path), role, other_target=other_target)
    if as_json:
        print_json({"predictor": str(predictor_path), "table": str(table_path), "role": role, **result.to_dict()})
        return
    print_table(f"{predictor.card.kind} predictor on {result.networks} {role} networks", ("", ""), _rows(result))


def _rows(result: Evaluation) -> list[tuple[str, str]]:
    """An evaluation as rows of name and value, in words for people."""
    return [
        ("mean error", f"{result.mean_error:.2%}"),
        ("noise floor of the truth", told(result.noise_floor, ".2%")),
        ("largest error", f"{result.largest_error:.2%}"),
        ("within 5 % / 10 %", f"{result.within_5_percent:.0%} / {result.within_10_percent:.0%}"),
        ("Spearman / Kendall", f"{result.spearman:.3f} / {result.kendall:.3f}"),
        ("inside the interval", f"{result.interval_coverage:.0%} (meant: {result.interval_level:.0%})"),
    ]


def _evaluate_kernelwise(predictor_path: Path, table_path: Path, other_target: bool, as_json: bool) -> None:
    from layerclock.datasets.table import read_table
    from layerclock.predictors.evaluate_kernels import evaluate_kernelwise
    from layerclock.predictors.portable_kernels import load_kernelwise

    result = evaluate_kernelwise(load_kernelwise(predictor_path), read_table(table_path), other_target=other_target)
    if as_json:
        print_json({"predictor": str(predictor_path), "table": str(table_path), **result.to_dict()})
        return
    floor = result.own_kernels
    print_table(
        f"kernelwise predictor on {result.networks.networks} networks",
        ("", ""),
        [
            *_rows(result.networks),
            ("known kernels' share of time", f"{result.coverage:.0%}"),
            ("with their own kernels: mean error", f"{floor.mean_error:.2%}"),
            ("with their own kernels: within 5 % / 10 %", f"{floor.within_5_percent:.0%} / {floor.within_10_percent:.0%}"),
        ],
    )
    print_table(
        "by family of network",
        ("family", "networks", "mean error", "signed"),
        [(name, str(number), f"{error:.1%}", f"{signed:+.1%}") for name, (signed, error, number) in result.by_network_family.items()],
    )
    print_table(
        "by family of kernel, weighted by time",
        ("family", "kernels", "of the time", "mean error", "signed"),
        [
            (name, str(number), f"{share:.0%}", f"{error:.1%}", f"{signed:+.1%}")
            for name, (signed, error, number, share) in result.by_kernel_family.items()
        ],
    )
