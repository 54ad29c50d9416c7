"""Layerclock: time neural networks layer by layer, predict latency from the tables, search with the predictions.

The names in ``__all__`` are the public interface. They are loaded when first used, so that ``import layerclock`` stays
fast and asking a predictor needs neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable, read_table
    from layerclock.errors import LayerclockError
    from layerclock.interfaces import DeviceOptions
    from layerclock.plugins import find_devices, load_evaluator, load_space, open_device
    from layerclock.predictors.evaluate import evaluate
    from layerclock.predictors.fitting import fit
    from layerclock.predictors.kernelwise import fit_kernelwise
    from layerclock.predictors.portable import OnnxPredictor, load
    from layerclock.predictors.portable_kernels import KernelPredictor, load_kernelwise
    from layerclock.profiler.accuracy_on_device import accuracy_on_device
    from layerclock.profiler.campaign import profile
    from layerclock.reports.report import report
    from layerclock.search.loop import pareto_search
    from layerclock.search.objective import Objective, accuracy_objective, latency_objective
    from layerclock.space import Gene, Site, SiteIndex

    __version__: str

_HOMES = {
    "DeviceOptions": "interfaces",
    "Gene": "space",
    "KernelPredictor": "predictors.portable_kernels",
    "LatencyTable": "datasets.table",
    "LayerclockError": "errors",
    "Objective": "search.objective",
    "OnnxPredictor": "predictors.portable",
    "Site": "space",
    "SiteIndex": "space",
    "accuracy_objective": "search.objective",
    "accuracy_on_device": "profiler.accuracy_on_device",
    "evaluate": "predictors.evaluate",
    "find_devices": "plugins",
    "fit": "predictors.fitting",
    "fit_kernelwise": "predictors.kernelwise",
    "latency_objective": "search.objective",
    "load": "predictors.portable",
    "load_evaluator": "plugins",
    "load_kernelwise": "predictors.portable_kernels",
    "load_space": "plugins",
    "open_device": "plugins",
    "pareto_search": "search.loop",
    "profile": "profiler.campaign",
    "read_table": "datasets.table",
    "report": "reports.report",
}

__all__ = [
    "DeviceOptions",
    "Gene",
    "KernelPredictor",
    "LatencyTable",
    "LayerclockError",
    "Objective",
    "OnnxPredictor",
    "Site",
    "SiteIndex",
    "__version__",
    "accuracy_objective",
    "accuracy_on_device",
    "evaluate",
    "find_devices",
    "fit",
    "fit_kernelwise",
    "latency_objective",
    "load",
    "load_evaluator",
    "load_kernelwise",
    "load_space",
    "open_device",
    "pareto_search",
    "profile",
    "read_table",
    "report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from layerclock.version import VERSION

        return VERSION
    if name in _HOMES:
        try:
            return getattr(import_module(f"layerclock.{_HOMES[name]}"), name)
        except ModuleNotFoundError as error:
            from layerclock.plugins import missing_package

            raise missing_package(error, f"layerclock.{name}") from error
    raise AttributeError(f"module 'layerclock' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
