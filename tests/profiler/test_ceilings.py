"""The ceilings of the roofline: what each probe runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from layerclock.interfaces import DeviceOptions
from layerclock.plugins import open_device
from layerclock.profiler import ceilings
from layerclock.profiler.ceilings import measure_ceilings
from layerclock.profiler.pools import open_pool

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import Device
    from layerclock.profiler.pools import Pool


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_memory_is_shown_in_float32_and_products_in_the_precision(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def watched(device: Device, limit_s: float, log: Path, affinity: tuple[int, ...] = ()) -> Pool:
        opened.append(device.options)
        return open_pool(device, limit_s, log, affinity)

    monkeypatch.setattr(ceilings, "open_pool", watched)
    options = DeviceOptions(extra={"session.intra_op.allow_spinning": "0"}, precision=precision)
    found = measure_ceilings(open_device("onnxruntime:cpu", options), tmp_path)
    assert set(found) == {"flops_per_s", "bytes_per_s"}
    assert [one.precision for one in opened] == list(dict.fromkeys((precision, "float32")))
    assert {one.extra["session.intra_op.allow_spinning"] for one in opened} == {"0"}
