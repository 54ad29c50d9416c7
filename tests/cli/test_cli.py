"""The verbs as a user types them, on the deterministic device, and every bad input that the tool promises to answer well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPACE = "digits-mobilenetv3:width=0.25,resolution=32"


def run(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("layerclock")
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=False)
    assert done.returncode == expect, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def error_of(*words: str) -> str:
    """The one clear error that the words must give: a line that says what, and one that says what to do."""
    lines = run(*words, expect=1).stderr.strip().splitlines()
    assert [line.split(":")[0] for line in lines[-2:]] == ["error", " hint"], lines
    return "\n".join(lines[-2:])


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    run(
        "profile",
        "--device",
        "fake:cpu",
        "--space",
        SPACE,
        "--networks",
        "14",
        "--holdout",
        "6",
        "--calibration",
        "0",
        "--rounds",
        "2",
        "-o",
        str(folder),
        "-q",
    )
    return folder


@pytest.fixture(scope="module")
def predictor(campaign: Path) -> Path:
    path = campaign / "fake.onnx"
    run("fit", str(campaign / "table.parquet"), "-o", str(path))
    return path


def test_help_names_every_verb_and_every_verb_has_an_example() -> None:
    listing = run("--help").stdout
    for verb in ("quickstart", "devices", "profile", "table", "fit", "evaluate", "predict", "search", "coexplore"):
        assert verb in listing
        for words in ((verb, "show"), (verb, "check")) if verb == "table" else ((verb,),):
            said = run(*words, "--help").stdout
            assert "Example: layerclock" in said or "Examples: layerclock" in said


def test_devices_lists_both_runtimes() -> None:
    entries = {entry["name"]: entry for entry in json.loads(run("devices", "--json").stdout)}
    assert entries["onnxruntime:cpu"]["available"]
    assert entries["openvino:CPU"]["available"]


def test_profile_reports_json_and_goes_on_from_a_finished_campaign(campaign: Path) -> None:
    words = (
        "profile",
        "--device",
        "fake:cpu",
        "--space",
        SPACE,
        "--networks",
        "14",
        "--calibration",
        "0",
        "--holdout",
        "6",
        "--rounds",
        "2",
        "-o",
        str(campaign),
    )
    document = json.loads(run(*words, "--json").stdout)
    assert document["rows"]["network"] == 20
    assert document["failed_networks"] == 0
    assert 0.9 < document["additivity"]["median"] < 1.1


def test_table_show_fits_eighty_columns(campaign: Path) -> None:
    text = run("table", "show", str(campaign / "table.parquet")).stdout
    assert "noise floor" in text
    assert max(map(len, text.splitlines())) <= 80
    rows = json.loads(run("table", "show", str(campaign / "table.parquet"), "--level", "kernel", "--json", "--top", "0").stdout)["rows"]
    assert all(row["level"] == "kernel" for row in rows)
    latencies = [row["latency_us"] for row in rows]
    assert latencies == sorted(latencies, reverse=True)


def test_fit_evaluate_predict(campaign: Path, predictor: Path) -> None:
    result = json.loads(run("evaluate", str(predictor), str(campaign / "table.parquet"), "--json").stdout)
    assert result["networks"] == 6
    assert result["mean_error"] < 0.02
    document = json.loads(
        run("predict", "--predictor", str(predictor), "--random", "3", "--config", '{"stage1.depth": 4}', "--json").stdout
    )
    assert len(document["networks"]) == 4
    assert all(network["lower_ms"] <= network["latency_ms"] <= network["upper_ms"] for network in document["networks"])
    zeros = ",".join("0" * 45)
    assert zeros.replace(",", "") in run("predict", "--predictor", str(predictor), "--genome", zeros).stdout.replace("\n", "").replace(
        " ", ""
    )


def test_search_respects_the_constraint(campaign: Path, predictor: Path, tmp_path: Path) -> None:
    front = json.loads(
        run("search", "--space", SPACE, "--objective", "params", "--objective", f"latency:{predictor}", "--constraint", "params>=300000",
            "--evaluations", "40", "-o", str(tmp_path / "s"), "--json", "-q").stdout
    )  # fmt: skip
    assert front["evaluations"] == 40
    assert front["pareto"]
    assert all(network["params"] >= 300000 for network in front["pareto"])
    written = {path.name for path in (tmp_path / "s").iterdir()}
    assert written == {".lock", "evaluations.parquet", "pareto.csv", "pareto.json", "pareto.svg"}


def test_errors_are_one_clear_line_with_a_hint(campaign: Path, predictor: Path, tmp_path: Path) -> None:
    table = campaign / "table.parquet"
    assert "openvino:CPU" in error_of("profile", "--device", "openvino:cpu", "--space", SPACE, "-o", str(tmp_path / "a"))
    assert "ofa-mobilenetv3" in error_of("profile", "--device", "fake:cpu", "--space", "ofa-mobilnet", "-o", str(tmp_path / "a"))
    assert "width" in error_of("profile", "--device", "fake:cpu", "--space", "ofa-mobilenetv3:wide=2", "-o", str(tmp_path / "a"))
    assert "layerwise" in error_of("fit", str(table), "-o", str(tmp_path / "p.onnx"), "--kind", "layerwize")
    assert "KEY=VALUE" in error_of("profile", "--device", "fake:cpu", "--space", SPACE, "--option", "x", "-o", str(tmp_path / "a"))
    truncated = tmp_path / "truncated.parquet"
    truncated.write_bytes(table.read_bytes()[:-100])
    assert str(truncated) in error_of("table", "show", str(truncated))
    assert "no table" in error_of("table", "show", str(tmp_path / "absent.parquet"))
    assert "values" in error_of("predict", "--predictor", str(predictor), "--genome", "0,1")
    assert "gene" in error_of("predict", "--predictor", str(predictor), "--genome", ",".join(["9"] * 45))
    accuracy = ("search", "--space", SPACE, "-o", str(tmp_path / "s"), "--objective")
    assert "lacks path" in error_of(*accuracy, "accuracy:results-csv")
    assert "seconds=soon, which is no number" in error_of(*accuracy, "accuracy:digits-supernet:seconds=soon")
    assert "ofa" in error_of(
        "search", "--space", "ofa-mobilenetv3", "--objective", "params", "--objective", f"latency:{predictor}", "-o", str(tmp_path)
    )


def test_a_search_that_found_nothing_starts_no_other(tmp_path: Path) -> None:
    wanted = ("search", "--space", SPACE, "--objective", "params", "--evaluations", "4", "--population", "2")
    assert "params<=1" in error_of(*wanted, "--constraint", "params<=1", "-o", str(tmp_path / "none"))
    assert str(tmp_path / "none") in error_of(*wanted, "--warm-start", str(tmp_path / "none"), "-o", str(tmp_path / "s"))


def test_a_table_of_another_target_is_refused(campaign: Path, predictor: Path, tmp_path: Path) -> None:
    other = tmp_path / "slow"
    run("profile", "--device", "fake:cpu", "--option", "slowdown=2", "--space", SPACE, "--networks", "5", "--holdout", "2",
        "--calibration", "0", "--rounds", "2",
        "-o", str(other), "-q")  # fmt: skip
    message = error_of("evaluate", str(predictor), str(other / "table.parquet"))
    assert "slowdown" in message
    # and its few networks cannot cover the space
    assert "profile more networks" in error_of("fit", str(other / "table.parquet"), "-o", str(tmp_path / "p.onnx"))


def test_an_unwritable_folder_loses_nothing(campaign: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "below"
    assert str(below) in error_of("profile", "--device", "fake:cpu", "--space", SPACE, "-o", str(below))
    assert str(below) in error_of("fit", str(campaign / "table.parquet"), "-o", str(below / "p.onnx"))


def test_errors_in_json(tmp_path: Path) -> None:
    document = json.loads(run("table", "show", str(tmp_path / "absent.parquet"), "--json", expect=1).stdout)
    assert document["kind"] == "TableError"
    assert document["hint"]


def test_wrong_usage_is_exit_code_two() -> None:
    assert "Usage" in run("profile", expect=2).stderr
    assert "No such command" in run("profil", expect=2).stderr


def test_too_much_noise_is_exit_code_three(campaign: Path) -> None:
    words = (
        "profile",
        "--device",
        "fake:cpu",
        "--space",
        SPACE,
        "--networks",
        "14",
        "--calibration",
        "0",
        "--holdout",
        "6",
        "--rounds",
        "2",
        "-o",
        str(campaign),
    )
    done = run(*words, "--max-noise", "0", expect=3)
    assert "noise floor" in done.stderr
    assert (campaign / "table.parquet").exists()


def test_what_is_read_is_not_overwritten(campaign: Path, predictor: Path) -> None:
    table = str(campaign / "table.parquet")
    before = {path: Path(path).read_bytes() for path in (table, str(predictor))}
    for words in (
        ("fit", table, "-o", table),
        ("report", table, str(predictor), "-o", str(predictor)),
        ("table", "card", table, "-o", table),
        ("table", "export", table, "--to", "csv", "-o", str(campaign / ".." / campaign.name / "table.parquet")),
    ):
        assert "would overwrite what is read" in error_of(*words)
    assert {path: Path(path).read_bytes() for path in before} == before


def test_a_printed_genome_is_taken_again(predictor: Path) -> None:
    line = run("predict", "--predictor", str(predictor), "--random", "1").stdout.splitlines()[-1].split()
    again = run("predict", "--predictor", str(predictor), "--genome", line[-1]).stdout.splitlines()[-1].split()
    assert again == line
    assert "is not a list of whole numbers" in error_of("predict", "--predictor", str(predictor), "--genome", "9" * 30)


def test_wrong_usage_is_a_document_too(predictor: Path) -> None:
    for words in (("predict", "--predictor", str(predictor)), ("evaluate", str(predictor), "t.parquet", "--seeds", "3"), ("fit",)):
        document = json.loads(run(*words, "--json", expect=2).stdout)
        assert document["error"]
        assert document["kind"] in ("UsageError", "MissingParameter")
    kernelwise = error_of("fit", "t.parquet", "-o", "x.onnx", "--kind", "kernelwise:depth=3")
    assert "has no parameter 'depth=3'" in kernelwise
