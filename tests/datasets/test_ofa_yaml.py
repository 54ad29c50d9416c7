"""Once-for-all's lookup tables: read and written again they are the same text, and its estimator finds what it looks up in ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from layerclock.datasets.exports import export_table
from layerclock.datasets.public.ofa_yaml import read_ofa_yaml, write_ofa_yaml
from layerclock.datasets.schema import SCHEMA
from layerclock.datasets.table import LatencyTable, Provenance, read_table
from layerclock.errors import CoverageError, OutputError, TableError, TargetMismatchError, UnknownNameError
from layerclock.plugins import load_space
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3
from layerclock.space import SiteIndex, sample
from layerclock.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.search.spaces.mobilenetv3 import MobileNetV3Space

STAGES = ((24, 2, 0, 0), (40, 2, 1, 0), (80, 2, 0, 1), (112, 1, 1, 1), (160, 2, 1, 1))  # channels, stride, squeeze-excite, hard swish


def _eight(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _looked_up(space: MobileNetV3Space, genome: np.ndarray[Any, Any]) -> list[str]:
    """The keys that once-for-all's estimator asks for, put together from the network as its paper has it."""
    config = SiteIndex.of(space).decode(genome)
    side, width = (space.resolution + 1) // 2, space.width
    stem, first = _eight(16 * width), _eight(16 * width)
    keys = [f"Conv-input:{space.resolution}x{space.resolution}x3-output:{side}x{side}x{stem}"]
    keys.append(f"expanded_conv-input:{side}x{side}x{stem}-output:{side}x{side}x{first}-expand:{stem}-kernel:3-stride:1-idskip:1-se:0-hs:0")
    incoming = first
    for stage, (base, first_stride, se, hs) in enumerate(STAGES, start=1):
        channels = _eight(base * width)
        for block in range(1, int(config[f"stage{stage}.depth"]) + 1):
            kernel, expand = (config[f"stage{stage}.block{block}.{what}"] for what in ("kernel", "expand"))
            stride = first_stride if block == 1 else 1
            out = int((side - 1) / stride + 1)
            skip = int(stride == 1 and incoming == channels)
            block_name = (
                f"expanded_conv-input:{side}x{side}x{incoming}-output:{out}x{out}x{channels}-expand:{_eight(incoming * int(expand))}"
            )
            keys.append(f"{block_name}-kernel:{kernel}-stride:{stride}-idskip:{skip}-se:{se}-hs:{hs}")
            side, incoming = out, channels
    final, mix = _eight(960 * width), _eight(1280 * width)
    return [*keys, f"Conv_1-input:{side}x{side}x{incoming}-output:{side}x{side}x{final}",
            f"AvgPool2D-input:{side}x{side}x{final}-output:1x1x{final}", f"Conv_2-input:1x1x{final}-output:1x1x{mix}",
            f"Logits-input:1x1x{mix}-output:1000"]  # fmt: skip


def _measured(space: MobileNetV3Space, leave_out: int = 0) -> LatencyTable:
    """Layer rows as a campaign has them, with random times."""
    index, rng = SiteIndex.of(space), np.random.default_rng(0)
    rows = [
        {"level": "layer", "role": "profiled", "key": layer.key, "op": layer.op, "attributes": json.dumps(dict(layer.attributes)),
         "latency_us": float(rng.uniform(50, 900)), "std_us": 2.0, "n_samples": 40, "status": "steady", "reason": ""}
        for layer in index.vocabulary[leave_out:]
    ]  # fmt: skip
    target = Target("mine", "onnxruntime", "1.31", "float32", 1, 1)
    return LatencyTable.from_rows(rows, target, space.name, index.digest, Provenance("test", "", "", ""), {})


