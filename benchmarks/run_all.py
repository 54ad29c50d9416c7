"""Run the benchmarks one after the other, keep what each printed, and write the page of figures from all that is kept.

``python benchmarks/run_all.py [NAME ...] [--quick] [--page-only]``. Run it while nothing else uses the machine. Each result stands in
``benchmarks/results/NAME.json`` with the machine and the versions that it is of. A figure that is printed again replaces the former one;
what a benchmark that was run in part (``--only``, ``--device``) did not print stays, under its own day and machine.
``docs/figures-printed.md`` is made of these files. A benchmark that cannot run here (no data, no GPU) keeps the result that it had.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

from layerclock.devices.machine import cpu_fingerprint
from layerclock.version import VERSION

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs" / "figures-printed.md"
# In the order of the page; none needs another's result.
NAMES = (
    "repeatability", "parity", "additivity", "campaign_cost", "faults", "precisions", "gpu", "fleet", "dataset_scale", "hostile_files",
    "layerwise_accuracy", "kernelwise_accuracy", "endtoend_accuracy", "query_speed", "import_time",
    "transfer_tasks", "transfer_here", "transfer_search",
    "search_replay", "search_nasbench201", "search_overhead", "search_measured", "search_modalities",
    "coexplore_models", "coexplore_pruning", "coexplore_gain",
    "report_page", "first_hour",
)  # fmt: skip
PACKAGES = ("numpy", "onnxruntime", "openvino", "torch", "scikit-learn")
INTRODUCTION = """# Figures as printed

Written by `benchmarks/run_all.py` from what each benchmark printed last. [Figures](figures.md) says what they mean, and holds them against
what others published.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--quick", action="store_true", help="each for about a minute, less sure")
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    parser.add_argument(
        "--printed", type=Path, nargs="*", default=[], help="take these files, in which a benchmark's output was kept, instead"
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    RESULTS.mkdir(exist_ok=True)
    missed = []
    for file in arguments.printed:
        _keep(file.read_text(), {})
    if not (arguments.page_only or arguments.printed):
        for name in arguments.names or NAMES:
            print(f"== {name}", flush=True)
            start = monotonic()
            command = [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if arguments.quick else [])]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            print(done.stdout, flush=True)
            if not _keep(done.stdout, {"minutes": round((monotonic() - start) / 60, 1)}) or done.returncode:
                missed.append(name)
    PAGE.write_text(_page())
    if missed:
        print(f"missed or not run: {', '.join(missed)}")
    return 1 if missed else 0


def _keep(printed: str, more: dict[str, Any]) -> bool:
    """Write the result that stands in a benchmark's output beside the other parts of that benchmark; False if none does."""
    lines = [line for line in printed.splitlines() if line.startswith('{"benchmark"')]
    if not lines:
        return False
    run = json.loads(lines[-1])
    name = run.pop("benchmark")
    run |= {
        "day": datetime.now(UTC).date().isoformat(),
        "machine": dict(cpu_fingerprint()),
        "versions": {"layerclock": VERSION} | {package: version(package) for package in PACKAGES},
    } | more
    kept = [_without(other, run["figures"]) for other in _runs(name)]
    runs = [*(other for other in kept if other["figures"]), run]
    _file(name).write_text(json.dumps({"benchmark": name, "runs": runs}, indent=1) + "\n")
    return True


def _file(name: str) -> Path:
    return RESULTS / f"{name}.json"


def _runs(name: str) -> list[dict[str, Any]]:
    """The runs of a benchmark that are kept, oldest first; no figure is in two of them."""
    runs: list[dict[str, Any]] = json.loads(_file(name).read_text())["runs"] if _file(name).exists() else []
    return runs


def _without(run: dict[str, Any], replaced: dict[str, float]) -> dict[str, Any]:
    """``run`` without the figures that another one has anew."""
    left = run | {part: {figure: known for figure, known in run[part].items() if figure not in replaced} for part in ("figures", "targets")}
    return left | {"holds": all(_holds(left, figure) for figure in left["targets"])}


def _page() -> str:
    parts = [INTRODUCTION]
    for name in NAMES:
        title = (ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or "").splitlines()[0]
        parts.append(f"## {name}\n\n{title}\n")
        runs = _runs(name)
        if not runs:
            parts.append("Not run since results are kept here; [Figures](figures.md) has the last ones, where there are any.\n")
        for run in runs:
            parts += _part_of_page(run)
    return "\n".join(parts)


def _part_of_page(run: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{package} {number}" for package, number in run["versions"].items())
    quick = ", with --quick: less sure" if run["quick"] else ""
    took = f", {run['minutes']} minutes" if "minutes" in run else ""
    lines = [
        f"{run['day']}{took}{quick}; {run['machine'].get('cpu', 'a processor that is not named')}; {versions}.\n",
        "| figure | value | target | |\n|---|---|---|---|",
    ]
    for figure, value in run["figures"].items():
        sign, limit = run["targets"].get(figure, ("", None))
        target = "" if limit is None else f"{sign} {limit:g}"
        verdict = "" if limit is None else ("holds" if _holds(run, figure) else "**missed**")
        lines.append(f"| `{figure}` | {value:.4g} | {target} | {verdict} |")
    return [*lines, ""]


def _holds(run: dict[str, Any], figure: str) -> bool:
    sign, limit = run["targets"][figure]
    value = run["figures"][figure]
    return bool({"<=": value <= limit, ">=": value >= limit, "<": value < limit, ">": value > limit, "==": value == limit}[sign])


if __name__ == "__main__":
    sys.exit(main())
