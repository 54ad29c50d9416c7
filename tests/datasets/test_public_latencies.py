"""Latencies that others have published: small files of each format, written here as their makers write them, and the real ones."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from layerclock.datasets.public.as_tables import space_tables
from layerclock.datasets.public.formats import FORMATS, import_tables
from layerclock.datasets.public.help_folder import read_help
from layerclock.datasets.public.hw_nas_bench import read_hw_nas_bench
from layerclock.datasets.public.latbench import read_latbench
from layerclock.datasets.public.latencies import PublicLatencies
from layerclock.datasets.public.wide_parquet import read_wide_parquet
from layerclock.datasets.table import read_table
from layerclock.errors import ArgumentError, GenomeError, TableError, UnknownNameError
from layerclock.plugins import load_space
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from pathlib import Path

CIFAR_FBNET = "fbnet:layout=cifar,resolution=32,classes=100"
STRINGS = [
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
]
GENOMES = [[4, 2, 1, 2, 1, 1], [3, 3, 4, 1, 3, 1], [0] * 6]


def _help_cells(folder: Path) -> Path:
    (folder / "latency").mkdir(parents=True)
    # Not in the order of their numbers.
    torch.save({STRINGS[1]: 1, STRINGS[0]: 0, STRINGS[2]: 2}, folder / "str_arch2idx.pt")
    torch.save([1.5, 2.5, 0.5], folder / "latency" / "titan_rtx_256.pt")
    torch.save(torch.tensor([3.0, 4.0, 1.0]), folder / "latency" / "samsung_s7.pt")
    return folder


def test_helps_cells(tmp_path: Path) -> None:
    found = read_help([_help_cells(tmp_path / "nasbench201")])
    assert (found.space, found.licence, found.source) == ("nas-bench-201", "MIT", "https://github.com/HayeonLee/HELP")
    assert found.genomes.tolist() == GENOMES
    assert found.devices == ("samsung_s7", "titan_rtx_256")
    assert found.latency_ms.tolist() == [[3.0, 1.5], [4.0, 2.5], [1.0, 0.5]]
    phone, gpu = space_tables(found)
    assert (phone.target.batch, gpu.target.batch) == (None, 256)
    one = read_help([tmp_path / "nasbench201" / "latency" / "titan_rtx_256.pt"])
    assert (one.devices, one.latency_ms.tolist()) == (("titan_rtx_256",), [[1.5], [2.5], [0.5]])


def test_helps_fbnets(tmp_path: Path) -> None:
    codes = [[0, 1, 2, 3, 4, 5, 6, 7, 8, *[0] * 13], [8] * 22]
    (tmp_path / "latency").mkdir()
    torch.save({"arch": [{"op_idx_list": one, "dataset": "cifar100"} for one in codes]}, tmp_path / "metainfo.pt")
    torch.save(np.array([7.5, 2.5]), tmp_path / "latency" / "eyeriss.pt")
    found = read_help([tmp_path])
    assert (found.space, found.genomes.tolist()) == (CIFAR_FBNET, codes)
    assert read_help([tmp_path], "fbnet").space == "fbnet"
    with pytest.raises(TableError, match="hold networks of fbnet, not of nas-bench-201"):
        read_help([tmp_path], "nas-bench-201")
    torch.save({"arch": [{"op_idx_list": [9] * 22}] * 2}, tmp_path / "metainfo.pt")
    with pytest.raises(TableError, match="not operation codes"):
        read_help([tmp_path])
    torch.save([1, 2], tmp_path / "metainfo.pt")
    with pytest.raises(TableError, match="lists no architectures"):
        read_help([tmp_path])


def test_help_files_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = _help_cells(tmp_path / "nasbench201")
    torch.save([1.0, 2.0], folder / "latency" / "fpga.pt")
    with pytest.raises(TableError, match=r"fpga\.pt holds \(2,\) latencies for 3 architectures"):
        read_help([folder])
    torch.save([1.0, 0.0, 2.0], folder / "latency" / "fpga.pt")
    with pytest.raises(TableError, match=r"network 1 took 0\.0 ms on fpga"):
        read_help([folder])
    torch.save({"a": 1}, folder / "latency" / "fpga.pt")
    with pytest.raises(TableError, match="no list of milliseconds"):
        read_help([folder])
    torch.save({STRINGS[0]: 0, STRINGS[1]: 2}, folder / "str_arch2idx.pt")
    with pytest.raises(TableError, match="does not number its 2 architectures from 0"):
        read_help([folder])
    (folder / "str_arch2idx.pt").unlink()
    with pytest.raises(TableError, match="neither str_arch2idx"):
        read_help([folder])
    with pytest.raises(TableError, match="in 0 folders of HELP"):
        read_help([tmp_path])


def test_latbench(tmp_path: Path) -> None:
    held = {tuple(GENOMES[0]): 0.004, tuple(GENOMES[1]): np.float64(0.008)}
    (tmp_path / "embedded-gpu-jetson-nono-fp16.pickle").write_bytes(pickle.dumps(held))
    (tmp_path / "mine.pickle").write_bytes(pickle.dumps({tuple(GENOMES[1]): 0.001}))
    found = read_latbench(sorted(tmp_path.glob("*.pickle")))
    assert (found.space, found.devices, found.licence) == ("nas-bench-201", ("embedded-gpu-jetson-nono-fp16", "mine"), "Apache-2.0")
    assert found.genomes.tolist() == GENOMES[:2]
    np.testing.assert_array_equal(found.latency_ms, [[4.0, np.nan], [8.0, 1.0]])
    tables = space_tables(found)
    assert [len(table) for table in tables] == [2, 1], "what a device did not measure has no row"
    assert [table.target.precision for table in tables] == ["float16", "not told"]
    for strange, reason in (
        ([1, 2], "does not map"),
        ({(1, 2): 3.0}, "not operation codes"),
        ({(9,) * 6: 1.0}, "not operation codes"),
        ({"a": 1}, "does not map"),
    ):
        (tmp_path / "mine.pickle").write_bytes(pickle.dumps(strange))
        with pytest.raises(TableError, match=reason):
            read_latbench([tmp_path / "mine.pickle"])


def test_hw_nas_bench_cells(tmp_path: Path) -> None:
    metrics = {"config": [{"arch_str": text, "C": 16} for text in STRINGS], "edgegpu_latency": [5.0, 6.0, 1.0], "edgegpu_energy": [1.0] * 3,
               "fpga_latency": np.array([2.5, 3.5, 0.5])}  # fmt: skip
    other = metrics | {"config": dict(enumerate(metrics["config"]))}  # type: ignore[arg-type]
    path = tmp_path / "HW-NAS-Bench-v1_0.pickle"
    path.write_bytes(pickle.dumps({"nasbench201": {"cifar10": metrics, "cifar100": other, "ImageNet16-120": metrics}, "fbnet": {}}))
    for dataset, space in (("cifar10", ""), ("cifar100", ":classes=100"), ("ImageNet16-120", ":resolution=16,classes=120")):
        found = read_hw_nas_bench(path, dataset)
        assert (found.space, found.devices, found.genomes.tolist()) == (f"nas-bench-201{space}", ("edgegpu", "fpga"), GENOMES)
        assert found.latency_ms.tolist() == [[5.0, 2.5], [6.0, 3.5], [1.0, 0.5]]
    assert len(import_tables("hw-nas-bench", [path])) == 6
    (table,) = [one for one in import_tables("hw-nas-bench", [path], "nas-bench-201:classes=100") if one.target.device == "fpga"]
    assert table.networks().latency_ms.tolist() == [2.5, 3.5, 0.5]
    with pytest.raises(TableError, match="holds nothing for vit"):
        import_tables("hw-nas-bench", [path], "vit")
    with pytest.raises(TableError, match="no data set 'mnist'"):
        read_hw_nas_bench(path, "mnist")
    path.write_bytes(pickle.dumps({"nasbench201": {"cifar10": {"config": [{}]}}}))
    with pytest.raises(TableError, match="no latencies of NAS-Bench-201 for cifar10: KeyError 'arch_str'"):
        import_tables("hw-nas-bench", [path])


def _fbnet_entries(dataset: str, genome: list[int] | None = None) -> list[str]:
    """Names of HW-NAS-Bench's entries for one network, or without one of all, put together from FBNet's macro-architecture."""
    candidates = [(3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1)]
    strides, side, stem, last, classes = {
        "cifar100": ((1, 1, 2, 2, 1, 2, 1), 32, 1, 1504, 100), "ImageNet": ((1, 2, 2, 2, 1, 2, 1), 224, 2, 1984, 1000),
    }[dataset]  # fmt: skip
    names = [f"ConvNorm_H{side}_W{side}_Cin3_Cout16_kernel3_stride{stem}_group1"]
    side, incoming, block = side // stem, 16, 0
    for number, channels, first in zip((1, 4, 4, 4, 4, 4, 1), (16, 24, 32, 64, 112, 184, 352), strides, strict=True):
        for position in range(number):
            stride = first if position == 0 else 1
            start = f"H{side}_W{side}_Cin{incoming}_Cout{channels}"
            options = [f"ConvBlock_{start}_exp{e}_kernel{k}_stride{stride}_group{g}" for k, e, g in candidates]
            options.append(f"Skip_{start}_stride{stride}")
            names += options if genome is None else [options[genome[block]]]
            side, incoming, block = side // stride, channels, block + 1
    names.append(f"ConvNorm_H{side}_W{side}_Cin352_Cout{last}_kernel1_stride1_group1")
    names.append(f"AvgP_H{side}_W{side}_Cin{last}_Cout{last}_kernel{side}_stride1")
    return [*names, f"FC_Cin{last}_Cout{classes}"]


def test_hw_nas_benchs_layers_sum_to_its_networks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = sorted({name for dataset in ("cifar100", "ImageNet") for name in _fbnet_entries(dataset)})
    times = {name: float(time) for name, time in zip(names, rng.uniform(0.1, 2, len(names)), strict=True)}
    path = tmp_path / "bench.pickle"
    path.write_bytes(pickle.dumps({"nasbench201": {}, "fbnet": {"pixel3_latency": times, "pixel3_energy": times}}))
    for dataset, name in (("cifar100", CIFAR_FBNET), ("ImageNet", "fbnet")):
        (table,) = import_tables("hw-nas-bench", [path], name)
        index = SiteIndex.of(load_space(name))
        assert (table.space, table.space_digest, table.target.device) == (name, index.digest, "pixel3")
        assert len(table) == len(index.vocabulary)
        rows = table.layer_latencies_us()
        for genome in rng.integers(0, 9, (5, 22)).tolist():
            ours = sum(rows[placed.layer.key] for placed in index.network(np.array(genome)).layers) / 1e3
            # A skip that keeps the shape is nothing in our space.
            theirs = [name for name in _fbnet_entries(dataset, genome) if not _keeps_shape(name)]
            assert ours == pytest.approx(sum(times[name] for name in theirs))
        assert "skips that change no shape" in table.provenance.conditions["left_out"]
    del times[next(name for name in names if name.startswith("ConvBlock"))]
    path.write_bytes(pickle.dumps({"fbnet": {"pixel3_latency": times}}))
    with pytest.raises(TableError, match="has no latency of fbnet_block"):
        [import_tables("hw-nas-bench", [path], name) for name in (CIFAR_FBNET, "fbnet")]
    path.write_bytes(pickle.dumps({"fbnet": [1]}))
    with pytest.raises(TableError, match="has no table of FBNet's layers"):
        import_tables("hw-nas-bench", [path], "fbnet")


def _keeps_shape(name: str) -> bool:
    kind, *parts = name.split("_")
    return kind == "Skip" and parts[2].removeprefix("Cin") == parts[3].removeprefix("Cout") and parts[4] == "stride1"


def _wide(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_wide_parquet(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    numbers = {"arch_index": [0, 1, 2], "titanx_32": [1.0, 2.0, 3.0], "pixel3": [4.0, None, float("nan")], "note": ["a", "b", "c"]}
    cells = read_wide_parquet(_wide(path, arch_str=STRINGS, **numbers))
    assert (cells.space, cells.genomes.tolist(), cells.devices) == ("nas-bench-201", GENOMES, ("titanx_32", "pixel3"))
    np.testing.assert_array_equal(cells.latency_ms, [[1, 4], [2, np.nan], [3, np.nan]])
    assert [(len(table), table.target.batch) for table in space_tables(cells)] == [(3, 32), (1, None)]
    assert read_wide_parquet(_wide(path, arch=[[8] * 22] * 3, **numbers)).space == CIFAR_FBNET
    own = read_wide_parquet(_wide(path, genome=[[0] * 45] * 3, **numbers), "ofa-mobilenetv3:resolution=128")
    assert own.space == "ofa-mobilenetv3:resolution=128"
    with pytest.raises(TableError, match="tells no space"):
        read_wide_parquet(path)
    with pytest.raises(GenomeError):
        read_wide_parquet(path, "vit")
    with pytest.raises(TableError, match="not an architecture"):
        read_wide_parquet(_wide(path, arch_str=["|none~0|", *STRINGS[1:]], **numbers))
    with pytest.raises(TableError, match="no column that tells the networks"):
        read_wide_parquet(_wide(path, **numbers))
    with pytest.raises(TableError, match="no column that tells the networks, or none of latencies"):
        read_wide_parquet(_wide(path, arch_str=STRINGS))
    with pytest.raises(TableError, match="equally many"):
        read_wide_parquet(_wide(path, arch=[[8] * 22, [8], None], **numbers))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TableError, match="cannot read"):
        read_wide_parquet(path)


@pytest.fixture
def latencies() -> PublicLatencies:
    latency_ms = np.array([[1.5, np.nan], [2.5, 3.0], [np.nan, 4.0]])
    return PublicLatencies("nas-bench-201", np.array(GENOMES), latency_ms, ("a", "b"), "somewhere", "CC0-1.0")


def test_what_was_not_published_is_null(latencies: PublicLatencies, tmp_path: Path) -> None:
    table, _ = space_tables(latencies)
    index = SiteIndex.of(load_space("nas-bench-201"))
    table.write(tmp_path / "table.parquet")
    read = read_table(tmp_path / "table.parquet")
    assert read.rows.equals(table.rows)
    assert read.targets == table.targets
    assert (read.provenance.licence, read.provenance.conditions["source"]) == ("CC0-1.0", "somewhere")
    first, second = read.rows.to_pylist()
    told = {
        "schema_version": 1, "level": "network", "role": "profiled", "key": "4 2 1 2 1 1", "op": "nas-bench-201", "genome": GENOMES[0],
        "attributes": json.dumps(index.decode(np.array(GENOMES[0])), sort_keys=True), "macs": int(index.macs([GENOMES[0]])[0]),
        "params": int(index.params([GENOMES[0]])[0]), "method": "end-to-end", "n_networks": 1, "latency_us": 1500.0, "status": "steady",
        "reason": "", "target_id": table.target.id, "device": "a", "runtime_version": "as published ", "affinity": "",
    }  # fmt: skip
    assert first == {name: told.get(name) for name in first}
    assert second["latency_us"] == 2500.0
    assert (read.target.threads, read.target.batch) == (None, None)
    assert "threads not told, batch not told" in str(read.target)


def test_numbers_that_cannot_be_are_refused(latencies: PublicLatencies) -> None:
    for change, reason in (
        ({"latency_ms": np.zeros((3, 2))}, r"network 0 took 0\.0 ms on a"),
        ({"latency_ms": np.full((3, 2), np.inf)}, "took inf ms"),
        ({"latency_ms": np.ones((2, 2))}, "3 networks on 2 devices"),
        ({"devices": ("a", "a")}, "'a' occurs twice"),
        ({"genomes": np.zeros(3, dtype=np.int64)}, "one row a network"),
    ):
        with pytest.raises(TableError, match=reason):
            replace(latencies, **change)
    with pytest.raises(GenomeError):
        space_tables(replace(latencies, space="fbnet"))
    with pytest.raises(UnknownNameError):
        space_tables(replace(latencies, space="nasbench"))
    with pytest.raises(TableError, match="no latency of any device"):
        space_tables(replace(latencies, latency_ms=np.full((3, 2), np.nan)))


def test_formats_are_named_and_take_what_they_need(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean latbench"):
        import_tables("latbnch", [tmp_path])
    with pytest.raises(ArgumentError, match="tell their space themselves"):
        import_tables("nnlqp", [tmp_path], "vit")
    with pytest.raises(ArgumentError, match="tell their device themselves"):
        import_tables("latbench", [tmp_path], "", "phone")
    assert all(one.description for one in FORMATS.values())


def test_the_published_cells(data_folder: Path) -> None:
    found = read_wide_parquet(data_folder / "nb201_latency.parquet")
    assert found.latency_ms.shape == (5**6, 34)
    tables = space_tables(found)
    unmeasured = np.isnan(found.latency_ms).sum(axis=0)
    assert [len(table) for table in tables] == (5**6 - unmeasured).tolist()
    networks = tables[0].networks()
    assert np.array_equal(networks.genomes, found.genomes)
    np.testing.assert_allclose(networks.latency_ms, found.latency_ms[:, 0])
    assert _as_before(tables[-1]) == tables[-1].content_hash


def _as_before(table: Any) -> str:
    """The hash as it is defined: of each row's own JSON."""
    digest = hashlib.sha256(table.target.to_json().encode())
    for row in table.rows.to_pylist():
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def test_the_published_fbnets(data_folder: Path) -> None:
    found = read_wide_parquet(data_folder / "fbnet_latency.parquet")
    assert (found.space, found.latency_ms.shape) == (CIFAR_FBNET, (5000, 27))
    assert np.isfinite(found.latency_ms).all()
