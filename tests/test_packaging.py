"""The wheel holds every module and works from elsewhere: an editable install would hide what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("datasets", "devices", "predictors", "profiler", "reports", "search")


def _modules() -> set[str]:
    """Every module as its path in the installed package."""
    found = {f"layerclock/{path.relative_to(ROOT).as_posix()}" for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    core = [path for folder in ("", "cli") for path in (ROOT / "src" / "layerclock" / folder).glob("*.py")]
    return found | {path.relative_to(ROOT / "src").as_posix() for path in core}


def test_the_list_of_packages_equals_the_folders() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {str(Path(module).parent).replace("/", ".") for module in _modules()}
    assert folders == set(setuptools["packages"])
    assert all((ROOT / folder / "__init__.py").is_file() for folder in setuptools["package-dir"].values())
    assert all(f"{Path(module).parent}/__init__.py" in _modules() for module in _modules()), "a folder without __init__.py is not installed"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, so that nothing that an earlier build left behind gets in."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ("src", *ROOMS):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    output = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(output), "."]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    (path,) = output.glob("layerclock-*.whl")
    return path


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        meta = "\n".join(archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt"))
        licensed = any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    page = {f"layerclock/reports/{folder}/{path.name}" for folder in ("page", "plotly") for path in (ROOT / "reports" / folder).iterdir()}
    assert files == _modules() | {"layerclock/py.typed"} | page
    assert "layerclock = layerclock.cli:main" in meta
    assert "[layerclock.devices]" in meta
    assert licensed


def test_the_wheel_works_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "import sys, layerclock, importlib.metadata as metadata\n"
        f"assert layerclock.__file__.startswith({str(tmp_path)!r}), layerclock.__file__\n"
        "space = layerclock.load_space('ofa-mobilenetv3')\n"
        f"assert sys.modules[type(space).__module__].__file__.startswith({str(tmp_path)!r})\n"
        "print(layerclock.SiteIndex.of(space).digest, [entry.name for entry in layerclock.find_devices() if entry.available])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    # PYTHONPATH comes before the editable install, which is found by an import hook at the end.
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert "fake:cpu" in finished.stdout
