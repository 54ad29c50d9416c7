"""A design of an array of processing elements with memories around it: what chips for inference look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerclock.devices.accelerators.rules import OneOf, Real, Rule, Whole, check_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DATAFLOWS", "ArrayDesign"]

# Which loops the rows and the columns of the array unroll, by name.
DATAFLOWS: dict[str, tuple[str, str]] = {
    "weight-stationary": ("C", "K"),  # as in TPUs: input channels down, output channels across
    "output-stationary": ("OX", "K"),  # pixels down, output channels across
    "pixels": ("OX", "OY"),  # as in ShiDianNao: fit for depthwise convolutions
    "depthwise": ("G", "OX"),  # groups down, pixels across
}


@dataclass(frozen=True, slots=True)
class ArrayDesign:
    """``rows`` x ``columns`` processing elements, each with registers, SRAM for inputs, weights and outputs, and DRAM.

    ``dataflow`` names what is unrolled over the array (:data:`DATAFLOWS`). ``sram_bits`` and ``dram_bits`` are moved in a cycle.
    Raises :class:`ArgumentError` for impossible numbers.
    """

    rows: int
    columns: int
    dataflow: str
    input_sram_kb: int
    weight_sram_kb: int
    output_sram_kb: int
    clock_mhz: float
    dram_bits: int = 64
    sram_bits: int = 512
    register_bytes: int = 64
    bits: int = 8

    rules: ClassVar[Mapping[str, Rule]] = {
        **dict.fromkeys(("rows", "columns"), Whole(1, 1024)),
        "dataflow": OneOf(tuple(DATAFLOWS)),
        **dict.fromkeys(("input_sram_kb", "weight_sram_kb", "output_sram_kb"), Whole(1, 1_000_000)),
        "clock_mhz": Real(1, 10_000),
        **dict.fromkeys(("dram_bits", "sram_bits"), Whole(8, 65_536)),
        "register_bytes": Whole(4, 65_536),
        "bits": OneOf((8, 16)),
    }

    def __post_init__(self) -> None:
        check_fields(self, self.rules, "design")
