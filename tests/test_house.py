"""The house rules of docs/design.md, read from the code itself with ``ast``: who may import whom, and what a module owes."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import layerclock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[1]
ROOMS = ("datasets", "devices", "predictors", "profiler", "reports", "search")

# What the files of each room may import from the others. Core is src/layerclock without the command line.
MAY_IMPORT = {
    "core": {"core"},
    "datasets": {"core", "datasets"},
    "devices": {"core", "devices"},
    "predictors": {"core", "datasets", "predictors"},
    "profiler": {"core", "datasets", "devices", "profiler"},
    "search": {"core", "datasets", "predictors", "search"},
    "reports": {"core", "datasets", "predictors", "profiler", "reports", "search"},
    "cli": {"core", "cli", *ROOMS},
}
# The files of devices/ that stand beside the adapters, and that adapters may import. What stands in a folder of its own is one adapter.
SHARED_BY_DEVICES = {
    f"layerclock.devices.{name}"
    for name in (
        "attribution",
        "cache",
        "counts",
        "export",
        "file_layers",
        "folding",
        "half_precision",
        "machine",
        "nvidia",
        "quantisation",
        "running_means",
    )
}

# Where a heavy or optional package may be imported; files or folders. Under TYPE_CHECKING it may be anywhere.
HOMES = {
    "torch": (
        "devices/export.py",
        "devices/litert/conversion.py",
        "devices/torch/",
        "predictors/neural/",
        "predictors/proxies/",
        "search/coexplore/controller.py",
        "search/networks/",
        "search/spaces/mobilenetv3.py",
        "search/supernet/",
    ),
    "nncf": ("devices/quantisation.py",),
    "ml_dtypes": ("devices/half_precision.py",),
    "openvino": ("devices/openvino/",),
    "ncnn": ("devices/ncnn/",),
    "pnnx": ("devices/ncnn/conversion.py",),
    "ai_edge_litert": ("devices/litert/",),
    "litert_torch": ("devices/litert/conversion.py",),
    "zigzag": ("devices/accelerators/zigzag_model.py",),
    "onnxruntime": ("devices/onnx_file.py", "devices/onnxruntime/", "devices/quantisation.py", "predictors/portable.py"),
    "onnx": (
        "devices/",
        "predictors/encoding.py",
        "predictors/graph.py",
        "predictors/kernel_graph.py",
        "predictors/portable_kernels.py",
        "profiler/ceilings.py",
        "profiler/composites.py",
        "profiler/drafting.py",
    ),
    "dask": ("profiler/fleet/",),
    "distributed": ("profiler/fleet/",),
    "pyarrow": (
        "datasets/",
        "devices/accelerators/cost_cache.py",
        "profiler/drift.py",
        "profiler/store.py",
        "search/accuracy/tables.py",
        "search/result_files.py",
        "search/saved_search.py",
    ),
    "pandas": (),
    "yaml": ("datasets/public/ofa_yaml.py", "devices/accelerators/designs.py"),
    "sklearn": (
        "predictors/additive.py",
        "predictors/regressors.py",
        "predictors/transfer/",
        "predictors/trees.py",
        "search/light_predictors.py",
        "search/warm_start.py",
        "search/supernet/digits.py",
    ),
    "skl2onnx": ("predictors/graph.py",),
    "threadpoolctl": (
        "predictors/regressors.py",
        "predictors/transfer/",
        "predictors/trees.py",
        "search/gaussian.py",
        "search/inner.py",
        "search/light_predictors.py",
    ),
    "fsspec": ("datasets/storage.py",),
    "scipy": (
        "datasets/differences.py",
        "predictors/additive.py",
        "predictors/evaluate.py",
        "predictors/kernelwise.py",
        "predictors/neural/nasflat.py",
        "predictors/transfer/",
        "profiler/correction.py",
        "reports/differences.py",
        "search/gaussian.py",
        "search/supernet/evaluator.py",
    ),
    "pymoo": ("search/algorithms/nsga2.py", "search/plugs.py", "search/ranking.py"),
    "moocore": ("search/ranking.py",),
    "PIL": ("search/supernet/image_folder.py",),
    "safetensors": ("search/supernet/checkpoint.py",),
    "matplotlib": ("search/picture.py",),
    "plotly": (),
    "jinja2": ("reports/page.py",),
    "markupsafe": ("reports/page.py",),
    "click": ("src/layerclock/cli/",),
    "rich": ("src/layerclock/cli/",),
}
HEAVY = (
    "PIL",
    "dask",
    "distributed",
    "ml_dtypes",
    "jinja2",
    "ai_edge_litert",
    "litert_torch",
    "moocore",
    "ncnn",
    "nncf",
    "pnnx",
    "torch",
    "openvino",
    "pandas",
    "pyarrow",
    "sklearn",
    "scipy",
    "pymoo",
    "onnx",
    "onnxruntime",
    "matplotlib",
    "safetensors",
    "yaml",
    "zigzag",
)


@dataclass(frozen=True)
class Import:
    """One imported module or name, as a full dotted path; ``checking`` marks those under ``if TYPE_CHECKING``."""

    path: str
    checking: bool


def _sources() -> Iterator[Path]:
    for folder in ("src/layerclock", *ROOMS):
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if not _through_symlink(path))


def _through_symlink(path: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents if parent != ROOT and ROOT in parent.parents)


SOURCES = {path.relative_to(ROOT).as_posix(): path for path in _sources()}


def _room(file: str) -> str:
    if file.startswith("src/layerclock/"):
        return "cli" if file.startswith("src/layerclock/cli/") or file == "src/layerclock/__main__.py" else "core"
    return file.split("/")[0]


def _module(file: str) -> str:
    dotted = file.removeprefix("src/layerclock/").removesuffix(".py").replace("/", ".")
    return f"layerclock.{dotted}".removesuffix(".__init__")


def _room_of_module(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*ROOMS, "cli") else "core"


def _imports(file: str) -> list[Import]:
    tree = ast.parse(SOURCES[file].read_text())
    checked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, id(node) in checked) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where a name comes from"
            found += [Import(f"{node.module}.{alias.name}", id(node) in checked) for alias in node.names]
    return found


def test_the_rooms_are_where_this_test_looks() -> None:
    assert {_room(file) for file in SOURCES} == {"core", "cli", *ROOMS}
    for room in ROOMS:
        assert (ROOT / "src" / "layerclock" / room).resolve() == ROOT / room, "editors and mypy follow this symlink"
        assert f"{room}/__init__.py" in SOURCES


@pytest.mark.parametrize("file", [file for file in SOURCES if file != "src/layerclock/__init__.py"])
def test_imports_go_one_way_down(file: str) -> None:
    # Imports for type checking count as well: a type is a dependency too. The public face is exempt: it is lazy.
    for imported in _imports(file):
        if imported.path.split(".")[0] != "layerclock":
            continue
        assert _room_of_module(imported.path) in MAY_IMPORT[_room(file)], f"{file} imports {imported.path}"
        if _room(file) == _room_of_module(imported.path) == "devices":
            own_folder = _module(file).rpartition(".")[0]
            allowed = SHARED_BY_DEVICES | ({own_folder} if own_folder != "layerclock.devices" else set())
            assert any(imported.path.startswith(f"{shared}.") for shared in allowed), f"{file} imports {imported.path}"


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_package_is_imported_only_where_it_lives(package: str) -> None:
    users = {file for file in SOURCES for imported in _imports(file) if imported.path.split(".")[0] == package and not imported.checking}
    strangers = {
        file for file in users if not any(file == home or (home.endswith("/") and file.startswith(home)) for home in HOMES[package])
    }
    assert not strangers
    unused = {home for home in HOMES[package] if not any(file.startswith(home) for file in users)}
    assert not unused, "this list allows more than is needed"


def test_no_import_is_hidden_from_these_checks() -> None:
    """Dynamic imports by a literal name would go around them; the lazy face and plug-ins import by table and entry point."""
    for file, path in SOURCES.items():
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {ast.unparse(call.func) for call in calls} & {"import_module", "__import__", "importlib.import_module"}
        # NVML's package belongs to no extra: where it is installed, energy is read through it.
        allowed = ("src/layerclock/__init__.py", "src/layerclock/cli/__init__.py", "devices/energy.py")
        assert not names or file in allowed, file
        assert not {ast.unparse(call.func) for call in calls} & {"eval", "exec", "pickle.load", "pickle.loads"}, file


def _is_verb(file: str) -> bool:
    return _room(file) == "cli" and not file.endswith("__init__.py")


# Files around a package of an extra that is not among those of the tests.
_OPTIONAL = {"devices/accelerators/zigzag_model.py": "zigzag"}


def _loaded(file: str) -> ModuleType:
    if file in _OPTIONAL:
        pytest.importorskip(_OPTIONAL[file], reason=f"{file} needs the package {_OPTIONAL[file]}, which an extra brings")
    return import_module(_module(file))


@pytest.mark.parametrize("file", SOURCES)
def test_a_module_says_what_it_offers_and_describes_it(file: str) -> None:
    module = _loaded(file)
    assert Path(inspect.getfile(module)).resolve() == SOURCES[file].resolve()
    assert module.__doc__, "a module opens with what it is for"
    only_docstring = len(ast.parse(SOURCES[file].read_text()).body) == 1
    if not _is_verb(file) and not only_docstring:
        assert hasattr(module, "__all__")
    for name in getattr(module, "__all__", []):
        assert getattr(module, name, None) is not None, f"{file} offers {name}, which it does not have"
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__ and (inspect.isclass(value) or inspect.isfunction(value))
        if own and not name.startswith("_"):
            assert inspect.getdoc(value), f"{file}: {name} has no docstring"


def test_the_public_face_offers_what_the_modules_have() -> None:
    assert sorted(layerclock.__all__) == sorted([*layerclock._HOMES, "__version__"])
    assert dir(layerclock) == sorted(layerclock.__all__)
    for name in layerclock.__all__:
        assert getattr(layerclock, name) is not None
    for name, home in layerclock._HOMES.items():
        assert name in import_module(f"layerclock.{home}").__all__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = layerclock.nonsense


@pytest.mark.parametrize("code", ["import layerclock; layerclock.__version__", "import layerclock.cli"])
def test_importing_the_package_imports_nothing_heavy(code: str, run_python: Callable[[str], str]) -> None:
    loaded = run_python(f"{code}\nimport sys\nprint(*sys.modules)").split()
    assert "layerclock" in loaded
    assert not set(HEAVY) & set(loaded)


def test_this_list_of_packages_knows_every_dependency() -> None:
    """What is imported and neither standard nor ours must have a home above."""
    others = {imported.path.split(".")[0] for file in SOURCES for imported in _imports(file)} - set(sys.stdlib_module_names)
    assert others - {"layerclock", "numpy", "google"} == {package for package in HOMES if HOMES[package] or package == "pandas"}
