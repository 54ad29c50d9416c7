"""Composite networks are valid, run in scale, come out the same every time, and their campaign follows the errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

from layerclock.datasets.kernels import kernel_columns, kernel_key, kernel_of
from layerclock.errors import ArgumentError, CampaignError, SpaceError
from layerclock.network import Kernel, TensorSpec
from layerclock.plugins import load_space, open_device
from layerclock.profiler.composite_campaign import profile_composites, theme_shares
from layerclock.profiler.composites import THEMES, CompositeSpace, composite
from layerclock.profiler.store import CampaignFolder
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable


@pytest.mark.parametrize("theme", THEMES)
def test_a_composite_is_valid_and_keeps_its_activations_in_scale(theme: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for seed in (0, 1):
        model = composite(theme, seed)
        # The shapes that the blocks reckoned with are those that onnx infers.
        onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        (given,) = session.get_inputs()
        (result,) = session.run(None, {given.name: np.random.default_rng(0).standard_normal(given.shape, dtype=np.float32)})
        assert list(result.shape) == session.get_outputs()[0].shape
        assert np.isfinite(result).all()
        assert 1e-3 < np.abs(result).mean() < 1e3


def test_theme_and_seed_decide_the_network() -> None:
    once, again, other = (composite("dense", seed).SerializeToString() for seed in (5, 5, 6))
    assert once == again
    assert once != other


def test_themes_are_what_their_networks_are_made_of() -> None:
    for theme, operator in (("transformer", "Softmax"), ("windows", "Transpose"), ("normalised", "InstanceNormalization")):
        found = [any(node.op_type == operator for node in composite(theme, seed).graph.node) for seed in range(6)]
        assert sum(found) >= 5


def test_some_networks_end_wide_and_look_up_and_attend_in_windows() -> None:
    models = [composite(theme, seed) for theme in ("windows", "transformer", "sequence", "grouped") for seed in range(12)]
    shapes = [{weights.name: tuple(weights.dims) for weights in model.graph.initializer} for model in models]
    nodes = [(node, known) for model, known in zip(models, shapes, strict=True) for node in model.graph.node]
    heads = [known[node.input[1]] for node, known in nodes if node.op_type == "Gemm"]
    assert 0.15 < np.mean([inner >= 512 and out == 1000 for out, inner in heads]) < 0.6
    assert max(known[node.input[0]][0] for node, known in nodes if node.op_type == "Gather") > 10_000
    inferred = [onnx.shape_inference.infer_shapes(model) for model in models]
    batches = [
        value.type.tensor_type.shape.dim[0].dim_value
        for model in inferred[:12]
        for value in model.graph.value_info
        if any(node.op_type == "Softmax" and value.name in node.output for node in model.graph.node)
    ]
    assert max(batches) > 1


def test_weights_of_some_networks_fill_the_last_cache() -> None:
    params = np.array(
        [
            sum(int(np.prod(one.dims)) for one in composite(theme, seed).graph.initializer)
            for theme in ("pool", "mixed")
            for seed in range(20)
        ]
    )
    assert params.max() > 10_000_000
    assert np.median(params) < 3_000_000


def test_channels_of_a_network_come_in_one_unit_and_convolutions_of_heavy_ones_are_large() -> None:
    models = [composite("dense", seed) for seed in range(24)]
    widths = [
        [one.dims[0] for one in model.graph.initializer if len(one.dims) == 4 and one.dims[0] >= 64 and one.dims[1] > 1] for model in models
    ]
    shares = {unit: np.mean([all(width % unit == 0 for width in wide) for wide in widths if wide]) for unit in (64, 8, 2)}
    assert 0.1 < shares[64] < 0.6
    assert 0.6 < shares[8] < 1.0
    assert shares[2] == 1.0
    convolved = [sum(int(np.prod(one.dims)) for one in model.graph.initializer if len(one.dims) == 4) for model in models]
    assert sum(params > 2_000_000 for params in convolved) >= 2


def test_the_space_has_a_name_to_find_it_by() -> None:
    space = load_space("composites:seeds=7")
    assert space.name == "composites:seeds=7"
    assert CompositeSpace().name == "composites"
    assert len(SiteIndex.of(space).vocabulary) == 7 * len(THEMES)
    with pytest.raises(SpaceError, match="no torch module"):
        space.build(np.array([0, 0]))


def test_themes_come_as_often_as_their_errors_are_large() -> None:
    shares = theme_shares(dict.fromkeys(THEMES, 1e-9) | {"dense": 1.0, "pool": float("nan")})
    assert shares.sum() == pytest.approx(1)
    assert shares[THEMES.index("dense")] > 5 * shares[THEMES.index("transformer")] > 0
    # A theme of which nothing is known counts as the mean of the others.
    assert shares[THEMES.index("dense")] > shares[THEMES.index("pool")] > shares[THEMES.index("transformer")]
    np.testing.assert_allclose(theme_shares({}), 1 / len(THEMES))


def test_a_campaign_measures_what_the_budget_allows_and_then_goes_on(tmp_path: Path) -> None:
    asked: list[int] = []

    def errors(table: LatencyTable) -> Mapping[str, float]:
        asked.append(len(table.level("network")))
        return {"dense": 1.0}

    device = open_device("fake:cpu")
    table = profile_composites(device, tmp_path, budget_s=6.0, errors=errors)
    first = table.level("network")["genome"].to_pylist()
    assert asked
    assert len({tuple(genome) for genome in first}) == len(first)
    assert table.level("kernel").num_rows > 20
    more = profile_composites(device, tmp_path, budget_s=16.0, errors=errors)
    second = more.level("network")["genome"].to_pylist()
    assert second[: len(first)] == first
    assert len(second) > len(first)
    done = CampaignFolder(tmp_path).done()
    assert set(done.rounds) == set(range(len(second)))
    with pytest.raises(ArgumentError, match="leaves no time"):
        profile_composites(device, tmp_path, budget_s=0.0)


def test_each_network_tells_its_kernels_by_key(composite_table: LatencyTable) -> None:
    known = set(composite_table.level("kernel")["key"].to_pylist())
    for row in composite_table.level("network").to_pylist():
        assert row["status"] == "failed" or set(row["kernel_keys"]) <= known
        assert json.loads(row["attributes"])["theme"] in THEMES


def test_a_kernel_survives_being_a_row() -> None:
    spec = TensorSpec((1, 8, 4, 4))
    kernel = Kernel(
        "a", "Conv", "b", ("Conv", "Relu"), (spec,), (spec,), (TensorSpec((8, 8, 3, 3)),), (("group", 1), ("kernel_shape", "3x3")), "nchw",
        "jit", 9216,
    )  # fmt: skip
    again = kernel_of(kernel_columns(kernel))
    assert kernel_key(again) == kernel_key(kernel)
    assert (again.inputs, again.outputs, again.weights) == (kernel.inputs, kernel.outputs, kernel.weights)
    assert again.attributes == kernel.attributes


def test_a_campaign_with_held_out_networks_cannot_grow(fake_folder: Path) -> None:
    from dataclasses import replace

    folder = CampaignFolder(fake_folder)
    record = folder.record()
    with pytest.raises(CampaignError, match="differs in profiled"):
        folder.start(replace(record, profiled=(*record.profiled, record.profiled[0])))
