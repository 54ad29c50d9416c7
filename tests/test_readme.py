"""What the README shows works as it stands there, in small."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [text for named, text in found if named == language]


def smaller(text: str, *replacements: tuple[str, str]) -> str:
    for shown, used in replacements:
        assert shown in text, f"the README no longer says {shown}"
        text = text.replace(shown, used)
    return text


def test_the_whole_way_in_python(tmp_path: Path) -> None:
    code = smaller(
        next(block for block in blocks("python") if "pareto_search" in block),
        ("holdout=10)", "holdout=4, rounds=2, runs=2)"),
        ("networks=20", "networks=14"),
        ("seconds=90", "steps=3"),
        ("evaluations=80", "evaluations=12"),
        # How fast the machine is must not matter to a test.
        ("latency_ms<=1.0", "latency_ms<=1000"),
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "stage1.depth" in done.stdout
    assert (tmp_path / "runs/search/pareto.csv").exists()


def commands() -> list[str]:
    """Every line of the README that calls us, in its order."""
    return [line for block in blocks("") for line in block.splitlines() if line.startswith("layerclock ")]


def test_the_three_uses_as_commands(tmp_path: Path, tiny_space: SearchSpace) -> None:
    # Each line as it stands there, but with the smallest space and few runs. The others need a fleet, an object store or others' files.
    small = [
        ("ofa-mobilenetv3", tiny_space.name),
        ("--budget 10m", "--networks 14 --holdout 6 --calibration 0 --rounds 2 --runs 2 --max-noise 1000"),
        ("--to ofa-yaml -o 224_lookup_table.yaml", "--to csv -o layers.csv"),
        ("latency_ms<=12", "latency_ms<=1000"),
        ("-o runs/s", "-o runs/s --evaluations 15"),
    ]
    shown = [
        "devices", "profile --device openvino:CPU --space ofa-mobilenetv3", "table check", "table show", "table card", "table export",
        "fit runs/x", "evaluate cpu.onnx", "predict --predictor cpu.onnx", "search --space ofa-mobilenetv3 --objective params", "report",
    ]  # fmt: skip
    for beginning in shown:
        line = next(line for line in commands() if line.startswith(f"layerclock {beginning}"))
        for long, short in small:
            line = line.replace(long, short)
        words = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        # A table of two rounds may be too noisy to be trusted: `table check` says so with 3.
        assert done.returncode == 0 or (beginning == "table check" and done.returncode == 3), f"{line}\n{done.stderr}"
    for made in ("card.md", "layers.csv", "cpu.onnx", "runs/s/pareto.csv", "report.html"):
        assert (tmp_path / made).exists(), made


def test_every_command_and_link_exists() -> None:
    from layerclock.cli import _VERBS

    shown = set(re.findall(r"^layerclock (\w+)", "\n".join(blocks("")), flags=re.MULTILINE))
    assert {"devices", "profile", "table", "fit", "evaluate", "predict", "search"} <= shown <= set(_VERBS)
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (Path(__file__).parent.parent / link).exists(), link
