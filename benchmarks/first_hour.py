"""A newcomer's path in a fresh environment: how long until the first table, the first prediction, the first front?

Makes a virtual environment, installs this checkout with all its runtimes (packages of ``constraints.txt``; what the download takes is
the network's), and runs the README's commands one after the other, accuracy measured with a super-network that is trained on the way.
Also counts the commands, and the lines of Python of the README's whole way.

``python benchmarks/first_hour.py [--quick]``, about ten minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

from report import finish

ROOT = Path(__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute of measuring, 20 s of training, 20 evaluations")
    arguments = parser.parse_args()
    budget, seconds, evaluations = ("1m", "20", "20") if arguments.quick else ("3m", "90", "100")
    with tempfile.TemporaryDirectory() as folder:
        program, checkout = Path(folder) / "venv/bin", Path(folder) / "checkout"  # a build leaves files beside the source
        shutil.copytree(ROOT, checkout, symlinks=True, ignore=shutil.ignore_patterns(".*", "build", "runs", "__pycache__", "*.egg-info"))
        pip = [str(program / "python"), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
        install = [[sys.executable, "-m", "venv", str(program.parent)], [*pip, f"{checkout}[all]"]]
        layerclock = str(program / "layerclock")
        space, accuracy = "digits-mobilenetv3", f"accuracy:digits-supernet:seconds={seconds}"
        steps = {
            "installed": install,
            "first_table": [
                [layerclock, "profile", "--device", "onnxruntime:cpu", "--space", space, "--budget", budget, "-o", "runs/x", "-q"]
            ],
            "first_prediction": [
                [layerclock, "fit", "runs/x/table.parquet", "-o", "cpu.onnx"],
                [layerclock, "predict", "--predictor", "cpu.onnx", "--random", "5"],
            ],
            "first_front": [
                [layerclock, "search", "--space", space, "--objective", accuracy, "--objective", "latency:cpu.onnx",
                 "--evaluations", evaluations, "-o", "runs/s", "-q"],
            ],
        }  # fmt: skip
        environment = {**os.environ, "LAYERCLOCK_CACHE": str(Path(folder) / "cache")}
        start, figures, commands = monotonic(), {}, 0
        for step, several in steps.items():
            for command in several:
                # A noisy machine (exit code 3) makes a table of which that is said; a newcomer goes on.
                done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False)
                if done.returncode not in (0, 3):
                    sys.exit(f"{' '.join(command)} ended with {done.returncode}")
                commands += 1
            figures[f"minutes_until_{step}"] = (monotonic() - start) / 60
        if not (Path(folder) / "runs/s/pareto.csv").exists():
            sys.exit("there is no front")
    python = max(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL), key=len)
    figures |= {"commands": commands, "lines_of_python": len([line for line in python.splitlines() if line.strip()])}
    return finish("first_hour", figures, {}, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
