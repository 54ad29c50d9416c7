"""A campaign's progress in a user's words."""

from __future__ import annotations

import math

import pytest

from layerclock.profiler.progress import Progress


@pytest.mark.parametrize(("noise", "told"), [(math.nan, ""), (0.0123, "+-1.2%"), (math.inf, "too noisy to tell so far")])
def test_noise_is_told_in_words_also_where_there_is_no_number(noise: float, told: str) -> None:
    assert Progress("measure", 1, 2, 3.0, 4, 5, noise).noise_in_words == told
