"""Published latencies of networks that have names and no genomes: HAT's, nn-Meter's and NNLQP's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from layerclock.datasets.public.as_tables import named_tables
from layerclock.datasets.public.formats import import_tables
from layerclock.datasets.public.hat import FEATURES, read_hat
from layerclock.datasets.public.nn_meter import read_nn_meter
from layerclock.datasets.public.nnlqp import read_nnlqp
from layerclock.errors import TableError

if TYPE_CHECKING:
    from pathlib import Path


def _hat_csv(path: Path) -> Path:
    rows = [
        ",".join([*FEATURES, "latency_mean_encoder", "latency_mean_decoder", "latency_std_encoder", "latency_std_decoder"]),
        "640,6,1194.6666666666667,4.666666666666667,640,3,1877.3333333333333,4.0,5.333333333333333,2.0,9.9225,236.7689,0.13,12.7",
        "512,6,1109.3333333333333,6.333333333333333,512,1,512.0,8.0,8.0,2.0,8.7122,110.4915,0.04,1.9",
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_hats_transformers_have_averages_and_no_genomes(tmp_path: Path) -> None:
    path = _hat_csv(tmp_path / "wmt14ende_cpu_xeon_all.csv")
    (table,) = import_tables("hat", [path])
    assert (table.space, table.space_digest, table.target.device, table.target.batch) == ("hat:task=wmt14ende", "", "cpu_xeon", 1)
    rows = table.rows.to_pylist()
    assert [row["op"] for row in rows] == ["encoder", "encoder", "decoder", "decoder"]
    assert [row["latency_us"] for row in rows] == pytest.approx([9922.5, 8712.2, 236768.9, 110491.5])
    assert [row["std_us"] for row in rows] == pytest.approx([130, 40, 12700, 1900])
    assert {row["genome"] for row in rows} == {None}
    assert json.loads(rows[2]["attributes"])["decoder_ffn_embed_dim_avg"] == 1877.3333333333333
    assert len(table.networks()) == 0
    (own,) = read_hat(_hat_csv(tmp_path / "mine.csv"))
    assert (own.collection, own.devices) == ("hat", ("mine",))
    path.write_text(path.read_text().replace("latency_std_decoder", "other"))
    with pytest.raises(TableError, match="no column 'latency_std_decoder'"):
        read_hat(path)
    _hat_csv(path).write_bytes(path.read_bytes()[:-40])
    for unreadable in (path, tmp_path / "absent.csv", tmp_path / "absent.parquet"):
        with pytest.raises(TableError, match="cannot read"):
            read_hat(unreadable)


def test_nn_meters_networks(tmp_path: Path) -> None:
    graph = {"conv": {"attr": {"type": "Conv2D"}, "inbounds": [], "outbounds": []}}
    lines = [{"id": "alexnet_1", "cortexA76cpu_tflite21": 12.5, "myriadvpu_openvino2019r2": None, "graph": graph},
             {"id": "alexnet_2", "cortexA76cpu_tflite21": 20, "myriadvpu_openvino2019r2": 3.5, "graph": graph}]  # fmt: skip
    path = tmp_path / "alexnets.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    cpu, vpu = named_tables(read_nn_meter([path]))
    assert (cpu.space, len(cpu), len(vpu)) == ("nn-meter", 2, 1)
    assert cpu.rows["key"].to_pylist() == ["alexnet_1", "alexnet_2"]
    assert vpu.rows.to_pylist()[0] | {"op": "alexnets", "attributes": '{"operators": 1}', "latency_us": 3500.0} == vpu.rows.to_pylist()[0]
    assert cpu.target.runtime_version == "tflite21"
    for strange in (
        "[1]",
        '{"id": "a"}',
        '{"id": 1, "graph": {}}',
        '{"id": "a", "graph": {}, "x": "fast"}',
        '{"id": "a", "graph": {}, "x": true}',
        '{"id": "a',
    ):
        path.write_text(json.dumps(lines[0]) + "\n" + strange)
        with pytest.raises(TableError, match="line 2, "):
            read_nn_meter([path])
    with pytest.raises(TableError, match="cannot read"):
        read_nn_meter([tmp_path / "absent.jsonl"])


def test_nnlqps_lists(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    lines = [
        "553312 onnx/a/a_0130.onnx 8 90.88183 alexnet 2 train",
        "559608 onnx/a/a_0157.onnx 8 11.1463 alexnet 23 train",
        "549409 onnx/a/a_0197.onnx 8 64.11547 alexnet 2 test",
        "549410 onnx/a/a_0198.onnx 1 4.5 alexnet 2",
        "549411 b.onnx 1 5 vgg 99",
    ]
    path.write_text("\n".join(lines) + "\n")
    tables = import_tables("nnlqp", [path])
    assert [(table.target.device, table.target.batch, len(table)) for table in tables] == [
        ("cpu-openppl-fp32", 8, 2), ("mul270-neuware-int8", 8, 1), ("cpu-openppl-fp32", 1, 1), ("platform-99", 1, 1)
    ]  # fmt: skip
    assert tables[0].rows["role"].to_pylist() == ["profiled", "holdout"]
    assert tables[0].rows["latency_us"].to_pylist() == pytest.approx([90881.83, 64115.47])
    assert (tables[0].target.precision, tables[0].target.runtime_version) == ("float32", "openppl")
    for strange in (
        "1 a.onnx 8 fast alexnet 2 train",
        "1 a.onnx 8 1.5 alexnet",
        "1 a.onnx 8 1.5 alexnet 2 other",
        "1 a.onnx 8 1.5 alexnet 2 test x",
    ):
        path.write_text(strange + "\n")
        with pytest.raises(TableError, match="line 1, is no measurement"):
            read_nnlqp(path)
    with pytest.raises(TableError, match="cannot read"):
        read_nnlqp(tmp_path)


def test_the_published_transformers(data_folder: Path) -> None:
    parts = read_hat(data_folder / "hat_latency_wmt14ende.parquet")
    assert [(part.collection, part.devices, len(part.names)) for part in parts] == [
        ("hat:task=wmt14ende", (device,), 4000) for device in ("cpu_raspberrypi", "cpu_xeon", "gpu_titanxp")
    ]
