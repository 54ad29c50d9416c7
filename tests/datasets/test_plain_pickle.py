"""Pickles of plain numbers: what is honest is read, and what would run something, or change us, is refused before it does."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from layerclock.datasets.plain_pickle import PLAIN, read_plain_pickle
from layerclock.datasets.torch_file import TENSORS, read_torch
from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HELD = {
    "numbers": [1, 2.5, None, True],
    (0, 1): OrderedDict(a="text"),
    "floats": np.linspace(0, 1, 7),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">f4"),
    "texts": np.array(["k3_e1", "skip"]),
    "objects": np.array([{"arch": "x"}, [1, 2]], dtype=object),
    "truth": np.array([True, False]),
    "scalar": np.float32(0.5),
    "integer": np.int64(3),
    "empty": np.zeros((0, 4)),
    "set": {1, 2},
    "bytes": b"\x00\xff",
    "no bytes": b"",
    "array of bytes": bytearray(b"\x00\xff"),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_content_comes_back_whatever_the_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "held.pickle"
    path.write_bytes(pickle.dumps(HELD, protocol))
    read = read_plain_pickle(path)
    assert list(read) == list(HELD)
    for key, value in HELD.items():
        if isinstance(value, np.ndarray):
            array = np.asarray(read[key])
            assert array.dtype.newbyteorder("=") == value.dtype.newbyteorder("="), key
            np.testing.assert_array_equal(array, value)
            assert len(read[key]) == len(value)
        else:
            assert read[key] == value, key


def test_names_of_older_numpy_are_the_same(tmp_path: Path) -> None:
    old = pickle.dumps(np.arange(4.0), 2).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in old
    (tmp_path / "old.pickle").write_bytes(old)
    assert np.asarray(read_plain_pickle(tmp_path / "old.pickle")).tolist() == [0, 1, 2, 3]


class _Call:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize("reader", [read_plain_pickle, read_torch])
def test_what_would_run_something_is_refused_and_nothing_runs(reader: Callable[[Path], object], tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    hostile = pickle.dumps({(0,) * 6: _Call(os.mkdir, str(mark))}, 2)
    pickle.loads(hostile)  # noqa: S301 - the file is dangerous indeed
    mark.rmdir()
    path = tmp_path / "hostile.pickle"
    legacy = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(hostile if reader is read_plain_pickle else legacy + hostile)
    with pytest.raises(TableError, match=r"names (posix|nt)\.mkdir, which no"):
        reader(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "function", [eval, getattr, __import__, np.load, np.frombuffer, np.array, os.system, pickle.loads, OrderedDict.fromkeys]
)
def test_other_names_are_refused(function: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "hostile.pickle").write_bytes(pickle.dumps(_Call(function, "1"), 4))
    with pytest.raises(TableError, match="it names"):
        read_plain_pickle(tmp_path / "hostile.pickle")


def test_a_stream_cannot_change_what_it_is_given(tmp_path: Path) -> None:
    """GLOBAL, then BUILD with a state: what pickle does where there is no ``__setstate__`` is to set attributes."""
    known = {**PLAIN, **TENSORS}
    before = {name: getattr(value, "_make", value) for name, value in known.items()}
    for name in known:
        module, _, attribute = name.rpartition(".")
        for state in (b"}U\x05_makeU\x01xs", b"N}U\x05_makeU\x01xs\x86", b"]U\x01xa"):
            for reader, start in ((read_plain_pickle, b""), (read_torch, _LEGACY)):
                path = tmp_path / "hostile.pickle"
                path.write_bytes(start + f"c{module}\n{attribute}\n".encode() + state + b"b.")
                with pytest.raises(TableError):
                    reader(path)
    assert {name: getattr(value, "_make", value) for name, value in known.items()} == before


_LEGACY = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))


@pytest.mark.parametrize(
    "array",
    [np.zeros(3, dtype=[("a", "f8")]), np.array(["2020-01-01"], dtype="M8[D]"), np.zeros(2, dtype=np.void)],
)
def test_arrays_of_other_things_than_numbers_and_texts_are_refused(
    array: np.ndarray[tuple[int], np.dtype[np.generic]], tmp_path: Path
) -> None:
    (tmp_path / "strange.pickle").write_bytes(pickle.dumps(array))
    with pytest.raises(TableError, match="is no pickle of plain numbers"):
        read_plain_pickle(tmp_path / "strange.pickle")


def test_an_array_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    honest = pickle.dumps(np.arange(4.0), 4)
    for wrong in (honest.replace(b"K\x04\x85", b"K\x05\x85"), honest.replace(b"K\x04\x85", b"J\xff\xff\xff\xff\x85")):
        assert wrong != honest
        (tmp_path / "lying.pickle").write_bytes(wrong)
        with pytest.raises(TableError, match="is no pickle of plain numbers"):
            read_plain_pickle(tmp_path / "lying.pickle")


def test_a_truncated_pickle_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    whole = pickle.dumps(HELD)
    path = tmp_path / "part.pickle"
    for kept in {0, 1, 2, *range(5, len(whole), 23), len(whole) - 1}:
        path.write_bytes(whole[:kept])
        with pytest.raises(TableError, match="it may be truncated"):
            read_plain_pickle(path)
    for absent in (tmp_path / "absent.pickle", tmp_path):
        with pytest.raises(TableError, match="cannot read"):
            read_plain_pickle(absent)


@pytest.mark.parametrize("new", [True, False])
def test_torch_files_of_lists_arrays_and_tensors_are_read(new: bool, tmp_path: Path) -> None:
    path = tmp_path / "latency.pt"
    for held in ([1.5, 2.5], np.array([1.5, 2.5]), torch.tensor([1.5, 2.5]), [np.float32(1.5), np.float32(2.5)]):
        torch.save(held, path, _use_new_zipfile_serialization=new)
        np.testing.assert_array_equal(np.asarray(read_torch(path)), [1.5, 2.5])
    torch.save({"arch": [{"op_idx_list": [1, 2], "dataset": "cifar100"}]}, path, _use_new_zipfile_serialization=new)
    assert read_torch(path) == {"arch": [{"op_idx_list": [1, 2], "dataset": "cifar100"}]}
    whole = path.read_bytes()
    for kept in (0, 1, 50, len(whole) // 2):
        path.write_bytes(whole[:kept])
        with pytest.raises(TableError, match="does not hold plain numbers"):
            read_torch(path)
    with pytest.raises(TableError, match="cannot read"):
        read_torch(tmp_path / "absent.pt")
