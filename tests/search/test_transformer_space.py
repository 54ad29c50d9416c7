"""HAT's translation transformers: sizes against the built networks and HAT's own data, steps against whole sequences, and runtimes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pyarrow.parquet as parquet
import pytest
import torch
from scipy.stats import spearmanr
from torch.utils.flop_counter import FlopCounterMode

from layerclock.devices.export import Exporter
from layerclock.errors import ArgumentError, GenomeError, TargetMismatchError
from layerclock.interfaces import Predictions, Predictor
from layerclock.plugins import load_space, open_device
from layerclock.predictors.portable import load
from layerclock.search.generation import generation_latency
from layerclock.search.networks.transformer import Translation
from layerclock.search.networks.translation_modules import CachedAttention, Embedding
from layerclock.search.objective import latency_objective
from layerclock.search.spaces.transformer import TransformerSpace, transformer
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

PARTS = ("encoder", "decoder", "both")


def examples(space: SearchSpace, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(spec.shape, generator=generator) if spec.dtype == "float32" else torch.randint(0, 2, spec.shape, generator=generator)
        for spec in space.inputs
    )


def genomes(index: SiteIndex, number: int) -> GenomeArray:
    """The smallest, the largest and random networks."""
    largest = index.cardinality - 1
    return np.vstack([np.zeros_like(largest)[None], largest[None], sample(index, number, np.random.default_rng(0))])


@pytest.mark.parametrize("preset", ["tiny", "wmt14ende", "wmt14ende-latency"])
@pytest.mark.parametrize("part", PARTS)
def test_the_built_network_is_what_the_sites_say(part: str, preset: str) -> None:
    space = transformer(part, preset)
    index = SiteIndex.of(space)
    for genome in genomes(index, 2):
        with torch.device("meta"):  # shapes and products, without the hundreds of megabytes
            network = space.build(genome).eval()
            seen: dict[str, tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = {}
            placed = index.network(genome).layers
            for one in placed:

                def remember(
                    _: torch.nn.Module,
                    inputs: tuple[torch.Tensor, ...],
                    output: torch.Tensor | tuple[torch.Tensor, ...],
                    name: str = one.site,
                    seen: dict[str, tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = seen,
                ) -> None:
                    outputs = output if isinstance(output, tuple) else (output,)
                    seen[name] = ([tuple(value.shape) for value in inputs], [tuple(value.shape) for value in outputs])

                network.get_submodule(one.site).register_forward_hook(remember)
            with FlopCounterMode(display=False) as counter:
                network(*(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in space.inputs))
        assert list(seen) == [one.site for one in placed] or part == "both"  # a step comes after all that is done once
        for one in placed:
            assert seen[one.site] == ([spec.shape for spec in one.layer.inputs], [spec.shape for spec in one.layer.outputs]), one.site
            assert sum(weights.numel() for weights in network.get_submodule(one.site).parameters()) == one.layer.params, one.site
        assert sum(weights.numel() for weights in network.parameters()) == int(index.params(genome[None])[0])
        assert counter.get_total_flops() == 2 * int(index.macs(genome[None])[0])


def test_the_parts_have_the_same_genes_and_add_up() -> None:
    spaces = [transformer(part) for part in PARTS]
    indices = [SiteIndex.of(space) for space in spaces]
    assert spaces[0].genes == spaces[1].genes == spaces[2].genes
    drawn = genomes(indices[2], 50)
    once, step, both = (index.macs(drawn) for index in indices)
    assert np.array_equal(once + step, both)
    assert np.array_equal(indices[0].params(drawn) + indices[1].params(drawn), indices[2].params(drawn))
    for index in indices:
        canonical = index.canonical(drawn)
        assert np.array_equal(index.canonical(canonical), canonical)
        assert np.array_equal(index.layers(canonical), index.layers(drawn))
    # The heads of a decoder do not matter to what is done once, and nothing of the encoder's own layers to a step.
    names = [gene.name for gene in spaces[0].genes]
    assert not indices[0].active(drawn)[:, [name.endswith(("self_heads", "cross_heads")) for name in names]].any()
    assert not indices[1].active(drawn)[:, [name.startswith("encoder") for name in names]].any()
    assert max(len(site.layers) for site in spaces[2].sites) <= 72


@torch.no_grad()
def test_a_step_computes_what_the_whole_sequence_does_at_its_place() -> None:
    """One decoder layer, whose stored keys and values are those of the words before."""
    torch.manual_seed(0)
    space = transformer(preset="tiny", source_length=5)
    genome = SiteIndex.of(space).encode({"decoder.layer1.attended": 2, "decoder.layer1.self_heads": 4, "encoder.dim": 48})
    network = space.build(genome).eval()
    assert isinstance(network, Translation)
    source, target = torch.randint(0, 10, (3, 5)), torch.randint(0, 10, (3, space.sizes.target_length))
    whole = network.whole(target, network.read(source))
    embed, attention = network.get_submodule("decoder.embed"), network.get_submodule("decoder.layer1.self_attention")
    assert isinstance(embed, Embedding)
    assert isinstance(attention, CachedAttention)
    _, keys, values = attention.project(embed.whole(target[:, : space.cached])).transpose(1, 2).chunk(3, 1)
    step = network(source, target[:, space.cached : space.cached + 1], keys, values)
    assert torch.allclose(step[:, 0], whole[:, space.cached], atol=1e-5)
    changed = target.clone()
    changed[:, 4:] = 0
    assert torch.allclose(network.whole(changed, network.read(source))[:, :4], whole[:, :4], atol=1e-6), "a word sees those after it"


@torch.no_grad()
def test_the_two_parts_are_the_whole_taken_apart() -> None:
    both, once, step = (transformer(part, "tiny") for part in ("both", "encoder", "decoder"))
    genome = SiteIndex.of(both).encode({"decoder.depth": 3, "decoder.layer1.attended": 2, "decoder.layer3.attended": 1})
    networks = [space.build(genome).eval() for space in (both, once, step)]
    networks[1].load_state_dict(networks[0].state_dict(), strict=False)
    networks[2].load_state_dict(networks[0].state_dict(), strict=False)
    source, token, keys, values = examples(both)
    stored = networks[1](source)
    memories = list(examples(step)[3:])
    expected = networks[0](source, token, keys, values)
    for layer, attended in enumerate((3, 1, 2)):  # one layer's memory of each length
        memories[2 * attended - 2 : 2 * attended] = stored[2 * layer : 2 * layer + 2]
    assert torch.allclose(networks[2](token, keys, values, *memories), expected, atol=1e-6)


@pytest.mark.parametrize("dynamo", [False, True])
def test_runtimes_compute_and_time_every_layer(dynamo: bool, tmp_path: Path) -> None:
    for part in PARTS if not dynamo else ("both",):
        space = load_space(f"transformer:preset=tiny,part={part},source_length=4,target_length=5")
        genome = SiteIndex.of(space).encode({"decoder.depth": 2, "decoder.layer2.attended": 1})
        model = Exporter(space, dynamo=dynamo, folder=tmp_path)(genome)
        with torch.random.fork_rng(devices=[]):  # the weights that the exporter drew
            torch.manual_seed(int(model.digest[:8], 16))
            network = space.build(genome).eval()
        exported = onnx.load(str(model.path)).graph
        assert {node.name.split("/")[0] for node in exported.node} == set(model.sites)
        outputs = []
        for name in ("onnxruntime:cpu", "openvino:CPU"):
            session = open_device(name).load(model)
            kernels = session.kernel_times(2).kernels
            assert {kernel.site for kernel in kernels} == set(model.sites), name
            named = dict(zip(_names(len(space.inputs)), examples(space), strict=True))
            given = {value.name: named[value.name].numpy() for value in exported.input}
            answered = session.infer(given)
            outputs.append([answered[value.name] for value in exported.output])
            session.close()
        with torch.no_grad():
            answer = network(*examples(space))
        expected = answer if isinstance(answer, tuple) else (answer,)
        for computed in outputs:
            assert len(computed) == len(expected)
            for own, reference in zip(computed, expected, strict=True):
                assert np.allclose(own, reference.numpy(), rtol=1e-4, atol=1e-4)


def _names(number: int) -> list[str]:
    return ["input"] if number == 1 else [f"input{position}" for position in range(number)]


HAT_CONFIGURATION: dict[str, int | list[int]] = {
    "encoder-embed-dim-subtransformer": 640,
    "decoder-embed-dim-subtransformer": 640,
    "encoder-ffn-embed-dim-all-subtransformer": [3072, 3072, 3072, 3072, 3072, 3072],
    "decoder-ffn-embed-dim-all-subtransformer": [3072, 3072, 3072],
    "encoder-layer-num-subtransformer": 6,
    "decoder-layer-num-subtransformer": 3,
    "encoder-self-attention-heads-all-subtransformer": [4, 8, 8, 8, 4, 4],
    "decoder-self-attention-heads-all-subtransformer": [8, 8, 8],
    "decoder-ende-attention-heads-all-subtransformer": [4, 8, 8],
    "decoder-arbitrary-ende-attn-all-subtransformer": [-1, 1, 1],
}


def test_a_published_configuration_of_hat() -> None:
    """HAT's network for WMT'14 English-German on a Titan Xp (146.7 ms, BLEU 28.1)."""
    space = transformer()
    plan = space.plan(space.from_hat(HAT_CONFIGURATION))
    assert (plan.encoder_dim, plan.decoder_dim) == (640, 640)
    assert [layer.heads for layer in plan.encoder_layers] == [4, 8, 8, 8, 4, 4]
    assert [layer.cross_heads for layer in plan.decoder_layers] == [4, 8, 8]
    assert [layer.attended for layer in plan.decoder_layers] == [1, 2, 2]
    longer = HAT_CONFIGURATION | {"decoder-ffn-embed-dim-all-subtransformer": [3072] * 6}
    assert np.array_equal(space.from_hat(longer), space.from_hat(HAT_CONFIGURATION))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"decoder-embed-dim-subtransformer": 600}, "cannot be 600"),
        ({"encoder-layer-num-subtransformer": 5}, "encoder of 5 layers"),
        ({"decoder-ffn-embed-dim-all-subtransformer": [3072]}, "each of 3 layers"),
        ({"decoder-ffn-embed-dim-all-subtransformer": 3072}, "each of 3 layers"),
        ({"decoder-layer-num-subtransformer": [3]}, "one number"),
    ],
)
def test_a_configuration_that_is_not_of_the_space(change: dict[str, int | list[int]], reason: str) -> None:
    with pytest.raises(GenomeError, match=reason):
        transformer().from_hat(HAT_CONFIGURATION | change)


def test_hats_latency_data_are_of_this_space(data_folder: Path) -> None:
    """Of the 6,000 networks that HAT measured, given as averages over layers; what decides a size is known of each exactly."""
    rows = parquet.read_table(data_folder / "hat_latency_wmt14ende.parquet").to_pylist()[::4]
    step = transformer("decoder", "wmt14ende-latency")
    macs = SiteIndex.of(step).macs(np.array([step.from_hat(_configuration(row)) for row in rows]))
    agreement = {}
    for device in ("cpu_raspberrypi", "cpu_xeon"):
        own = np.array([row["device"] == device for row in rows])
        measured = np.array([row["latency_mean_decoder"] for row in rows])
        agreement[device] = float(spearmanr(macs[own], measured[own]).statistic)
    assert agreement["cpu_raspberrypi"] > 0.9
    assert agreement["cpu_xeon"] > 0.8


def _configuration(row: dict[str, float]) -> dict[str, int | list[int]]:
    """One of the configurations that a row of averages may stand for; the order of its layers is not known."""
    configuration: dict[str, int | list[int]] = {
        f"{side}-{short}-subtransformer": int(row[f"{side}_{short.replace('-', '_')}"])
        for side in ("encoder", "decoder")
        for short in ("embed-dim", "layer-num")
    }
    for side, short, choices in (
        ("encoder", "ffn-embed-dim", (512, 1024, 2048, 3072)),
        ("encoder", "self-attention-heads", (2, 4, 8)),
        ("decoder", "ffn-embed-dim", (512, 1024, 2048, 3072)),
        ("decoder", "self-attention-heads", (2, 4, 8)),
        ("decoder", "ende-attention-heads", (2, 4, 8)),
        ("decoder", "arbitrary-ende-attn", (1, 2, 3)),
    ):
        layers = int(row[f"{side}_layer_num"])
        chosen = _of_sum(round(row[f"{side}_{short.replace('-', '_')}_avg"] * layers), layers, choices)
        attended = {1: -1, 2: 1, 3: 2}
        configuration[f"{side}-{short}-all-subtransformer"] = [attended[one] for one in chosen] if "arbitrary" in short else chosen
    return configuration


def _of_sum(total: int, number: int, choices: tuple[int, ...]) -> list[int]:
    """``number`` of ``choices`` whose sum is ``total``."""
    if number == 0:
        return []
    for choice in reversed(choices):
        rest = total - choice
        if (number - 1) * min(choices) <= rest <= (number - 1) * max(choices):
            found = _of_sum(rest, number - 1, choices)
            if len(found) == number - 1 and sum(found) == rest:
                return [choice, *found]
    return []


def test_parameters_stand_in_the_name_and_mean_the_same_space() -> None:
    assert transformer().name == "transformer"
    for name in ("transformer:part=decoder", "transformer:part=encoder,preset=tiny,source_length=7", "transformer:vocabulary=100"):
        assert load_space(name).name == name
    assert SiteIndex.of(transformer("decoder", target_length=40)).digest != SiteIndex.of(transformer("decoder")).digest
    assert transformer(source_length=30, vocabulary=32768).name == "transformer"


@pytest.mark.parametrize(
    "text", ["part=middle", "preset=huge", "source_length=1", "target_length=-3", "vocabulary=1", "vocabulary=9.5", "source_length=many"]
)
def test_impossible_parameters(text: str) -> None:
    with pytest.raises(ArgumentError):
        load_space(f"transformer:{text}")


@dataclass
class PerMac:
    """A predictor by arithmetic alone: ``ns`` a multiply-accumulate, ten per cent either way, and a fixed coverage."""

    space: TransformerSpace
    ns: float
    covered: float

    def predict(self, genomes: npt.ArrayLike) -> Predictions:
        latency = SiteIndex.of(self.space).macs(genomes).astype(np.float64) * np.float64(self.ns * 1e-6)
        return Predictions(latency, latency * 0.9, latency * 1.1, np.full(len(latency), self.covered))


def test_a_generated_sequence_takes_the_encoder_once_and_the_decoder_for_each_token() -> None:
    once, step = PerMac(transformer("encoder", "tiny"), 2.0, 1.0), PerMac(transformer("decoder", "tiny"), 3.0, 0.5)
    predictor = generation_latency(once, step, 20)
    assert isinstance(predictor, Predictor)
    drawn = genomes(SiteIndex.of(transformer(preset="tiny")), 5)
    predicted = predictor.predict(drawn)
    first, each = once.predict(drawn).latency_ms, step.predict(drawn).latency_ms
    assert np.allclose(predicted.latency_ms, first + 20 * each)
    assert np.allclose(predicted.lower_ms, 0.9 * predicted.latency_ms)
    assert np.allclose(predicted.upper_ms, 1.1 * predicted.latency_ms)
    assert np.allclose(predicted.coverage, (first + 0.5 * 20 * each) / predicted.latency_ms)
    objective = latency_objective(predictor)
    assert np.array_equal(objective.evaluate(drawn), predicted.latency_ms)
    assert len(predictor.predict(drawn[:0])) == 0
    with pytest.raises(ArgumentError, match="length=0"):
        generation_latency(once, step, 0)


def test_predictors_of_different_genomes_or_targets_are_not_added() -> None:
    golden = Path(__file__).parents[1] / "golden" / "predictor-format-1.onnx"
    first, second = load(golden), load(golden)
    lowest = np.zeros((1, len(first.card.genes)), dtype=np.int64)
    assert generation_latency(first, second, 4).predict(lowest).latency_ms == pytest.approx(5 * first.predict(lowest).latency_ms)
    second.card = replace(first.card, genes=first.card.genes[1:])
    with pytest.raises(ArgumentError, match="different genomes"):
        generation_latency(first, second, 4)
    second.card = replace(first.card, target=replace(first.card.target, threads=7))
    with pytest.raises(TargetMismatchError, match="threads"):
        generation_latency(first, second, 4)
