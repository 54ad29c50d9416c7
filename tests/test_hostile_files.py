"""Damaged and hostile files, opened as ``benchmarks/hostile_files.py`` opens them: two of every kind of damage."""

from __future__ import annotations

from pathlib import Path

from hostile_mutations import mutants
from hostile_opening import HARMLESS, REFUSED, open_all

GOLDEN = Path(__file__).parent / "golden"
ORIGINALS = {"table": "table-schema-1.parquet", "predictor": "predictor-format-1.onnx", "kernelwise": "kernelwise-format-1.onnx"}
# What any reader must refuse, however it was drawn.
NEVER_HARMLESS = (
    "pickle", "zip bomb", "torch file", "noise", "NaN", "infinite", "negative times", "many equal rows",
    "a long text many times", "another hash",
    "external data, absolute", "external data, up", "external data, beside", "a shape bomb", "a sparse bomb", "an endless loop",
    "an unheard domain", "a card nested deep", "a footer nested deep",
)  # fmt: skip


def test_hostile_files_are_refused_in_words_and_run_nothing(tmp_path: Path) -> None:
    tripwire = tmp_path / "tripped"
    originals = {reader: (GOLDEN / name).read_bytes() for reader, name in ORIGINALS.items()}
    made = mutants(originals, 240, tripwire, seed=1)
    files = []
    for number, mutant in enumerate(made):
        files.append((mutant.reader, tmp_path / f"{number}.file"))
        files[-1][1].write_bytes(mutant.content)
    results = list(open_all(files, [(reader, GOLDEN / name) for reader, name in ORIGINALS.items()]))
    wrong = [(m.reader, m.kind, r) for m, r in zip(made, results, strict=True) if r["outcome"] not in (REFUSED, HARMLESS)]
    assert not wrong
    assert not tripwire.exists()
    opened = [(m.reader, m.kind, r) for m, r in zip(made, results, strict=True) if r["outcome"] == HARMLESS and m.kind in NEVER_HARMLESS]
    assert not opened
    assert len({(mutant.reader, mutant.kind) for mutant in made}) > 150, "every kind of damage for every reader"


def test_unharmed_files_are_opened_and_absent_ones_refused(tmp_path: Path) -> None:
    files = [(reader, GOLDEN / name) for reader, name in ORIGINALS.items()]
    results = list(open_all(files, files))
    assert [result["outcome"] for result in results] == [HARMLESS] * 3
    (absent,) = open_all([("table", tmp_path / "absent")], files)
    assert absent["outcome"] == REFUSED
