"""A design of one or more FPGA boards with a pipeline of tiled-convolution engines, and many such designs as columns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from layerclock.devices.accelerators.fpga_tiling import AUTO, EngineColumns
from layerclock.devices.accelerators.horowitz import BITS
from layerclock.devices.accelerators.rules import OneOf, Real, Rule, Whole, check_fields
from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FpgaBatch", "FpgaBoard", "FpgaDesign", "FpgaStage"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FpgaBoard:
    """What a board offers: multiplier blocks, 18-kbit memory blocks, the width of its bus and the bandwidth of its memory.

    ``static_w`` is what it draws without computing, in watts. Raises :class:`ArgumentError` for impossible numbers.
    """

    dsp: int
    bram: int
    bus_bits: int
    bandwidth_gb_s: float
    clock_mhz: float
    static_w: float = 0.0

    rules: ClassVar[Mapping[str, Rule]] = {
        "dsp": Whole(1, 100_000),
        "bram": Whole(1, 100_000),
        "bus_bits": Whole(8, 65_536),
        "bandwidth_gb_s": Real(0.001, 10_000),
        "clock_mhz": Real(1, 10_000),
        "static_w": Real(0, 10_000),
    }

    def __post_init__(self) -> None:
        check_fields(self, self.rules, "board")

    @property
    def cycle_bits(self) -> int:
        """Bits that can be moved in a cycle, by the bus and by the memory behind it."""
        return int(min(self.bus_bits, self.bandwidth_gb_s * 8e3 / self.clock_mhz))


@dataclass(frozen=True, slots=True)
class FpgaStage:
    """One engine of the pipeline; see :class:`~layerclock.devices.accelerators.fpga_tiling.EngineColumns` for the numbers.

    ``tm`` and ``tn`` of 0 make a stage for depthwise convolutions alone, ``lanes`` of 0 one without lanes for them; with both it
    runs either. ``tr`` and ``tc`` of 0 stand for the best tile of each layer. Raises :class:`ArgumentError` for impossible numbers.
    """

    tm: int
    tn: int
    input_port: int
    weight_port: int
    output_port: int
    lanes: int = 0
    tr: int = AUTO
    tc: int = AUTO
    input_words: int = 1024
    weight_words: int = 64
    output_words: int = 1024
    board: int = 0

    rules: ClassVar[Mapping[str, Rule]] = {
        **dict.fromkeys(("tm", "tn", "lanes", "tr", "tc"), Whole(0, 8192)),
        **dict.fromkeys(("input_port", "weight_port", "output_port"), Whole(1, 8192)),
        **dict.fromkeys(("input_words", "weight_words", "output_words"), Whole(1, 1_000_000)),
        "board": Whole(0, 63),
    }

    def __post_init__(self) -> None:
        check_fields(self, self.rules, "stage")


@dataclass(frozen=True, slots=True)
class FpgaDesign:
    """Boards and the stages of a pipeline on them; all compute with elements of ``bits`` bits.

    Raises :class:`ArgumentError` without stages, or for a stage on a board that is not there.
    """

    boards: tuple[FpgaBoard, ...]
    stages: tuple[FpgaStage, ...]
    bits: int = 16

    rules: ClassVar[Mapping[str, Rule]] = {"bits": OneOf(BITS)}

    def __post_init__(self) -> None:
        check_fields(self, self.rules, "design")
        if not self.boards or not self.stages:
            raise ArgumentError("a design needs a board and a stage at least", "add one under boards: or stages:")
        for number, stage in enumerate(self.stages):
            if stage.board >= len(self.boards):
                raise ArgumentError(f"stages[{number}].board is {stage.board}, of {len(self.boards)} boards", "boards count from 0")

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """What the stages take beyond what their boards offer; none of them if the design can be built."""
        batch = FpgaBatch.of([self])
        found = []
        for number, board in enumerate(self.boards):
            offers = (("DSP", board.dsp), ("BRAM", board.bram), ("port bits a cycle", board.cycle_bits))
            used = (batch.dsp[0, number], batch.bram[0, number], batch.port_bits[0, number])
            found += [
                f"board {number} has {offer} {what}, its stages take {use}"
                for (what, offer), use in zip(offers, used, strict=True)
                if use > offer
            ]
        return tuple(found)


_ENGINE = tuple(field.name for field in fields(EngineColumns))


@dataclass(frozen=True)
class FpgaBatch:
    """``D`` designs of up to ``S`` stages and ``B`` boards as columns: what a search over many designs computes with.

    ``engines`` holds each distinct engine once, and ``engine`` int64[D, S] says which stands at a stage (-1: none), so that
    costs of loop nests are computed once for each distinct engine. ``clock_mhz`` float64[D, S]; ``static_w`` float64[D];
    ``dsp``, ``bram`` and ``port_bits`` int64[D, B] are what the stages take of each board, ``shortfall`` float64[D] by what share that is
    more than is there, summed over boards and resources.
    """

    engines: EngineColumns
    engine: IntArray
    clock_mhz: FloatArray
    static_w: FloatArray
    dsp: IntArray
    bram: IntArray
    port_bits: IntArray
    shortfall: FloatArray

    @property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """Whether each design can be built: bool[D]."""
        return np.asarray(self.shortfall == 0, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.engine)

    @classmethod
    def of(cls, designs: Sequence[FpgaDesign]) -> FpgaBatch:
        """The columns of D designs, in order."""
        stages, boards = (max(len(getattr(design, name)) for design in designs) for name in ("stages", "boards"))
        stage = {name: np.zeros((len(designs), stages), dtype=np.int64) for name in FpgaStage.rules}
        board = {name: np.zeros((len(designs), boards)) for name in FpgaBoard.rules}
        for row, design in enumerate(designs):
            for name, values in stage.items():
                values[row, : len(design.stages)] = [getattr(one, name) for one in design.stages]
            for name, offers in board.items():
                offers[row, : len(design.boards)] = [getattr(one, name) for one in design.boards]
        counts = [np.array([len(getattr(design, name)) for design in designs]) for name in ("stages", "boards")]
        return cls.of_columns(np.array([design.bits for design in designs]), stage, board, counts[0], counts[1])

    @classmethod
    def of_columns(
        cls, bits: IntArray, stage: Mapping[str, IntArray], board: Mapping[str, FloatArray], stages: IntArray, boards: IntArray
    ) -> FpgaBatch:
        """The batch of designs whose fields stand in columns: [D, S] of each stage's, [D, B] of each board's; both counts are [D].

        A stage on a board that is not there stands on the last one.
        """
        exists = np.arange(stage["tm"].shape[1]) < stages[:, None]
        there = np.arange(board["dsp"].shape[1]) < boards[:, None]
        home = np.minimum(stage["board"], boards[:, None] - 1)
        rows = np.stack([np.broadcast_to(bits[:, None], exists.shape) if name == "bits" else stage[name] for name in _ENGINE], axis=-1)
        distinct, numbers = np.unique(rows[exists], axis=0, return_inverse=True)
        engine = np.full(exists.shape, -1, dtype=np.int64)
        engine[exists] = numbers.ravel()
        engines = EngineColumns(*distinct.T)
        used = [np.zeros(there.shape, dtype=np.int64) for _ in range(3)]
        design, position = np.nonzero(exists)
        for total, each in zip(used, (engines.dsp, engines.bram, engines.port_bits), strict=True):
            np.add.at(total, (design, home[exists]), each[engine[design, position]])
        with np.errstate(divide="ignore", invalid="ignore"):  # boards that are not there have no clock
            cycle_bits = np.minimum(board["bus_bits"], board["bandwidth_gb_s"] * 8e3 / board["clock_mhz"])
        offers = np.stack([board["dsp"], board["bram"], np.where(there, cycle_bits, 0)])
        # Boards that are not there have no stages.
        shortfall = (np.maximum(np.stack(used) - offers, 0) / np.where(offers > 0, offers, 1)).sum(axis=(0, 2))
        clock = np.take_along_axis(board["clock_mhz"], home, axis=1)
        static = np.where(there, board["static_w"], 0.0).sum(axis=1)
        return cls(engines, engine, clock, static, used[0], used[1], used[2], shortfall)
