"""``layerclock predict MODEL.onnx``: any network's latency, kernel by kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerclock.cli.output import print_json, print_table
from layerclock.errors import DeviceError, DeviceUnavailableError, MissingExtraError, UnknownNameError
from layerclock.plugins import open_device, options_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from layerclock.interfaces import Device, ModelFile, Session
    from layerclock.predictors.portable_kernels import KernelPrediction, KernelPredictor
    from layerclock.target import Target

__all__ = ["predict_models"]

_SHOWN = 15


def predict_models(models: Sequence[Path], predictor_path: Path, shapes: Mapping[str, tuple[int, ...]], as_json: bool) -> None:
    """Predict and print each model. Raises what preparing it, or asking the runtime's compiler, raises."""
    from layerclock.devices.attribution import SourceGraph
    from layerclock.devices.fusion import fused_kernels
    from layerclock.devices.onnx_file import prepare_model
    from layerclock.predictors.portable_kernels import load_kernelwise

    predictor = load_kernelwise(predictor_path)
    device, absent = _runtime_of(predictor.target)
    if absent:
        click.echo(f"{absent}; the fusions that it was seen to make stand in for its compiler: expect larger errors", err=True)
    documents = []
    for path in models:
        prepared = prepare_model(path, predictor.target.batch or 1, shapes).file
        if device is None:
            kernels = fused_kernels(SourceGraph(prepared.path), predictor.card.fusions)
        else:
            session = _loaded(device, prepared, path)
            kernels = session.kernels()
            session.close()
        prediction = predictor.predict(kernels)
        documents.append(_document(path, prediction, by_rules=device is None))
        if not as_json:
            _print(path, predictor, prediction)
    if as_json:
        print_json({"target": str(predictor.target), "networks": documents})


def _loaded(device: Device, prepared: ModelFile, path: Path) -> Session:
    """``prepared`` on the device; what it refuses is told of ``path``, which the user knows, and not of the copy alone."""
    try:
        return device.load(prepared)
    except DeviceError as error:
        raise DeviceError(f"{path}: {error.message}", error.hint) from error


def _runtime_of(target: Target) -> tuple[Device | None, str]:
    """The device that the predictor is for, to compile with; or None and why not."""
    try:
        device = open_device(target.device, options_of(target))
    except (UnknownNameError, DeviceUnavailableError, MissingExtraError) as error:
        return None, f"{target.device} is not here ({error.message})"
    differing = target.differences(device.target)
    if differing:
        told = ", ".join(f"{name} is {here} here, {there} there" for name, (there, here) in differing.items())
        click.echo(f"kernels are those that this machine's compiler makes, which may be others than the target's: {told}", err=True)
    return device, ""


def _document(path: Path, prediction: KernelPrediction, *, by_rules: bool) -> dict[str, object]:
    return {
        "model": str(path),
        "latency_ms": prediction.latency_ms,
        "lower_ms": prediction.lower_ms,
        "upper_ms": prediction.upper_ms,
        "coverage": prediction.coverage,
        "kernels_from": "fusion rules" if by_rules else "the runtime's compiler",
        "kernels": [
            {
                "name": kernel.name,
                "op": kernel.op,
                "fused_ops": list(kernel.fused_ops),
                "site": kernel.site,
                "latency_us": time,
                "known": known,
            }
            for kernel, time, known in zip(prediction.kernels, prediction.kernel_us.tolist(), prediction.known.tolist(), strict=True)
        ],
    }


def _print(path: Path, predictor: KernelPredictor, prediction: KernelPrediction) -> None:
    level = predictor.card.interval_level
    click.echo(
        f"{path}: {prediction.latency_ms:.3f} ms, {level:.0%} interval {prediction.lower_ms:.3f} .. {prediction.upper_ms:.3f}; "
        f"{prediction.coverage:.0%} of the time in {len(prediction.kernels)} kernels is of sorts that the predictor knows"
    )
    total = float(prediction.kernel_us.sum())
    slowest = prediction.kernel_us.argsort()[::-1][:_SHOWN]
    print_table(
        f"slowest kernels on {predictor.target}",
        ("us", "share", "kernel", "result"),
        [
            (
                f"{prediction.kernel_us[one]:.1f}",
                f"{prediction.kernel_us[one] / total:.0%}",
                ("" if prediction.known[one] else "UNKNOWN ") + ("+".join(prediction.kernels[one].fused_ops) or prediction.kernels[one].op),
                " ".join(map(str, prediction.kernels[one].outputs)),
            )
            for one in slowest.tolist()
        ],
    )
    unknown = [kernel for kernel, known in zip(prediction.kernels, prediction.known.tolist(), strict=True) if not known]
    for kernel in unknown:
        shapes = " ".join(map(str, kernel.outputs)) or "of unknown shape"
        click.echo(f"unknown: {kernel.name} ({'+'.join(kernel.fused_ops) or kernel.op}) {shapes}")
