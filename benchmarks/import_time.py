"""How long ``import layerclock`` and ``layerclock --help`` take in a fresh process, beside a bare Python.

Also lists the heavy packages that the import must not bring; there must be none.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from report import finish

HEAVY = ("torch", "openvino", "onnxruntime", "onnx", "pandas", "pyarrow", "sklearn", "scipy", "pymoo", "matplotlib", "plotly")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    arguments = parser.parse_args()
    commands = {
        "bare_python_s": [sys.executable, "-c", "pass"],
        "import_layerclock_s": [sys.executable, "-c", "import layerclock"],
        "help_s": [str(Path(sys.executable).with_name("layerclock")), "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for repetition in range(6 if arguments.quick else 21):
        for name, command in commands.items():
            start = perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if repetition:  # the first run fills the file cache
                seconds[name].append(perf_counter() - start)
    listing = f"import sys, layerclock; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()
    figures = {name: median(values) for name, values in seconds.items()}
    figures["heavy_packages_imported"] = len(heavy)
    if heavy:
        print("imported:", *heavy)
    targets = {"import_layerclock_s": ("<=", 0.3), "help_s": ("<=", 1.0), "heavy_packages_imported": ("<=", 0)}
    return finish("import_time", figures, targets, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
