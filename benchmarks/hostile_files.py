"""500 mutated tables and predictors, each opened by what a user would open it with: no crash, no code run, one clear error each.

Truncated, bits flipped, wrong types, NaN, huge shapes, paths to other files, bombs of zip, Parquet and protocol buffers, pickles in
disguise, loops without end. Every file is opened in a process of its own with 2 GiB of memory and 20 s, under an audit hook that ends
it when it runs anything. A mutation may be harmless (bits between the pages, NaN that nobody forbids): such files open and answer, and
are counted apart.

``python benchmarks/hostile_files.py [--quick]``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from hostile_mutations import mutants
from hostile_opening import HARMLESS, REFUSED, open_all
from report import finish

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
ORIGINALS = {"table": "table-schema-1.parquet", "predictor": "predictor-format-1.onnx", "kernelwise": "kernelwise-format-1.onnx"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="220 files")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other files")
    parser.add_argument("--tell", action="store_true", help="print what became of every file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, tripwire = Path(temporary), Path(temporary) / "tripped"
        originals = {reader: (GOLDEN / name).read_bytes() for reader, name in ORIGINALS.items()}
        made = mutants(originals, 220 if arguments.quick else 500, tripwire, arguments.seed)
        files = []
        for number, mutant in enumerate(made):
            files.append((mutant.reader, folder / f"{number}.{'parquet' if mutant.reader == 'table' else 'onnx'}"))
            files[-1][1].write_bytes(mutant.content)
        results = list(open_all(files, [(reader, GOLDEN / name) for reader, name in ORIGINALS.items()]))
        tripped = tripwire.exists()
    outcomes = Counter(str(result["outcome"]) for result in results)
    for mutant, result in zip(made, results, strict=True):
        if arguments.tell or result["outcome"] not in (REFUSED, HARMLESS):
            print(mutant.reader, "|", mutant.kind, "|", result["outcome"], "|", str(result["error"])[:160], f"| {result['peak_mb']:.0f} MB")
    bad = sum(count for outcome, count in outcomes.items() if outcome not in (REFUSED, HARMLESS))
    figures = {
        "files": float(len(results)),
        "refused_with_one_clear_error": float(outcomes[REFUSED]),
        "harmless": float(outcomes[HARMLESS]),
        "crashes_and_other_errors": float(bad - outcomes["tripwire"]),
        "code_run": float(outcomes["tripwire"] + tripped),
        "most_memory_mb": max(float(str(result["peak_mb"])) for result in results),
        "longest_s": max(float(str(result["seconds"])) for result in results),
    }
    targets = {"crashes_and_other_errors": ("<=", 0.0), "code_run": ("<=", 0.0), "most_memory_mb": ("<=", 1024.0)}
    return finish("hostile_files", figures, targets, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
