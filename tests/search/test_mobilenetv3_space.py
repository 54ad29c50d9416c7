"""The elastic MobileNetV3 space against once-for-all's own numbers and against the network that it builds."""

from __future__ import annotations

import ast
import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from layerclock.errors import ArgumentError, GenomeError
from layerclock.plugins import load_space
from layerclock.search.spaces.mobilenetv3 import MobileNetV3Space, ofa_mobilenetv3
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from pathlib import Path


def test_macs_and_params_equal_those_of_once_for_all(data_folder: Path) -> None:
    """1,648 configurations with the sizes that another toolkit counted on once-for-all's own networks."""
    space = ofa_mobilenetv3()
    index = SiteIndex.of(space)
    rows = []
    for path in sorted((data_folder / "dynast").glob("*.csv")):
        with path.open() as file:
            rows += list(csv.DictReader(file))
    assert len(rows) == 1648
    genomes = np.array([space.from_ofa(ast.literal_eval(row["Sub-network"])) for row in rows])
    assert index.macs(genomes).tolist() == [int(row["MACs"]) for row in rows]
    assert index.params(genomes).tolist() == [int(row["Model Parameters"]) for row in rows]


def test_the_number_of_networks_is_that_of_the_paper() -> None:
    # Three kernels and three expansions a block, two to four blocks a stage, five stages (Cai et al. 2020: "over 10^19").
    per_stage = sum(9**depth for depth in (2, 3, 4))
    assert per_stage**5 > 2e19
    index = SiteIndex.of(ofa_mobilenetv3())
    # Distinct layers: 9 variants of the first and 9 of the later blocks in each stage, and five fixed layers.
    assert len(index.vocabulary) == 5 * 18 + 5


@pytest.mark.parametrize(
    "name",
    [
        "digits-mobilenetv3",
        "digits-mobilenetv3:width=0.25,resolution=33",
        "ofa-mobilenetv3:width=1.2,resolution=64,classes=7,in_channels=1",
    ],
)
def test_the_built_network_is_what_the_sites_say(name: str) -> None:
    space = load_space(name)
    index = SiteIndex.of(space)
    for genome in sample(index, 3, np.random.default_rng(0)):
        network = space.build(genome).eval()
        seen: dict[torch.nn.Module, tuple[tuple[int, ...], tuple[int, ...]]] = {}

        def remember(
            module: torch.nn.Module,
            inputs: tuple[torch.Tensor, ...],
            output: torch.Tensor,
            seen: dict[torch.nn.Module, tuple[tuple[int, ...], tuple[int, ...]]] = seen,
        ) -> None:
            seen[module] = (tuple(inputs[0].shape), tuple(output.shape))

        placed = index.network(genome).layers
        for one in placed:
            network.get_submodule(one.site).register_forward_hook(remember)
        with torch.no_grad():
            network(torch.zeros(space.inputs[0].shape))
        for one in placed:
            assert seen[network.get_submodule(one.site)] == (one.layer.inputs[0].shape, one.layer.outputs[0].shape), one.site
            own = sum(weights.numel() for weights in network.get_submodule(one.site).parameters())
            assert own == one.layer.params, one.site
        assert sum(weights.numel() for weights in network.parameters()) == int(index.params(genome[None])[0])


def test_parameters_stand_in_the_name() -> None:
    assert load_space("ofa-mobilenetv3:resolution=128").name == "ofa-mobilenetv3:resolution=128"
    assert load_space("ofa-mobilenetv3").name == "ofa-mobilenetv3"
    assert load_space("digits-mobilenetv3:classes=10,in_channels=3").name == "digits-mobilenetv3:in_channels=3"
    assert SiteIndex.of(load_space("ofa-mobilenetv3:resolution=128")).digest != SiteIndex.of(load_space("ofa-mobilenetv3")).digest


def test_impossible_parameters_and_configurations() -> None:
    for text in ("ofa-mobilenetv3:width=0", "ofa-mobilenetv3:resolution=8", "ofa-mobilenetv3:resolution=40.5", "ofa-mobilenetv3:classes=1"):
        with pytest.raises(ArgumentError):
            load_space(text)
    space = MobileNetV3Space("x")
    with pytest.raises(GenomeError, match="20 ks"):
        space.from_ofa({"ks": [3], "e": [3], "d": [2]})
    with pytest.raises(GenomeError, match="not an OFA"):
        space.from_ofa({"ks": [9] * 20, "e": [3] * 20, "d": [2] * 5})
