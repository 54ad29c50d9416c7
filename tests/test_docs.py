"""The docs are true: the site builds without a warning, commands and options exist, and what is shown in Python runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from layerclock.cli import group
from layerclock.predictors.fitting import fit

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


def shown(page: Path, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [text for named, text in found if named == language]


def commands(page: Path) -> list[list[str]]:
    """The lines of a page's shell blocks that call us, as words."""
    lines = "\n".join(shown(page, "")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("layerclock ")]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), str(tmp_path / "site")]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "layerclock profile" in (tmp_path / "site/cli.html").read_text()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    for words in commands(page):
        command: click.Command = group
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, f"{page.name}: layerclock {' '.join(words)}"
            command, words = found, words[1:]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        options = {word.split("=")[0] for word in words if re.fullmatch(r"--?[a-z][-a-z]*(=.*)?", word)}
        assert options <= known | {"--help"}, f"{page.name}: {command.name} has no {options - known}"


def test_loops_of_others_run_as_shown(tmp_path: Path, fake_table: LatencyTable, tiny_space: SearchSpace) -> None:
    fit(fake_table, tiny_space).save(tmp_path / "cpu.onnx")
    blocks = shown(ROOT / "docs/plug-in.md", "python")
    assert len(blocks) == 4
    for block in blocks:
        code = block.replace('"digits-mobilenetv3"', f'"{tiny_space.name}"')
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
