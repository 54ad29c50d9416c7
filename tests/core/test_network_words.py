"""Keys of layers are the identity of a table's rows: they must not change from one version to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from layerclock.network import Layer, TensorSpec

if TYPE_CHECKING:
    from layerclock.space import SiteIndex


def test_keys_of_layers_are_as_they_always_were(tiny_index: SiteIndex) -> None:
    keys = [placed.layer.key for placed in tiny_index.network([0] * len(tiny_index.genes)).layers]
    assert keys[0] == "conv(act=hswish,k=3,s=2) 1x1x32x32 -> 1x8x16x16"
    assert keys[2] == "mbconv(act=relu,k=3,mid=24,s=2,se=0) 1x8x16x16 -> 1x8x8x8"
    assert keys[-2:] == ["pool_conv(act=hswish,k=1,s=1) 1x80x1x1 -> 1x80x1x1", "linear() 1x80 -> 1x10"]


def test_a_key_depends_on_every_part_of_the_layer_but_its_size() -> None:
    shape = TensorSpec((1, 8))
    layer = Layer("op", (shape,), (shape,), (("b", 2), ("a", True)), macs=1, params=1)
    assert layer.key == "op(a=1,b=2) 1x8 -> 1x8"
    assert Layer("op", (shape,), (shape,), (("a", True), ("b", 2)), macs=5, params=7).key == layer.key
    others = [
        Layer("po", (shape,), (shape,), layer.attributes, 1, 1),
        Layer("op", (TensorSpec((1, 9)),), (shape,), layer.attributes, 1, 1),
        Layer("op", (shape,), (TensorSpec((1, 8), "int8"),), layer.attributes, 1, 1),
        Layer("op", (shape,), (shape,), (("a", False), ("b", 2)), 1, 1),
    ]
    assert len({layer.key, *(other.key for other in others)}) == 5


def test_a_tensor_knows_its_size() -> None:
    spec = TensorSpec((2, 3, 4), "int64")
    assert (spec.elements, spec.bytes, str(spec)) == (24, 192, "2x3x4:int64")
    assert TensorSpec((3, 3), "uint4").bytes == 5
    with pytest.raises(KeyError, match="float7"):
        _ = TensorSpec((1,), "float7").bytes
