from __future__ import annotations

import json
from dataclasses import replace

import pytest

from layerclock.errors import TargetMismatchError
from layerclock.target import Target, require_same_target

TARGET = Target(
    "openvino:CPU", "openvino", "2026.4.1", "float32", 2, 1, (("NUM_STREAMS", "1"),), (("cpu", "Example 9000"), ("isa", "avx2"))
)


def test_a_target_survives_json() -> None:
    assert Target.from_json(TARGET.to_json()) == TARGET
    assert Target.from_json(TARGET.to_json()).id == TARGET.id


def test_every_field_changes_the_id_and_shows_as_a_difference() -> None:
    changed = [
        (replace(TARGET, device="openvino:GPU"), {"device": ("openvino:CPU", "openvino:GPU")}),
        (replace(TARGET, runtime="other"), {"runtime": ("openvino", "other")}),
        (replace(TARGET, runtime_version="2026.5"), {"runtime_version": ("2026.4.1", "2026.5")}),
        (replace(TARGET, precision="int8"), {"precision": ("float32", "int8")}),
        (replace(TARGET, threads=1), {"threads": (2, 1)}),
        (replace(TARGET, batch=4), {"batch": (1, 4)}),
        (replace(TARGET, options=()), {"options.NUM_STREAMS": ("1", None)}),
        (replace(TARGET, options=(*TARGET.options, ("PIN", "NO"))), {"options.PIN": (None, "NO")}),
        (replace(TARGET, fingerprint=(("cpu", "Example 9000"), ("isa", ""))), {"fingerprint.isa": ("avx2", "")}),
    ]
    assert TARGET.differences(TARGET) == {}
    for other, differences in changed:
        assert TARGET.differences(other) == differences
    assert len({TARGET.id, *(other.id for other, _ in changed)}) == len(changed) + 1


def test_mixing_targets_is_refused_and_says_what_differs() -> None:
    require_same_target(TARGET, [TARGET, TARGET], "the tables")
    with pytest.raises(TargetMismatchError, match=r"the tables: the targets differ in threads: 2 against 8"):
        require_same_target(TARGET, [TARGET, replace(TARGET, threads=8)], "the tables")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"device": "x"}', json.dumps({**json.loads(TARGET.to_json()), "unheard": 1})])
def test_other_json_is_no_target(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Target.from_json(text)
