"""``layerclock predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from layerclock.cli.options import Shape
from layerclock.cli.output import json_option, print_json, print_table
from layerclock.cli.predict_models import predict_models
from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from layerclock.space import GenomeArray


# More would not be read, and not fit into memory.
_MOST_RANDOM = 10_000_000


@click.command("predict")
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL.onnx]...")
@click.option("--predictor", "predictor_path", required=True, type=click.Path(path_type=Path), help="Predictor file.")
@click.option("--genome", "genomes", multiple=True, metavar="N,N,...", help="Positions of the choices; may be repeated.")
@click.option(
    "--config", "configs", multiple=True, metavar="JSON", help='Chosen values by gene, such as {"stage1.depth": 3}; may be repeated.'
)
@click.option("--random", "number", type=click.IntRange(0, _MOST_RANDOM), default=0, help="So many random genomes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of --random.")
@click.option("--shape", "shapes", multiple=True, type=Shape(), help="Shape of a model's input with free axes; may be repeated.")
@json_option
def command(
    models: tuple[Path, ...], predictor_path: Path, genomes: tuple[str, ...], configs: tuple[str, ...], number: int, seed: int,
    shapes: tuple[tuple[str, tuple[int, ...]], ...], as_json: bool,
) -> None:  # fmt: skip
    """Predict the latency of networks of the predictor's space, or of any ONNX models with a kernelwise predictor.

    For genomes neither the space, the device nor torch is needed: the file says all. For a model the runtime's compiler is
    asked which kernels it makes; the model is not timed, and only run, once, on ONNX Runtime, if onnx cannot infer its
    shapes. Where the target's runtime is absent, the fusions that it was seen to make stand in.

    \b
    Examples: layerclock predict --predictor cpu.onnx --random 5
              layerclock predict any_network.onnx --predictor kernels.onnx
    """
    from layerclock.predictors.portable import is_kernelwise, load

    if is_kernelwise(predictor_path):
        if not models or genomes or configs or number:
            raise click.UsageError("this predictor is kernelwise: give at least one MODEL.onnx, and no genomes")
        predict_models(models, predictor_path, dict(shapes), as_json)
        return
    if models:
        raise click.UsageError("this predictor is for genomes of one space; `layerclock fit --kind kernelwise` makes one for models")
    if shapes:
        raise click.UsageError("--shape is for models; this predictor is for genomes of one space")
    predictor = load(predictor_path)
    cardinality = [len(gene.choices) for gene in predictor.card.genes]
    chosen: list[GenomeArray] = [_parse_genome(text, cardinality) for text in genomes]
    chosen += [predictor.encode(_parse_config(text)) for text in configs]
    chosen += list(np.random.default_rng(seed).integers(0, cardinality, (number, len(cardinality))))
    if not chosen:
        raise click.UsageError("give --genome, --config or --random")
    lengths = {len(genome) for genome in chosen} - {len(cardinality)}
    if lengths:
        raise ArgumentError(f"a genome has {lengths.pop()} values, this predictor needs {len(cardinality)}", "separate them by commas")
    array = np.array(chosen, dtype=np.int64)
    predictions = predictor.predict(array)
    columns = zip(predictions.latency_ms, predictions.lower_ms, predictions.upper_ms, predictions.coverage, array, strict=True)
    rows = [(float(ms), float(low), float(high), float(coverage), genome.tolist()) for ms, low, high, coverage, genome in columns]
    if as_json:
        names = ("latency_ms", "lower_ms", "upper_ms", "coverage", "genome")
        print_json({"target": str(predictor.target), "networks": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    cells = [
        (
            f"{ms:.3f}",
            f"{low:.3f} .. {high:.3f}",
            f"{coverage:.0%}",
            "".join(map(str, genome)) if max(cardinality) <= 10 else ",".join(map(str, genome)),
        )
        for ms, low, high, coverage, genome in rows
    ]
    print_table(str(predictor.target), ("ms", f"{predictor.card.interval_level:.0%} interval", "coverage", "genome"), cells)


def _parse_genome(text: str, cardinality: list[int]) -> GenomeArray:
    # As it is printed: a digit for each gene, where that is all that they need.
    values = (
        list(text) if text.isdigit() and len(text) == len(cardinality) and max(cardinality) <= 10 else text.replace(" ", ",").split(",")
    )
    try:
        return np.array([int(value) for value in values if value], dtype=np.int64)
    except (ValueError, OverflowError):
        raise ArgumentError(f"--genome {text!r} is not a list of whole numbers", "for example --genome 0,2,1") from None


def _parse_config(text: str) -> dict[str, int | float | str]:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"--config is not JSON: {error}", """for example --config '{"stage1.depth": 3}'""") from None
    if not isinstance(config, dict):
        raise ArgumentError("--config is not a JSON object", """for example --config '{"stage1.depth": 3}'""")
    return config