@pytest.mark.parametrize("space", [ofa_mobilenetv3(resolution=128), ofa_mobilenetv3(1.2, 176), ofa_mobilenetv3(0.5)])
def test_the_estimator_finds_every_layer_of_our_tables_and_sums_to_the_same(space: MobileNetV3Space, tmp_path: Path) -> None:
    table, path, index = _measured(space), tmp_path / "lookup.yaml", SiteIndex.of(space)
    export_table(table, "ofa-yaml", path)
    entries = yaml.safe_load(path.read_text())
    rows = table.layer_latencies_us()
    for genome in sample(index, 20, np.random.default_rng(1)):
        theirs = sum(entries[key]["mean"] for key in _looked_up(space, genome))
        ours = sum(rows[placed.layer.key] for placed in index.network(genome).layers) / 1e3
        assert theirs == pytest.approx(ours)
    assert all(entry["count"] in (0, 40) for entry in entries.values())
    assert [key for key, entry in entries.items() if entry["mean"] == 0] == [key for key in entries if key.startswith("AvgPool2D")]
    back = read_ofa_yaml(path, space.name, "mine")
    assert back.space == space.name
    assert {key: pytest.approx(time) for key, time in rows.items()} == back.layer_latencies_us()


def test_the_published_tables_are_read_and_written_unchanged(data_folder: Path, tmp_path: Path) -> None:
    for resolution in (160, 176, 192, 208, 224):
        published = data_folder / "ofa" / f"{resolution}_lookup_table.yaml"
        table = read_ofa_yaml(published, device="note10")
        # Their numbers are those of the network that is 1.2 times as wide.
        space = ofa_mobilenetv3(1.2, resolution)
        assert (table.space, table.space_digest) == (space.name, SiteIndex.of(space).digest)
        assert (table.target.device, table.target.runtime, table.provenance.licence) == ("note10", "as published", "MIT")
        assert table.coverage["layers_measured"] == table.coverage["layers_of_the_space"] == len(table)
        table.write(tmp_path / "table.parquet")
        write_ofa_yaml(read_table(tmp_path / "table.parquet"), tmp_path / "again.yaml")
        assert (tmp_path / "again.yaml").read_bytes() == published.read_bytes()
        entries = yaml.safe_load(published.read_text())
        rows = table.layer_latencies_us()
        for genome in sample(SiteIndex.of(space), 5, np.random.default_rng(resolution)):
            ours = sum(rows[placed.layer.key] for placed in SiteIndex.of(space).network(genome).layers) / 1e3
            assert ours == pytest.approx(sum(entries[key]["mean"] for key in _looked_up(space, genome)))
        row = next(row for row in table.rows.to_pylist() if row["op"] == "conv")
        entry = entries[f"Conv-input:{resolution}x{resolution}x3-output:{resolution // 2}x{resolution // 2}x24"]
        assert (row["n_samples"], row["latency_us"], row["std_us"]) == (entry["count"], 1e3 * entry["mean"], 1e3 * entry["std"])
        assert [row[name] for name in ("p50_us", "interval_low_us", "noise_floor", "threads")] == [None] * 4


def test_what_a_table_lacks_or_is_not_is_told(tmp_path: Path) -> None:
    space, path = ofa_mobilenetv3(resolution=128), tmp_path / "lookup.yaml"
    with pytest.raises(CoverageError, match=r"1 of the \d+ layers of ofa-mobilenetv3:resolution=128 have no measurement, conv"):
        write_ofa_yaml(_measured(space, leave_out=1), path)
    whole = _measured(space)
    index = SiteIndex.of(load_space("ofa-resnet50"))
    other = LatencyTable(whole.rows, whole.targets, "ofa-resnet50", index.digest, whole.provenance)
    with pytest.raises(TableError, match="no name for the layers of ofa-resnet50"):
        write_ofa_yaml(other, path)
    with pytest.raises(TableError, match="another version"):
        write_ofa_yaml(LatencyTable(whole.rows, whole.targets, space.name, "0" * 16, whole.provenance), path)
    two = LatencyTable(whole.rows, {**whole.targets, "b": Target("b", "", "", "", 1, 1)}, space.name, whole.space_digest, whole.provenance)
    with pytest.raises(TargetMismatchError, match="2 targets"):
        write_ofa_yaml(two, path)
    with pytest.raises(UnknownNameError):
        export_table(whole, "ofa-json", path)
    assert not path.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        export_table(whole, "ofa-yaml", tmp_path / "file" / "lookup.yaml")


