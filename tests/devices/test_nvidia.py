"""Which GPU a number means, told by an ``nvidia-smi`` that the tests write: its answers have the form that NVIDIA documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from layerclock.devices import nvidia
from layerclock.devices.nvidia import gpus_meant, nvidia_fingerprint
from layerclock.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes this a machine with GPUs of these names."""

    def install(*names: str) -> None:
        rows = "".join(f"{number}, GPU-{number}{number}, {name}, 570.1\n" for number, name in enumerate(names))
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{rows}END\n")
        program.chmod(0o755)
        nvidia._gpus.cache_clear()

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    yield install
    nvidia._gpus.cache_clear()


def test_the_gpu_is_the_one_that_the_environment_leaves(gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus("T4", "H200")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert nvidia_fingerprint() == (("gpu", "T4"), ("driver", "570.1"))
    assert nvidia_fingerprint(1) == (("gpu", "H200"), ("driver", "570.1"))
    assert nvidia_fingerprint(2) == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert [gpu.name for gpu in gpus_meant(0)] == ["H200"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_meant(0) == ()
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-11")
    assert [gpu.name for gpu in gpus_meant(0)] == ["H200"]


def test_gpus_that_a_number_may_mean_are_not_guessed_at(gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus("T4", "H200")
    with pytest.raises(DeviceError, match=r"CUDA's GPU 0 may be any of H200, T4 .*CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        nvidia_fingerprint()
    gpus("H200", "H200")
    assert nvidia_fingerprint(1) == (("gpu", "H200"), ("driver", "570.1"))
    assert len(gpus_meant(1)) == 2
    gpus("A100")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5c1d")
    assert nvidia_fingerprint() == (("gpu", "A100"), ("driver", "570.1"))
    gpus()
    assert nvidia_fingerprint() == ()
