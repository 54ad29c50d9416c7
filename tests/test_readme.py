"""What the README shows works as it stands there, in small."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


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


def test_every_command_and_link_exists() -> None:
    from layerclock.cli import _VERBS

    shown = set(re.findall(r"^layerclock (\w+)", "\n".join(blocks("")), flags=re.MULTILINE))
    assert {"devices", "profile", "table", "fit", "evaluate", "predict", "search"} <= shown <= set(_VERBS)
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (Path(__file__).parent.parent / link).exists(), link
