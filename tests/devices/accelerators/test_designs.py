"""Designs as files: what is written is read, what is wrong is named by its place, and lists of values are genes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from layerclock.devices.accelerators.array_design import ArrayDesign
from layerclock.devices.accelerators.designs import design_digest, dump_design, load_design, load_design_space
from layerclock.devices.accelerators.fpga_design import FpgaBatch, FpgaBoard, FpgaDesign, FpgaStage
from layerclock.errors import ArgumentError, GenomeError

EXAMPLES = Path(__file__).parents[3] / "examples"
FPGA = """
kind: fpga
boards: [{dsp: 2520, bram: 1824, bus_bits: 512, bandwidth_gb_s: 19.2, clock_mhz: 200}]
stages: [{tm: 64, tn: 16, input_port: 8, weight_port: 8, output_port: 8}]
"""
ARRAY = (EXAMPLES / "array.yaml").read_text()


@pytest.mark.parametrize("name", ["fpga.yaml", "array.yaml"])
def test_a_design_that_is_written_is_read_again(name: str, tmp_path: Path) -> None:
    design = load_design(EXAMPLES / name)
    dump_design(design, tmp_path / "again.yaml")
    again = load_design(tmp_path / "again.yaml")
    assert again == design
    assert design_digest(again) == design_digest(design)


def test_designs_of_other_numbers_have_other_digests() -> None:
    board = FpgaBoard(dsp=10, bram=10, bus_bits=64, bandwidth_gb_s=1, clock_mhz=100)
    first, second = (FpgaDesign((board,), (FpgaStage(1, 1, 1, 1, 1, tr=side),)) for side in (0, 4))
    assert design_digest(first) != design_digest(second)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: gpu", r"kind is 'gpu', not one of fpga, array"),
        ("- 1", r"the file is list, not a mapping"),
        ("kind: [", r"is not YAML"),
        (FPGA.replace("tm: 64", "tm: 0.5"), r"stages\[0\]\.tm is 0.5, not a whole number from 0 to 8192"),
        (FPGA.replace("tm: 64", "tm: [8, yes]"), r"stages\[0\]\.tm\[1\] is True, not a whole number"),
        (FPGA.replace("tm: 64", "tm: [8, 8]"), r"stages\[0\]\.tm names a choice twice"),
        (FPGA.replace("tm: 64", "tm: []"), r"stages\[0\]\.tm has no choice"),
        (FPGA.replace("tm: 64", "TM: 64"), r"stages\[0\]\.TM is no field; there are tm, tn"),
        (FPGA.replace("tm: 64, ", ""), r"stages\[0\]\.tm is missing"),
        (FPGA.replace("clock_mhz: 200", "clock_mhz: .nan"), r"boards\[0\]\.clock_mhz is nan, not a number from 1 to 10000"),
        (FPGA + "bits: 12", r"bits is 12, not one of 4, 8, 16, 32"),
        (FPGA + "stage: 1", r"stage is no field; there are bits"),
        (FPGA.split("stages:")[0], r"stages is NoneType, not a mapping"),
        (FPGA.split("stages:")[0] + "stages: []", r"stages holds 0 of them"),
        (FPGA.split("stages:")[0] + "stages: {count: [0, 1], each: {}}", r"stages\.count\[0\] is 0"),
        (ARRAY.replace("weight-stationary", "magic"), r"dataflow is 'magic', not one of weight-stationary, output-stationary"),
        (ARRAY.replace("rows: 32", "rows: many"), r"rows is 'many', not a whole number from 1 to 1024"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "design.yaml"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=message) as raised:
        load_design_space(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot read the design"):
        load_design(tmp_path / "none.yaml")


def test_numbers_are_checked_without_files_too() -> None:
    with pytest.raises(ArgumentError, match=r"stage\.tm is -1"):
        FpgaStage(-1, 1, 1, 1, 1)
    board = FpgaBoard(dsp=10, bram=10, bus_bits=64, bandwidth_gb_s=1, clock_mhz=100)
    with pytest.raises(ArgumentError, match=r"stages\[0\]\.board is 1, of 1 boards"):
        FpgaDesign((board,), (FpgaStage(1, 1, 1, 1, 1, board=1),))
    with pytest.raises(ArgumentError, match="a board and a stage"):
        FpgaDesign((board,), ())
    with pytest.raises(ArgumentError, match=r"design\.dataflow is 'x'"):
        ArrayDesign(1, 1, "x", 1, 1, 1, 100.0)


def test_lists_are_genes_and_a_space_is_no_design() -> None:
    space = load_design_space(EXAMPLES / "fpga-pipeline.yaml")
    names = [gene.name for gene in space.genes]
    assert names[:3] == ["stages.count", "stages[0].tm", "stages[0].tn"]
    assert "bits" in names
    assert space.size == np.prod([len(gene.choices) for gene in space.genes], dtype=object)
    with pytest.raises(ArgumentError, match=r"stages\.count has 3 choices"):
        load_design(EXAMPLES / "fpga-pipeline.yaml")
    with pytest.raises(GenomeError, match="genome 0"):
        space.design([99] * len(space.genes))


def test_columns_say_what_the_designs_say(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("""
kind: fpga
bits: [8, 16]
boards:
  count: [1, 2]
  each: {dsp: [300, 2000], bram: 2000, bus_bits: 1024, bandwidth_gb_s: 25.6, clock_mhz: [100, 200], static_w: 1}
stages:
  count: [1, 3]
  each: {tm: [8, 16], tn: 8, lanes: [0, 16], input_port: [4, 8], weight_port: 8, output_port: 4, board: [0, 1]}
""")
    space = load_design_space(path)
    genomes = np.random.default_rng(0).integers(0, space.cardinality, (200, len(space.genes)))
    batch = space.batch(genomes)
    designs = [space.design(genome) for genome in genomes]
    fpgas = [design for design in designs if isinstance(design, FpgaDesign)]
    assert len(fpgas) == len(designs)
    again = FpgaBatch.of(fpgas)
    assert batch.feasible.tolist() == again.feasible.tolist() == [not design.shortfalls for design in fpgas]
    assert 0 < batch.feasible.sum() < len(batch)
    for row, design in enumerate(fpgas):
        for number, stage in enumerate(design.stages):
            assert batch.clock_mhz[row, number] == design.boards[stage.board].clock_mhz
            numbers = asdict(stage) | {"bits": design.bits}
            engine = batch.engine[row, number]
            assert all(getattr(batch.engines, name)[engine] == numbers[name] for name in batch.engines.__dataclass_fields__)
        assert (batch.engine[row, len(design.stages) :] == -1).all()
        assert batch.static_w[row] == len(design.boards)


def test_genes_of_absent_stages_do_not_tell_designs_apart() -> None:
    space = load_design_space(EXAMPLES / "fpga-pipeline.yaml")
    genomes = np.random.default_rng(0).integers(0, space.cardinality, (100, len(space.genes)))
    canonical = space.canonical(genomes)
    assert (canonical != genomes).any()
    assert [space.design(genome) for genome in canonical] == [space.design(genome) for genome in genomes]
    single = genomes[genomes[:, 0] == 0]
    assert (space.canonical(single)[:, [gene.name.startswith("stages[2]") for gene in space.genes]] == 0).all()


def test_an_array_has_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "array.yaml"
    path.write_text(ARRAY.replace("rows: 32", "rows: [16, 32]"))
    space = load_design_space(path)
    assert [design.rows for design in map(space.design, ([0], [1])) if isinstance(design, ArrayDesign)] == [16, 32]
    with pytest.raises(GenomeError, match="FPGA designs only"):
        space.batch([[0]])
