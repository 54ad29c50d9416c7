"""The accuracy of trained networks as a device runs them: exact in float32, and what int8 costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from layerclock.errors import ArgumentError, CampaignError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import open_device
from layerclock.profiler.accuracy_on_device import HasTrainedNetworks, accuracy_on_device
from layerclock.profiler.campaign import profile
from layerclock.search.supernet.digits import load_digits_data
from layerclock.search.supernet.evaluator import SupernetEvaluator
from layerclock.search.supernet.training import train_supernet

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import SearchSpace
    from layerclock.search.spaces.mobilenetv3 import MobileNetV3Space
    from layerclock.space import SiteIndex


@pytest.fixture(scope="module")
def evaluator(tiny_space: SearchSpace) -> SupernetEvaluator:
    space = cast("MobileNetV3Space", tiny_space)
    torch.manual_seed(0)
    data = load_digits_data(space.resolution, distortion=0.2)
    return SupernetEvaluator(train_supernet(space, data, steps=30), data)


def test_float32_on_a_device_judges_as_torch_does(evaluator: SupernetEvaluator, tiny_index: SiteIndex) -> None:
    genomes = np.array([[0] * len(tiny_index.genes)])
    found = accuracy_on_device(open_device("onnxruntime:cpu", DeviceOptions(batch=64)), evaluator, genomes)
    assert found.float32_percent[0] > 15, "trained a little, well above chance"
    assert found.drop_points == pytest.approx(0.0, abs=0.3)  # one image of 350, whose two best answers are as good


def test_int8_costs_little_where_it_was_calibrated_on_real_images(evaluator: SupernetEvaluator, tiny_index: SiteIndex) -> None:
    genomes = np.array([[0] * len(tiny_index.genes)])
    found = accuracy_on_device(open_device("onnxruntime:cpu", DeviceOptions(batch=64, precision="int8")), evaluator, genomes)
    assert np.isfinite(found.on_device_percent).all()
    assert abs(found.drop_points) < 10


def test_an_evaluator_without_networks_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no trained networks"):
        accuracy_on_device(open_device("fake:cpu"), cast("HasTrainedNetworks", object()), np.zeros((1, 1)))


def test_a_campaign_in_int8_measures_quantised_networks_layer_by_layer(tiny_space: SearchSpace, tmp_path: Path) -> None:
    device = open_device("onnxruntime:cpu", DeviceOptions(precision="int8"))
    table = profile(device, tiny_space, tmp_path / "int8", networks=2, rounds=2, runs=2)
    assert table.target.precision == "int8"
    assert set(table.level("network")["status"].to_pylist()) <= {"steady", "noisy"}
    assert any(op.startswith("QLinear") for op in table.level("kernel")["op"].to_pylist())
    with pytest.raises(CampaignError, match="precision"):
        profile(open_device("onnxruntime:cpu"), tiny_space, tmp_path / "int8", networks=2, rounds=2, runs=2)
