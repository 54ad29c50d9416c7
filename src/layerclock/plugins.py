"""Finding devices, predictors, spaces and evaluators by name, through entry points.

Built-ins are registered in this project's own ``pyproject.toml`` by the same mechanism as a third party's. A name may
carry parameters: ``ofa-mobilenetv3:resolution=128,width=1.2`` calls the factory with those keyword arguments.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from layerclock.errors import ArgumentError, LayerclockError, MissingExtraError, UnknownNameError
from layerclock.interfaces import AccuracyEvaluator, Device, DeviceAdapter, DeviceEntry, DeviceOptions, SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.target import Target

__all__ = [
    "find_devices",
    "load_evaluator",
    "load_plugin",
    "load_space",
    "missing_package",
    "open_device",
    "options_of",
    "parse_parameters",
    "plugin_names",
]

# Which extra brings the package that a plug-in needs; used for the hint of MissingExtraError.
_EXTRAS = {
    "ai_edge_litert": "litert",
    "dask": "fleet",
    "distributed": "fleet",
    "matplotlib": "search",
    "jinja2": "report",
    "litert_torch": "litert",
    "moocore": "search",
    "ncnn": "ncnn",
    "nncf": "quantize",
    "PIL": "supernet",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "pandas": "tables",
    "pnnx": "ncnn",
    "pyarrow": "tables",
    "pymoo": "search",
    "safetensors": "supernet",
    "scipy": "fit",
    "skl2onnx": "fit",
    "sklearn": "fit",
    "torch": "export",
    "yaml": "tables",
    "zigzag": "zigzag",
}


def plugin_names(kind: str) -> list[str]:
    """Registered names of one kind: ``algorithms``, ``devices``, ``evaluators``, ``predictors`` or ``spaces``."""
    return sorted({entry.name for entry in entry_points(group=f"layerclock.{kind}")})


def load_plugin(kind: str, name: str) -> Any:
    """The object that an entry point names.

    Raises :class:`UnknownNameError` for an unregistered name, :class:`MissingExtraError` if importing it lacks one of
    our optional dependencies, and :class:`LayerclockError` if it cannot be imported for another reason.
    """
    for entry in entry_points(group=f"layerclock.{kind}"):
        if entry.name == name:
            try:
                return entry.load()
            except ModuleNotFoundError as error:
                raise missing_package(error, f"{kind[:-1]} {name!r}") from error
            except (ImportError, AttributeError) as error:
                raise _broken(error, f"{kind[:-1]} {name!r}") from error
    raise UnknownNameError(kind[:-1], name, plugin_names(kind))


def missing_package(error: ModuleNotFoundError, purpose: str) -> LayerclockError:
    """What to raise where an import failed: :class:`MissingExtraError` if one of our extras brings the package."""
    package = (error.name or "").split(".")[0]
    if package in _EXTRAS:
        return MissingExtraError(package, _EXTRAS[package], purpose)
    return _broken(error, purpose)


def _broken(error: Exception, purpose: str) -> LayerclockError:
    return LayerclockError(f"{purpose} cannot be imported: {error}", "reinstall the package that provides it")


def load_space(text: str) -> SearchSpace:
    """The search space called ``name`` or ``name:parameter=value,...``."""
    return cast("SearchSpace", _call_with_parameters("spaces", text))


def load_evaluator(text: str) -> AccuracyEvaluator:
    """The accuracy evaluator called ``name`` or ``name:parameter=value,...``."""
    return cast("AccuracyEvaluator", _call_with_parameters("evaluators", text))


def _call_with_parameters(kind: str, text: str) -> object:
    name, _, written = text.partition(":")
    factory: Callable[..., object] = load_plugin(kind, name)
    arguments = parse_parameters(factory, f"{kind[:-1]} {name!r}", written)
    lacking = [one.name for one in inspect.signature(factory).parameters.values() if _is_needed(one) and one.name not in arguments]
    if lacking:
        raise ArgumentError(f"{kind[:-1]} {text!r} lacks {' and '.join(lacking)}", f"{name}:{','.join(f'{one}=...' for one in lacking)}")
    try:
        return factory(**arguments)
    except ModuleNotFoundError as error:
        raise missing_package(error, f"{kind[:-1]} {name!r}") from error
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{kind[:-1]} {text!r}: {error}") from error


def parse_parameters(factory: Callable[..., object], what: str, written: str, given: int = 0) -> dict[str, int | float | str]:
    """Keyword arguments of ``factory`` from ``parameter=value,...``, beside its first ``given``, which the caller has.

    Raises :class:`ArgumentError` for one that it does not have, or that no text can be (annotated as ``Any``).
    """
    parameters = list(inspect.signature(factory).parameters.items())[given:]
    known = {name: parameter for name, parameter in parameters if parameter.annotation not in (Any, "Any")}
    arguments: dict[str, int | float | str] = {}
    for part in filter(None, written.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            raise ArgumentError(f"{what} has no parameter {part!r}", f"its parameters: {', '.join(known) or 'none'}")
        # A path may look like a number.
        arguments[key] = value if known[key].annotation in (str, "str") or "Path" in str(known[key].annotation) else _number(value)
        usual = known[key].default
        if isinstance(usual, int | float) and isinstance(arguments[key], str):
            raise ArgumentError(f"{what} has {key}={value}, which is no number", f"such as {key}={usual}")
    return arguments


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _number(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def find_devices() -> list[DeviceEntry]:
    """Every device of every adapter, the unusable ones with the reason and the remedy."""
    found: list[DeviceEntry] = []
    for name in plugin_names("devices"):
        try:
            found.extend(cast("DeviceAdapter", load_plugin("devices", name)()).discover())
        except LayerclockError as error:
            found.append(DeviceEntry(f"{name}:*", "", False, error.message, error.hint))
    return found


def open_device(name: str, options: DeviceOptions | None = None) -> Device:
    """Open the device called ``adapter:device``, such as ``openvino:CPU``.

    A name that an adapter lists with ``@`` takes a file in the place of what stands behind it: ``sim:fpga-tiling@design.yaml``.

    Raises :class:`UnknownNameError` with the nearest names, or :class:`DeviceUnavailableError`.
    """
    adapter_name = name.partition(":")[0]
    if adapter_name not in plugin_names("devices"):
        raise UnknownNameError("device", name, [entry.name for entry in find_devices()])
    adapter = cast("DeviceAdapter", load_plugin("devices", adapter_name)())
    kind, at, file = name.partition("@")
    known = [entry.name for entry in adapter.discover()]
    if name not in known and not (file and any(listed.startswith(kind + at) for listed in known)):
        raise UnknownNameError("device", name, [entry.name for entry in find_devices()])
    return adapter.open(name, options or DeviceOptions())


def options_of(target: Target) -> DeviceOptions:
    """The settings with which :func:`open_device` opens a target's device as it was when it measured.

    Raises what opening that device raises.
    """
    options = DeviceOptions(target.threads or 1, target.batch or 1, target.precision)
    usual = dict(open_device(target.device, options).target.options)
    return replace(options, extra={name: value for name, value in target.options if usual.get(name) != value})
