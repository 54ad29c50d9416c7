"""Super-networks that are trained when they are first asked for."""

from __future__ import annotations

import pytest
import torch

from layerclock.plugins import load_evaluator
from layerclock.search.supernet.elastic import smallest_genome


@pytest.mark.parametrize("name", ["digits-supernet", "digits-supernet:network=vit", "sequences-supernet", "interactions-supernet"])
def test_the_first_thing_asked_may_be_how_good_a_network_is(name: str) -> None:
    evaluator = load_evaluator(f"{name}{',' if ':' in name else ':'}steps=1")
    with torch.inference_mode():  # as a caller may who only judges
        (answer,) = evaluator.evaluate([smallest_genome(evaluator.space)])  # type: ignore[attr-defined]
    assert 0 <= answer <= 100