def test_a_changed_time_is_written_and_not_the_published_one(tmp_path: Path) -> None:
    path = tmp_path / "lookup.yaml"
    write_ofa_yaml(_measured(ofa_mobilenetv3(resolution=128)), path)
    table = read_ofa_yaml(path)
    slower = [row | {"latency_us": 2 * row["latency_us"]} for row in table.rows.to_pylist()]
    changed = LatencyTable(pa.Table.from_pylist(slower, schema=SCHEMA), table.targets, table.space, table.space_digest, table.provenance)
    write_ofa_yaml(changed, tmp_path / "slower.yaml")
    before, after = (yaml.safe_load((tmp_path / name).read_text()) for name in ("lookup.yaml", "slower.yaml"))
    assert {key: 2 * entry["mean"] for key, entry in before.items()} == pytest.approx({key: entry["mean"] for key, entry in after.items()})


@pytest.mark.parametrize(
    "attributes",
    ["[1]", "{", "3", '{"published": 3}', '{"published": [1]}', '{"published": {"Conv": 3}}', '{"published": {"Conv": {"mean": "x"}}}'],
)
def test_strange_attributes_are_told_and_nothing_is_written(attributes: str, tmp_path: Path) -> None:
    table = _measured(ofa_mobilenetv3(resolution=128))
    rows = [row | {"attributes": attributes} for row in table.rows.to_pylist()]
    strange = LatencyTable(pa.Table.from_pylist(rows, schema=SCHEMA), table.targets, table.space, table.space_digest, table.provenance)
    with pytest.raises(TableError, match=r"the attributes of .*use the original file"):
        write_ofa_yaml(strange, tmp_path / "lookup.yaml")
    assert not (tmp_path / "lookup.yaml").exists()


def test_part_of_a_table_is_read_and_its_coverage_told(tmp_path: Path) -> None:
    path = tmp_path / "lookup.yaml"
    write_ofa_yaml(_measured(ofa_mobilenetv3(resolution=128)), path)
    entries = yaml.safe_load(path.read_text())
    kept = {key: entry for key, entry in entries.items() if "expanded_conv" not in key}
    path.write_text(yaml.dump(kept))
    table = read_ofa_yaml(path)
    assert (len(table), table.coverage["layers_measured"]) == (4, 4.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no entries"),
        ("- 1\n", "holds no entries"),
        ("a: b: c\n", "is no YAML"),
        ("!!python/object/apply:os.system ['true']\n", "is no YAML"),
        ("Conv: 3\n", "the entry 'Conv' has no mean"),
        ("Conv:\n  count: 3\n", "the entry 'Conv' has no mean"),
        ("Conv:\n  mean: fast\n", "the entry 'Conv' has no mean"),
        ("Conv:\n  mean: -1.0\n", "the entry 'Conv' has no mean"),
        ("Conv:\n  mean: .nan\n", "the entry 'Conv' has no mean"),
        ("1:\n  mean: 1.0\n", "the entry 1 has no mean"),
        ("Conv:\n  mean: 1.0\n  std: [1]\n", "or other values"),
        ("Conv:\n  mean: 1.0\n", "no entry for a first convolution"),
        ("[" * 3000, "is no YAML"),
    ],
)
def test_other_yaml_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "strange.yaml").write_text(text)
    with pytest.raises(TableError, match=reason):
        read_ofa_yaml(tmp_path / "strange.yaml")


def test_tables_of_other_spaces_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lookup.yaml"
    write_ofa_yaml(_measured(ofa_mobilenetv3(resolution=128)), path)
    with pytest.raises(TableError, match=r"is no layer of ofa-mobilenetv3:resolution=160"):
        read_ofa_yaml(path, "ofa-mobilenetv3:resolution=160")
    with pytest.raises(TableError, match="no name for the layers of ofa-proxyless"):
        read_ofa_yaml(path, "ofa-proxyless")
    write_ofa_yaml(_measured(ofa_mobilenetv3(0.5, 128)), path)
    with pytest.raises(TableError, match=r"at width 1 or 1\.2 and 128 pixels"):
        read_ofa_yaml(path)
    entries = yaml.safe_load(path.read_text())
    first = next(key for key in entries if key.startswith("Conv-"))
    path.write_text(yaml.dump(entries | {first: {"mean": 0.0}}))
    with pytest.raises(TableError, match="takes no time"):
        read_ofa_yaml(path, "ofa-mobilenetv3:width=0.5,resolution=128")
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(TableError):
        read_ofa_yaml(path)
    with pytest.raises(TableError, match="cannot read"):
        read_ofa_yaml(tmp_path / "absent.yaml")
