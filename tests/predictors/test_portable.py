"""A predictor as a file: it answers the same after saving, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from layerclock.errors import GenomeError, OutputError, PredictorError
from layerclock.interfaces import Predictor
from layerclock.predictors.fitting import fit
from layerclock.predictors.portable import METADATA_KEY, PredictorCard, load
from layerclock.space import sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import ModelFile
    from layerclock.predictors.portable import OnnxPredictor
    from layerclock.space import SiteIndex


@pytest.fixture(scope="module", params=["layerwise", "endtoend"])
def predictor(request: pytest.FixtureRequest, fake_table: LatencyTable) -> OnnxPredictor:
    return fit(fake_table, kind=request.param)


@pytest.fixture
def file(predictor: OnnxPredictor, tmp_path: Path) -> Path:
    path = tmp_path / "predictor.onnx"
    predictor.save(path)
    return path


def test_a_saved_predictor_answers_the_same(predictor: OnnxPredictor, file: Path, tiny_index: SiteIndex) -> None:
    genomes = sample(tiny_index, 50, np.random.default_rng(0))
    loaded = load(file)
    assert loaded.card == predictor.card
    assert PredictorCard.from_json(predictor.card.to_json()) == predictor.card
    own, read = predictor.predict(genomes), loaded.predict(genomes)
    for name in ("latency_ms", "lower_ms", "upper_ms", "coverage"):
        assert getattr(own, name).dtype == np.float64
        assert np.array_equal(getattr(own, name), getattr(read, name))
    assert isinstance(loaded, Predictor)
    assert len(loaded.predict(genomes[:0])) == 0


def test_saving_again_replaces_the_file_and_an_unwritable_place_is_a_clear_error(predictor: OnnxPredictor, file: Path) -> None:
    predictor.save(file)
    assert [path.name for path in file.parent.iterdir()] == ["predictor.onnx"]
    with pytest.raises(OutputError, match="cannot make the folder"):
        predictor.save(file / "below.onnx")


def test_the_file_holds_standard_operators_only(file: Path) -> None:
    model = onnx.load(str(file))
    onnx.checker.check_model(model, full_check=True)
    # Both domains are ONNX's own: the second holds trees, support vectors and the like.
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx.ml"}
    assert {opset.domain: opset.version for opset in model.opset_import} in ({"": 17}, {"": 17, "ai.onnx.ml": 3})
    assert [value.name for value in model.graph.input] == ["genomes"]
    assert [value.name for value in model.graph.output] == ["latency_ms", "lower_ms", "upper_ms", "coverage"]


@pytest.mark.parametrize("kept", [0, 1, 200, 0.5, 0.9])
def test_a_truncated_file_is_refused(file: Path, kept: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(PredictorError, match=r"predictor\.onnx") as raised:
        load(file)
    assert "\n" not in str(raised.value)


def test_other_files_are_refused(tiny_model: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="is an ONNX model, but no latency predictor"):
        load(tiny_model.path)
    (tmp_path / "text.onnx").write_text("not a model at all")
    with pytest.raises(PredictorError, match=r"text\.onnx is no readable ONNX file"):
        load(tmp_path / "text.onnx")
    with pytest.raises(PredictorError, match=r"cannot read the predictor .*absent\.onnx: No such file"):
        load(tmp_path / "absent.onnx")
    with pytest.raises(PredictorError, match="cannot read the predictor"):
        load(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda _: "not json",
        lambda _: "[]",
        lambda _: "{}",
        lambda _: '"text"',
        lambda text: json.dumps({**json.loads(text), "format": 2}),
        lambda text: json.dumps({**json.loads(text), "unit": "s"}),
        lambda text: json.dumps({**json.loads(text), "genes": [1, 2]}),
        lambda text: json.dumps({**json.loads(text), "genes": json.loads(text)["genes"][1:]}),
        lambda text: json.dumps({**json.loads(text), "target": None}),
        lambda text: json.dumps({**json.loads(text), "unheard": 1}),
        lambda text: json.dumps({**json.loads(text), "interval_level": 1.5}),
        lambda text: json.dumps({**json.loads(text), "interval_half_width": -0.1}),
        lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != "noise_floor"}),
    ],
)
def test_damaged_metadata_is_refused(file: Path, edit: Callable[[str], str]) -> None:
    model = onnx.load(str(file))
    written = {entry.key: entry for entry in model.metadata_props}[METADATA_KEY]
    written.value = edit(written.value)
    onnx.save(model, str(file))
    with pytest.raises(PredictorError, match="has damaged metadata"):
        load(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda genomes: genomes[:, :-1], "genomes have shape"),
        (lambda genomes: genomes[0], "genomes have shape"),
        (lambda genomes: genomes.astype(np.float64), "dtype float64"),
        (lambda genomes: genomes + 3, r"genome 0: gene 0 \(stage1\.depth\) is \d \(its values run from 0 to 2\)"),
        (lambda genomes: genomes - 3, r"genome 0: gene 0 \(stage1\.depth\) is -\d"),
    ],
)
def test_a_genome_of_another_space_is_refused(
    predictor: OnnxPredictor, tiny_index: SiteIndex, change: Callable[[npt.NDArray[np.int64]], Any], message: str
) -> None:
    with pytest.raises(GenomeError, match=message):
        predictor.predict(change(sample(tiny_index, 3, np.random.default_rng(0))))


def test_many_genomes_are_answered_in_blocks_and_in_order(predictor: OnnxPredictor, tiny_index: SiteIndex) -> None:
    genomes = np.random.default_rng(0).integers(0, tiny_index.cardinality, (20_000, len(tiny_index.genes)))
    told = predictor.predict(genomes)
    for rows in (slice(0, 5), slice(8190, 8195), slice(19_995, 20_000)):
        few = predictor.predict(genomes[rows])
        for name in ("latency_ms", "lower_ms", "upper_ms", "coverage"):
            assert getattr(told, name)[rows] == pytest.approx(getattr(few, name), rel=1e-6)
    assert told.latency_ms.shape == told.coverage.shape == (20_000,)
    genomes[15_000, 2] = 99
    with pytest.raises(GenomeError, match="genome 15000: gene 2"):
        predictor.predict(genomes)


def test_a_genome_can_be_told_by_names(predictor: OnnxPredictor, tiny_index: SiteIndex) -> None:
    config = {"stage2.depth": 4, "stage2.block4.kernel": 7, "stage1.block1.expand": 6}
    assert np.array_equal(predictor.encode(config), tiny_index.encode(config))
    with pytest.raises(GenomeError, match=r"gene 'stage9\.depth' cannot be 2 \(genes: stage1\.depth"):
        predictor.encode({"stage9.depth": 2})
    with pytest.raises(GenomeError, match=r"gene 'stage1\.depth' cannot be 7 \(choices: \(2, 3, 4\)\)"):
        predictor.encode({"stage1.depth": 7})


def test_asking_needs_nothing_but_numpy_and_onnxruntime(
    predictor: OnnxPredictor, file: Path, tiny_index: SiteIndex, run_python: Callable[[str], str]
) -> None:
    genomes = sample(tiny_index, 3, np.random.default_rng(0))
    answer = json.loads(
        run_python(f"""
import json, sys
for name in ("torch", "sklearn", "onnx", "pandas", "pyarrow", "openvino", "scipy", "pymoo", "safetensors", "click", "rich"):
    sys.modules[name] = None
import layerclock
predictor = layerclock.load({str(file)!r})
print(json.dumps(predictor.predict({genomes.tolist()}).latency_ms.tolist()))
""")
    )
    assert answer == predictor.predict(genomes).latency_ms.tolist()


def test_a_name_that_is_no_text_is_a_damaged_file(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = file.read_bytes()
    for name in (b"genomes", b"latency_ms"):
        damaged = name[:1] + b"\xe5" + name[2:]
        last = whole.rindex(name)
        for content in (whole.replace(name, damaged), whole[:last] + damaged + whole[last + len(name) :]):
            file.write_bytes(content)
            with pytest.raises(PredictorError):
                load(file)
    assert capfd.readouterr().out == "", "standard output belongs to the caller"


def test_genomes_of_several_lengths_are_no_genomes(predictor: OnnxPredictor) -> None:
    with pytest.raises(GenomeError, match="genomes are no array"):
        predictor.predict([[0] * len(predictor.card.genes), [0]])
