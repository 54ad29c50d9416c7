from __future__ import annotations

import sys
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layerclock import plugins
from layerclock.errors import (
    ArgumentError,
    DeviceUnavailableError,
    LayerclockError,
    MissingExtraError,
    UnknownNameError,
)
from layerclock.interfaces import Device, DeviceAdapter, DeviceOptions, SearchSpace
from layerclock.plugins import find_devices, load_evaluator, load_plugin, load_space, open_device, parse_parameters, plugin_names
from layerclock.predictors.fitting import fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def _register(monkeypatch: pytest.MonkeyPatch, kind: str, value: str) -> None:
    """Let one plug-in called ``broken`` be registered beside the real ones."""

    def with_broken(group: str) -> list[EntryPoint]:
        return [*entry_points(group=group), *([EntryPoint("broken", value, group)] if group == f"layerclock.{kind}" else [])]

    monkeypatch.setattr(plugins, "entry_points", with_broken)


def test_the_built_ins_are_registered_as_pyproject_says() -> None:
    registered = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]
    for kind in ("devices", "predictors", "spaces", "evaluators"):
        assert set(registered[f"layerclock.{kind}"]) <= set(plugin_names(kind))
        for name in registered[f"layerclock.{kind}"]:
            assert callable(load_plugin(kind, name))
    assert all(isinstance(load_plugin("devices", name)(), DeviceAdapter) for name in registered["layerclock.devices"])
    assert all(isinstance(load_space(name), SearchSpace) for name in registered["layerclock.spaces"])


def test_parameters_stand_in_the_name() -> None:
    space = load_space("ofa-mobilenetv3:resolution=128,width=1.2")
    assert space.inputs[0].shape == (1, 3, 128, 128)
    assert space.name == "ofa-mobilenetv3:width=1.2,resolution=128"
    assert load_space(space.name) == space
    assert load_space("ofa-mobilenetv3:width=1,resolution=224").name == "ofa-mobilenetv3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ofa-mobilenetv3:depth=3", r"no parameter 'depth=3' \(its parameters: width, resolution, in_channels, classes\)"),
        ("ofa-mobilenetv3:width", "no parameter 'width'"),
        ("ofa-mobilenetv3:width=wide", "width=wide"),
        ("ofa-mobilenetv3:resolution=3", "is not a network"),
    ],
)
def test_a_wrong_parameter_is_named(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load_space(text)


def test_unknown_names_suggest_the_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown space 'ofa-mobilenet' \(did you mean ofa-mobilenetv3"):
        load_space("ofa-mobilenet")
    with pytest.raises(UnknownNameError, match=r"unknown device 'openvino:cpu'.*openvino:CPU"):
        open_device("openvino:cpu")
    with pytest.raises(UnknownNameError, match=r"unknown device 'fkae:cpu'.*fake:cpu"):
        open_device("fkae:cpu")
    with pytest.raises(UnknownNameError, match=r"unknown predictor 'layer-wise'.*layerwise"):
        load_plugin("predictors", "layer-wise")
    with pytest.raises(UnknownNameError, match="unknown evaluator"):
        load_evaluator("digit-supernet")


def test_options_reach_the_device() -> None:
    device = open_device("fake:cpu", DeviceOptions(threads=2, batch=3, extra={"slowdown": "2"}))
    assert isinstance(device, Device)
    assert (device.target.threads, device.target.batch, device.target.options) == (2, 3, (("slowdown", "2"),))
    with pytest.raises(DeviceUnavailableError, match="int8"):
        open_device("fake:cpu", DeviceOptions(precision="int8"))


@pytest.mark.parametrize("options", [{"threads": 0}, {"batch": 0}, {"threads": -1}])
def test_options_that_nothing_can_run_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match=r"cannot be run \(threads >= 1, batch >= 1\)"):
        DeviceOptions(**options)  # type: ignore[arg-type]  # threads and batch are the only keys above


def test_a_missing_extra_is_named_and_hides_no_other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "layerclock.devices.openvino.adapter", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"device 'openvino' needs the package 'openvino'.*layerclock\[openvino\]"):
        open_device("openvino:CPU")
    listed = {entry.name: entry for entry in find_devices()}
    assert not listed["openvino:*"].available
    assert listed["openvino:*"].hint == "pip install 'layerclock[openvino]'"
    assert listed["fake:cpu"].available
    assert listed["onnxruntime:cpu"].available


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [("pyarrow", "profile", "tables"), ("pyarrow", "read_table", "tables"), ("scipy", "evaluate", "fit")],
)
def test_the_public_face_names_a_missing_extra(package: str, name: str, extra: str, run_python: Callable[[str], str]) -> None:
    said = run_python(f"""
import sys
sys.modules[{package!r}] = None
import layerclock
try:
    layerclock.{name}
except layerclock.LayerclockError as error:
    print(type(error).__name__, error)
""")
    assert said.startswith(f"MissingExtraError layerclock.{name} needs the package {package!r}, which is not installed")
    assert f"pip install 'layerclock[{extra}]'" in said


def test_every_extra_that_a_hint_names_exists_and_brings_the_package() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    # scipy comes with scikit-learn
    distributions = {
        "PIL": "pillow",
        "ai_edge_litert": "ai-edge-litert",
        "litert_torch": "litert-torch",
        "sklearn": "scikit-learn",
        "scipy": "scikit-learn",
    }
    for package, extra in plugins._EXTRAS.items():
        brought = " ".join(project["optional-dependencies"][extra])
        for inner in ("tables", "export"):
            brought += " ".join(project["optional-dependencies"][inner]) if f"layerclock[{inner}]" in brought else ""
        assert distributions.get(package, package) in brought, (package, extra)


@pytest.mark.parametrize("value", ["no_such_package.devices:Adapter", "layerclock.devices.fake:NoSuchAdapter"])
def test_a_broken_third_party_plug_in_is_named_and_hides_no_other_device(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    _register(monkeypatch, "devices", value)
    with pytest.raises(LayerclockError, match="device 'broken' cannot be imported") as raised:
        load_plugin("devices", "broken")
    assert not isinstance(raised.value, MissingExtraError)
    listed = {entry.name: entry for entry in find_devices()}
    assert not listed["broken:*"].available
    assert listed["fake:cpu"].available


@pytest.mark.parametrize("kind", ["layerwise:table=1", "layerwise:space=nas-bench-201", "endtoend:estimator=svr"])
def test_what_no_text_can_be_is_no_parameter_of_a_fit(kind: str, fake_table: LatencyTable) -> None:
    with pytest.raises(ArgumentError, match="has no parameter"):
        fit(fake_table, kind=kind)


def test_a_path_may_look_like_a_number() -> None:
    def evaluator(path: str, seconds: float = 90, folder: Path | None = None) -> None: ...

    written = parse_parameters(evaluator, "evaluator", "path=2024,seconds=20,folder=7")
    assert written == {"path": "2024", "seconds": 20, "folder": "7"}
