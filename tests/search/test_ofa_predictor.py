"""Files of torch read without torch, and once-for-all's accuracy predictor asked without it."""

from __future__ import annotations

import ast
import csv
import io
import os
import pickle
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from layerclock.errors import ArgumentError, GenomeError
from layerclock.plugins import load_evaluator
from layerclock.search.accuracy.ofa_predictor import ofa_predictor
from layerclock.search.accuracy.torch_file import read_tensors
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def _published(data_folder: Path) -> Path:
    return data_folder / "ofa" / "ofa_mbv3_acc_predictor.pth"


def _perceptron() -> nn.Sequential:
    """The network that the published file is for."""
    return nn.Sequential(nn.Linear(128, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 1))


def _one_hot(config: Mapping[str, list[int]], resolution: int) -> list[float]:
    """Once-for-all's encoding, block by block: what it calls 0 (a block beyond its stage's depth) has no one."""
    row = []
    for name, choices in (("ks", (3, 5, 7)), ("e", (3, 4, 6))):
        for block in range(20):
            stands = block % 4 < config["d"][block // 4]
            row += [float(stands and config[name][block] == choice) for choice in choices]
    return row + [float(resolution == side) for side in range(112, 225, 16)]


@pytest.fixture
def random_file(tmp_path: Path) -> tuple[Path, nn.Sequential]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _perceptron()
    torch.save(network.state_dict(), tmp_path / "predictor.pth")
    return tmp_path / "predictor.pth", network


@pytest.mark.parametrize("new", [True, False])
def test_every_kind_of_tensor_comes_back_as_torch_reads_it(new: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    tensors = {
        "whole": base,
        "transposed": base.T,
        "part": base[1:3, 2:4],
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 5),
        "half": base.half(),
        "double": base.double(),
        "small": torch.tensor([1, -2], dtype=torch.int8),
        "truth": torch.tensor([True, False]),
        "parameter": nn.Parameter(base[0].clone()),
    }
    for held in (tensors, {"state_dict": tensors, "epoch": 3}):
        torch.save(held, tmp_path / "file.pth", _use_new_zipfile_serialization=new)
        read = read_tensors(tmp_path / "file.pth")
        assert list(read) == list(tensors)
        for name, tensor in tensors.items():
            assert read[name].dtype == tensor.detach().numpy().dtype, name
            np.testing.assert_array_equal(read[name], tensor.detach().numpy())
            assert read[name].flags.owndata


def _zipped(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


def _legacy(content: bytes, path: Path) -> None:
    start = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(start + content + pickle.dumps([], 2))


class _Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("write", [_zipped, _legacy])
def test_a_file_that_would_run_something_is_refused_and_nothing_runs(write: Callable[[bytes, Path], None], tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    content = pickle.dumps({"0.weight": _Hostile(mark)}, 2)
    pickle.loads(content)  # noqa: S301 - the file is dangerous indeed
    assert mark.exists()
    mark.rmdir()
    write(content, tmp_path / "hostile.pth")
    with pytest.raises(ArgumentError, match=r"names (posix|nt)\.mkdir, which no tensor"):
        read_tensors(tmp_path / "hostile.pth")
    assert not mark.exists()


def test_what_is_no_mapping_of_tensors_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    with pytest.raises(ArgumentError, match="cannot read"):
        read_tensors(path)
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, whole)
    compressed = io.BytesIO()
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    broken = [b"", b"PK", b"nonsense", whole.getvalue()[:200], compressed.getvalue()]
    for held in ([torch.zeros(3)], {"a": 3}, {3: torch.zeros(3)}, {"a": {"b": torch.zeros(3)}}, 3):
        stream = io.BytesIO()
        torch.save(held, stream)
        broken.append(stream.getvalue())
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(ArgumentError, match=r"does not hold tensors") as caught:
            read_tensors(path)
        assert caught.value.hint


def test_answers_are_those_of_the_perceptron_on_once_for_alls_encoding(random_file: tuple[Path, nn.Sequential]) -> None:
    path, network = random_file
    predictor = load_evaluator(f"ofa-predictor:path={path},resolution=192")
    assert predictor.metric == "top1_percent"
    rng = np.random.default_rng(0)
    drawn = [
        {
            name: rng.choice(choices, size).tolist()
            for name, choices, size in (("ks", (3, 5, 7), 20), ("e", (3, 4, 6), 20), ("d", (2, 3, 4), 5))
        }
        for _ in range(50)
    ]
    with torch.inference_mode():
        expected = 100 * network(torch.tensor([_one_hot(config, 192) for config in drawn]))[:, 0]
    genomes = np.array([ofa_mobilenetv3().from_ofa(config) for config in drawn])
    np.testing.assert_allclose(predictor.evaluate(genomes), expected, rtol=1e-4, atol=1e-4)
    assert predictor.evaluate(genomes[:0]).shape == (0,)
    with pytest.raises(GenomeError):
        predictor.evaluate(genomes[:, 1:])


def test_other_resolutions_and_other_files_are_refused(random_file: tuple[Path, nn.Sequential], tmp_path: Path) -> None:
    path, network = random_file
    for resolution in (112, 150, 256):
        with pytest.raises(ArgumentError, match=f"{resolution} pixels") as caught:
            ofa_predictor(path, resolution)
        assert "160, 176, 192, 208, 224" in caught.value.hint
    weights = network.state_dict()
    for broken, reason in (
        ({name: tensor for name, tensor in weights.items() if name != "4.bias"}, "4.bias is not there"),
        (weights | {"0.weight": torch.zeros(400, 127)}, r"0.weight is \(400, 127\)"),
    ):
        torch.save(broken, tmp_path / "broken.pth")
        with pytest.raises(ArgumentError, match=reason):
            ofa_predictor(tmp_path / "broken.pth")


def test_the_published_file_is_read_as_torch_reads_it(data_folder: Path) -> None:
    read = read_tensors(_published(data_folder))
    loaded = torch.load(_published(data_folder), map_location="cpu", weights_only=True)
    assert list(read) == list(loaded)
    for name, tensor in loaded.items():
        np.testing.assert_array_equal(read[name], tensor.numpy())


def test_the_published_predictor_orders_networks_as_imagenet_does(data_folder: Path) -> None:
    """1,648 networks whose accuracy others have measured: their order is told well, their level is not (six points too high)."""
    predictor = ofa_predictor(_published(data_folder))
    rows = []
    for path in sorted((data_folder / "dynast").glob("*.csv")):
        with path.open() as file:
            rows += list(csv.DictReader(file))
    genomes = np.array([predictor.space.from_ofa(ast.literal_eval(row["Sub-network"])) for row in rows])
    measured = [float(row["Top-1 Acc (%)"]) for row in rows]
    assert spearmanr(predictor.evaluate(genomes), measured).statistic > 0.97
    index = SiteIndex.of(predictor.space)
    ends = predictor.evaluate(np.array([np.zeros(len(index.genes), dtype=np.int64), index.cardinality - 1]))
    assert 70 < ends[0] < ends[1] < 90
    among = predictor.evaluate(sample(index, 200, np.random.default_rng(0)))
    assert ends[0] < among.min()
    assert among.max() < ends[1]
    sides = [ofa_predictor(_published(data_folder), side).evaluate(genomes[:20]).mean() for side in (160, 176, 192, 208, 224)]
    assert sides == sorted(sides)


def test_no_torch_is_loaded(random_file: tuple[Path, nn.Sequential], run_python: Callable[[str], str]) -> None:
    code = f"""
import sys
from layerclock.search.accuracy.ofa_predictor import ofa_predictor
predictor = ofa_predictor({str(random_file[0])!r})
print(len(predictor.evaluate([[0] * len(predictor.space.genes)])), "torch" in sys.modules)
"""
    assert run_python(code).split() == ["1", "False"]
