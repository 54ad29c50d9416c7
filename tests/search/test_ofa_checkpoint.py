"""Once-for-all's super-networks: their keys and shapes as written down here, their rule of slicing, and accuracy on images.

The description of a file and the elastic forward pass below follow once-for-all's own layout and share nothing with the code
under test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from layerclock.errors import ArgumentError, GenomeError, UnknownNameError
from layerclock.plugins import load_evaluator
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3
from layerclock.search.spaces.proxyless import ofa_proxyless
from layerclock.search.spaces.resnet50 import ResNet50Space, ofa_resnet50
from layerclock.search.supernet.image_folder import central_view, find_images, normalised, random_view
from layerclock.search.supernet.ofa_checkpoint import OfaCheckpointEvaluator, ofa_checkpoint
from layerclock.search.supernet.ofa_weights import OfaWeights, load_ofa_weights
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from layerclock.search.spaces.mobilenetv3 import MobileNetV3Space
    from layerclock.search.spaces.proxyless import ProxylessSpace
    from layerclock.search.supernet.ofa_weights import OfaSpace
    from layerclock.space import GenomeArray

State = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]

# Of the two MobileNets: channels, stride, squeeze-excite and activation of each stage; all but the last of Proxyless have 4 blocks.
MBV3 = [(24, 2, 0, "relu"), (40, 2, 1, "relu"), (80, 2, 0, "hardswish"), (112, 1, 1, "hardswish"), (160, 2, 1, "hardswish")]
PROXYLESS = [(24, 2, 0, "relu6"), (40, 2, 0, "relu6"), (80, 2, 0, "relu6"), (96, 1, 0, "relu6"), (192, 2, 0, "relu6"), (320, 1, 0, "relu6")]
TINY_RESNET = ResNet50Space("tiny", 40, 3, 3, stem_channels=16, stage_channels=(32, 40, 48, 64))


def _eight(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _unit(
    path: str, channels: int, incoming: int, kernel: int, bn: str = ".bn", conv: str = ".conv"
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{path}{conv}.weight", (channels, incoming, kernel, kernel)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{path}{bn}.{part}", (channels,)
    yield f"{path}{bn}.num_batches_tracked", ()


def _elastic(path: str, channels: int, incoming: int, kernel: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    return _unit(path, channels, incoming, kernel, ".bn.bn", ".conv.conv")


def _mobile_shapes(stages: list[tuple[int, int, int, str]], width: float, classes: int) -> Shapes:
    proxyless = stages is PROXYLESS
    stem, first = _eight((32 if proxyless else 16) * width), _eight(16 * width)
    shapes = dict(_unit("first_conv", stem, 3, 3))
    shapes |= dict(_unit("blocks.0.mobile_inverted_conv.depth_conv", stem, 1, 3))
    shapes |= dict(_unit("blocks.0.mobile_inverted_conv.point_linear", first, stem, 1))
    number, incoming = 0, first
    for base, _, squeeze, _ in stages:
        for _ in range(1 if base == 320 else 4):
            number += 1
            path, out, mid = f"blocks.{number}.mobile_inverted_conv", _eight(base * width), incoming * 6
            shapes |= dict(_elastic(f"{path}.inverted_bottleneck", mid, incoming, 1))
            shapes |= {f"{path}.depth_conv.conv.5to3_matrix": (9, 9), f"{path}.depth_conv.conv.7to5_matrix": (25, 25)}
            shapes |= dict(_elastic(f"{path}.depth_conv", mid, 1, 7))
            if squeeze:
                shapes |= {f"{path}.depth_conv.se.fc.reduce.weight": (_eight(mid // 4), mid, 1, 1)}
                shapes |= {f"{path}.depth_conv.se.fc.reduce.bias": (_eight(mid // 4),), f"{path}.depth_conv.se.fc.expand.bias": (mid,)}
                shapes |= {f"{path}.depth_conv.se.fc.expand.weight": (mid, _eight(mid // 4), 1, 1)}
            shapes |= dict(_elastic(f"{path}.point_linear", out, mid, 1))
            incoming = out
    last = _eight(1280 * width)
    if proxyless:
        shapes |= dict(_unit("feature_mix_layer", last, incoming, 1))
    else:
        shapes |= dict(_unit("final_expand_layer", _eight(960 * width), incoming, 1))
        shapes |= {"feature_mix_layer.conv.weight": (last, _eight(960 * width), 1, 1)}
    return shapes | {"classifier.linear.weight": (classes, last), "classifier.linear.bias": (classes,)}


def _resnet_shapes(stem: int, stages: tuple[int, ...], classes: int) -> Shapes:
    shapes = dict(_elastic("input_stem.0", _eight(stem // 2), 3, 3))
    shapes |= dict(_elastic("input_stem.1.conv", _eight(stem // 2), _eight(stem // 2), 3))
    shapes |= dict(_elastic("input_stem.2", stem, _eight(stem // 2), 3))
    number, incoming = 0, stem
    for out, depth in zip(stages, (4, 4, 6, 4), strict=True):
        mid = _eight(round(out * 0.35))
        for block in range(depth):
            path = f"blocks.{number}"
            shapes |= dict(_elastic(f"{path}.conv1", mid, incoming, 1)) | dict(_elastic(f"{path}.conv2", mid, mid, 3))
            shapes |= dict(_elastic(f"{path}.conv3", out, mid, 1))
            shapes |= dict(_elastic(f"{path}.downsample", out, incoming, 1)) if block == 0 else {}
            number, incoming = number + 1, out
    return shapes | {"classifier.linear.linear.weight": (classes, incoming), "classifier.linear.linear.bias": (classes,)}


def _filled(shapes: Shapes, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)

    def tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
        if key.endswith("num_batches_tracked"):
            return torch.tensor(7)
        noise = torch.randn(shape, generator=generator)
        if key.endswith("_matrix"):
            return torch.eye(shape[0]) + 0.1 * noise
        if key.endswith("running_var") or ("bn" in key and key.endswith("weight")):
            return 0.5 + noise.abs()
        return noise * (2 / max(1, noise[0].numel())) ** 0.5 if len(shape) > 1 else 0.2 * noise

    return {key: tensor(key, shape) for key, shape in shapes.items()}


def _normalise(x: torch.Tensor, state: State, path: str, eps: float) -> torch.Tensor:
    number = x.shape[1]
    mean, var, weight, bias = (state[f"{path}.{part}"][:number] for part in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(x, mean, var, weight, bias, eps=eps)


def _kernel(state: State, path: str, size: int) -> torch.Tensor:
    weight = state[f"{path}.conv.weight"]
    if size < 7:
        weight = (weight[:, 0, 1:6, 1:6].reshape(-1, 25) @ state[f"{path}.7to5_matrix"].T).reshape(-1, 1, 5, 5)
    if size < 5:
        weight = (weight[:, 0, 1:4, 1:4].reshape(-1, 9) @ state[f"{path}.5to3_matrix"].T).reshape(-1, 1, 3, 3)
    return weight


def _mobile_forward(
    stages: list[tuple[int, int, int, str]], state: State, config: dict[str, list[int]], x: torch.Tensor, width: float
) -> torch.Tensor:
    """The elastic forward pass: at each layer as many leading channels as there are to read or as the expansion asks for."""
    eps, outer = (1e-3, functional.relu6) if stages is PROXYLESS else (1e-5, functional.hardswish)
    inner = functional.relu6 if stages is PROXYLESS else functional.relu
    x = outer(_normalise(functional.conv2d(x, state["first_conv.conv.weight"], None, 2, 1), state, "first_conv.bn", eps))
    path, skip = "blocks.0.mobile_inverted_conv", x
    x = functional.conv2d(x, state[f"{path}.depth_conv.conv.weight"], None, 1, 1, groups=x.shape[1])
    x = inner(_normalise(x, state, f"{path}.depth_conv.bn", eps))
    x = _normalise(functional.conv2d(x, state[f"{path}.point_linear.conv.weight"]), state, f"{path}.point_linear.bn", eps)
    x = x if stages is PROXYLESS else x + skip
    for stage, ((base, stride, squeeze, name), depth) in enumerate(zip(stages, config["d"], strict=True)):
        for block in range(depth):
            number, out, skip = stage * 4 + block, _eight(base * width), x
            path, act = f"blocks.{number + 1}.mobile_inverted_conv", getattr(functional, name)
            kernel, mid = config["ks"][number], x.shape[1] * config["e"][number]
            x = functional.conv2d(x, state[f"{path}.inverted_bottleneck.conv.conv.weight"][:mid, : x.shape[1]])
            x = act(_normalise(x, state, f"{path}.inverted_bottleneck.bn.bn", eps))
            filters = _kernel(state, f"{path}.depth_conv.conv", kernel)[:mid]
            x = functional.conv2d(x, filters, None, stride if block == 0 else 1, kernel // 2, groups=mid)
            x = act(_normalise(x, state, f"{path}.depth_conv.bn.bn", eps))
            if squeeze:
                fc, few = f"{path}.depth_conv.se.fc", _eight(mid // 4)
                gate = functional.conv2d(
                    x.mean((2, 3), keepdim=True), state[f"{fc}.reduce.weight"][:few, :mid], state[f"{fc}.reduce.bias"][:few]
                )
                gate = functional.conv2d(gate.relu(), state[f"{fc}.expand.weight"][:mid, :few], state[f"{fc}.expand.bias"][:mid])
                x = x * functional.hardsigmoid(gate)
            x = functional.conv2d(x, state[f"{path}.point_linear.conv.conv.weight"][:out, :mid])
            x = _normalise(x, state, f"{path}.point_linear.bn.bn", eps)
            x = x + skip if x.shape == skip.shape and (block or stride == 1) else x
    if stages is PROXYLESS:
        x = outer(_normalise(functional.conv2d(x, state["feature_mix_layer.conv.weight"]), state, "feature_mix_layer.bn", eps))
        x = x.mean((2, 3))
    else:
        x = outer(_normalise(functional.conv2d(x, state["final_expand_layer.conv.weight"]), state, "final_expand_layer.bn", eps))
        x = outer(functional.conv2d(x.mean((2, 3), keepdim=True), state["feature_mix_layer.conv.weight"])).flatten(1)
    return functional.linear(x, state["classifier.linear.weight"], state["classifier.linear.bias"])


def _resnet_forward(state: State, config: dict[str, list[float]], x: torch.Tensor, space: ResNet50Space) -> torch.Tensor:
    widths = [(0.65, 0.8, 1.0)[int(place)] for place in config["w"]]

    def unit(x: torch.Tensor, path: str, out: int, stride: int = 1) -> torch.Tensor:
        weight = state[f"{path}.conv.conv.weight"][:out, : x.shape[1]]
        return _normalise(functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2), state, f"{path}.bn.bn", 1e-5)

    inner = _eight(_eight(space.stem_channels * widths[0]) // 2)
    x = unit(x, "input_stem.0", inner, 2).relu()
    x = x + unit(x, "input_stem.1.conv", inner).relu() if config["d"][0] == 2 else x
    x = unit(x, "input_stem.2", _eight(space.stem_channels * widths[1])).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    start = 0
    for stage, base in enumerate((2, 2, 4, 2)):
        for block in range(base + int(config["d"][stage + 1])):
            path, stride = f"blocks.{start + block}", 2 if stage and block == 0 else 1
            out = _eight(space.stage_channels[stage] * widths[stage + 2])
            mid = _eight(round(out * config["e"][start + block]))
            skip = unit(functional.avg_pool2d(x, stride, stride, ceil_mode=True), f"{path}.downsample", out) if block == 0 else x
            x = unit(unit(unit(x, f"{path}.conv1", mid).relu(), f"{path}.conv2", mid, stride).relu(), f"{path}.conv3", out)
            x = (x + skip).relu()
        start += base + 2
    return functional.linear(
        x.mean((2, 3)), state["classifier.linear.linear.weight"][:, : x.shape[1]], state["classifier.linear.linear.bias"]
    )


def _configs(names: dict[str, tuple[tuple[float, ...], int]], number: int) -> list[dict[str, list[float]]]:
    rng = np.random.default_rng(0)
    return [{name: rng.choice(choices, size).tolist() for name, (choices, size) in names.items()} for _ in range(number)]


@pytest.mark.parametrize(
    ("space", "shapes"),
    [
        (ofa_mobilenetv3(), _mobile_shapes(MBV3, 1.0, 1000)),
        (ofa_mobilenetv3(width=1.2), _mobile_shapes(MBV3, 1.2, 1000)),
        (ofa_proxyless(), _mobile_shapes(PROXYLESS, 1.3, 1000)),
        (ofa_resnet50(), _resnet_shapes(64, (256, 512, 1024, 2048), 1000)),
    ],
    ids=["mbv3", "mbv3-1.2", "proxyless", "resnet50"],
)
def test_the_whole_super_networks_have_once_for_alls_keys_and_shapes(space: OfaSpace, shapes: Shapes) -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    weights = OfaWeights(space, state)
    assert weights.space is space
    # Later versions of their code call the blocks' convolutions ``conv``, and not every file counts batches.
    later = {key.replace(".mobile_inverted_conv.", ".conv."): tensor for key, tensor in state.items() if "num_batches" not in key}
    OfaWeights(space, later)


@pytest.mark.parametrize("name", ["mbv3", "proxyless"])
def test_sub_networks_of_the_mobilenets_compute_what_the_super_network_does(name: str) -> None:
    stages = {"mbv3": MBV3, "proxyless": PROXYLESS}[name]
    space: MobileNetV3Space | ProxylessSpace = ofa_mobilenetv3(width=0.5, resolution=40, classes=5)
    if stages is PROXYLESS:
        space = ofa_proxyless(width=0.5, resolution=40, classes=5)
    state = _filled(_mobile_shapes(stages, 0.5, 5))
    weights = OfaWeights(space, state)
    blocks = 20 + (stages is PROXYLESS)
    image = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    for drawn in _configs({"ks": ((3, 5, 7), blocks), "e": ((3, 4, 6), blocks), "d": ((2, 3, 4), 5)}, 3):
        config = {key: [int(value) for value in values] for key, values in drawn.items()}
        config["d"] += [1] if stages is PROXYLESS else []
        network = weights.extract(space.from_ofa(config))
        assert not network.training
        with torch.inference_mode():
            torch.testing.assert_close(network(image), _mobile_forward(stages, state, config, image, 0.5), rtol=1e-3, atol=1e-4)


def test_sub_networks_of_the_resnet_compute_what_the_super_network_does() -> None:
    state = _filled(_resnet_shapes(16, (32, 40, 48, 64), 3))
    weights = OfaWeights(TINY_RESNET, state)
    image = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    for config in _configs({"d": ((0, 2), 5), "e": ((0.2, 0.25, 0.35), 18), "w": ((0, 1, 2), 6)}, 4):
        config["w"] = [int(place) for place in config["w"]]
        network = weights.extract(TINY_RESNET.from_ofa(config))
        with torch.inference_mode():
            torch.testing.assert_close(network(image), _resnet_forward(state, config, image, TINY_RESNET), rtol=1e-3, atol=1e-4)


def test_slices_are_copies_of_the_leading_channels_and_of_the_transformed_centre() -> None:
    space = ofa_mobilenetv3(width=0.5, resolution=40, classes=5)
    state = _filled(_mobile_shapes(MBV3, 0.5, 5))
    weights = OfaWeights(space, state)
    network = weights.extract(space.from_ofa({"ks": [5] * 20, "e": [4] * 20, "d": [3] * 5}))
    tensors = network.state_dict()
    path = "blocks.6.mobile_inverted_conv"  # the second block of the second stage: 24 channels, 96 inside, 24 in its attention
    assert torch.equal(tensors["stage2.block2.expand.conv.weight"], state[f"{path}.inverted_bottleneck.conv.conv.weight"][:96])
    assert torch.equal(tensors["stage2.block2.excite.reduce.weight"], state[f"{path}.depth_conv.se.fc.reduce.weight"][:24, :96])
    assert torch.equal(tensors["stage2.block2.project.conv.weight"], state[f"{path}.point_linear.conv.conv.weight"][:, :96])
    assert torch.equal(tensors["stage2.block2.project.norm.bias"], state[f"{path}.point_linear.bn.bn.bias"])
    centre = state[f"{path}.depth_conv.conv.conv.weight"][95, 0, 1:6, 1:6].flatten()
    by_hand = torch.stack([(row * centre).sum() for row in state[f"{path}.depth_conv.conv.7to5_matrix"]]).view(5, 5)
    torch.testing.assert_close(tensors["stage2.block2.depthwise.conv.weight"][95, 0], by_hand)
    before = state["first_conv.conv.weight"].clone()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(state["first_conv.conv.weight"], before)
    with pytest.raises(GenomeError):
        weights.extract([0])


def _tiny_state() -> State:
    return _filled(_mobile_shapes(MBV3, 0.25, 3))


def test_a_file_that_does_not_fit_names_its_first_key(tmp_path: Path) -> None:
    space, state, path = ofa_mobilenetv3(width=0.25, resolution=32, classes=3), _tiny_state(), tmp_path / "supernet.pth"
    key = "blocks.3.mobile_inverted_conv.depth_conv.conv.7to5_matrix"
    for held, reason in (
        ({name: tensor for name, tensor in state.items() if name != key}, f"{key} is missing"),
        (state | {"blocks.21.extra": torch.zeros(3)}, "blocks.21.extra is not part of it"),
        (state | {key: torch.zeros(9, 9)}, rf"{key} has shape \(9, 9\), not \(25, 25\)"),
        (state | {"classifier.linear.bias": 3}, "classifier.linear.bias is a int and no tensor"),
        ([torch.zeros(3)], "no mapping"),
    ):
        torch.save(held, path)
        with pytest.raises(ArgumentError, match=reason) as caught:
            load_ofa_weights(path, space)
        assert caught.value.hint
    torch.save({"state_dict": state, "epoch": 180}, path)
    assert load_ofa_weights(path, space).space is space
    with pytest.raises(ArgumentError, match=r"input_stem\.0\.conv\.conv\.weight is missing"):
        load_ofa_weights(path, TINY_RESNET)
    for content in (b"", b"nonsense", path.read_bytes()[:1000]):
        path.write_bytes(content)
        with pytest.raises(ArgumentError, match="cannot read the super-network"):
            load_ofa_weights(path, space)
    with pytest.raises(ArgumentError, match="cannot read the super-network"):
        load_ofa_weights(tmp_path / "absent", space)


def _paint(path: Path, seed: int, size: tuple[int, int] = (50, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three classes; of the 6 images for validation 3 are of the second one. A grey image and a PNG are among them."""
    root = tmp_path / "images"
    for number, name in enumerate(("ant", "bee", "cat")):
        for image in range(3):
            _paint(root / "train" / name / f"{image}.JPEG", 10 * number + image)
        for image in range((2, 3, 1)[number]):
            _paint(root / "val" / name / f"{image}.jpg", 100 + 10 * number + image, (40, 60))
    _paint(root / "val" / "bee" / "2.png", 7)
    (root / "val" / "bee" / "2.jpg").unlink()
    Image.new("L", (64, 48), 100).save(root / "val" / "cat" / "0.jpg")
    (root / "val" / "cat" / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A super-network that always answers "bee", provided that its normalisation is calibrated: its own statistics are not numbers."""
    state = _tiny_state()
    for key, tensor in state.items():
        if key.endswith("running_mean"):
            tensor.fill_(torch.nan)
    state["classifier.linear.bias"] = torch.tensor([0.0, 1e9, 0.0])
    torch.save({"state_dict": state}, tmp_path / "supernet.pth")
    return tmp_path / "supernet.pth"


def test_accuracy_is_measured_on_the_images_after_calibration(checkpoint: Path, images: Path) -> None:
    text = f"ofa-checkpoint:path={checkpoint},images={images},width=0.25,resolution=33,classes=3"
    evaluator = load_evaluator(text)
    assert isinstance(evaluator, OfaCheckpointEvaluator)
    assert evaluator.metric == "top1_percent"
    assert evaluator.space.name == "ofa-mobilenetv3:width=0.25,resolution=33,classes=3"
    genomes = sample(SiteIndex.of(evaluator.space), 2, np.random.default_rng(0))
    np.testing.assert_allclose(evaluator.evaluate(genomes[[0, 1, 0]]), [50.0] * 3)
    assert evaluator.evaluations == 2
    np.testing.assert_allclose(evaluator.evaluate(genomes[1:]), [50.0])
    assert evaluator.evaluations == 2
    few = load_evaluator(f"{text},judged_images=1,calibration_images=2")
    assert few.evaluate(genomes[:1])[0] in (0.0, 100.0)


def _judged_alone(evaluator: OfaCheckpointEvaluator, genome: GenomeArray, images: Path) -> float:
    """The same by hand: one network, its normalisation fitted to the evaluator's own views, one image after the other."""
    network = evaluator._calibrated(genome)
    right = 0
    with torch.inference_mode():
        for label, name in enumerate(("ant", "bee", "cat")):
            for path in [path for path in (images / "val" / name).iterdir() if path.suffix != ".txt"]:
                right += int(network(normalised(central_view(path, 33)[None])).argmax() == label)
    return 100 * right / 6


def test_accuracy_is_that_of_one_network_after_the_other(tmp_path: Path, images: Path) -> None:
    torch.save(_tiny_state(), tmp_path / "supernet.pth")
    evaluator = ofa_checkpoint(tmp_path / "supernet.pth", images, width=0.25, resolution=33, classes=3)
    genomes = sample(SiteIndex.of(evaluator.space), 3, np.random.default_rng(1))
    np.testing.assert_allclose(evaluator.evaluate(genomes), [_judged_alone(evaluator, genome, images) for genome in genomes])


def test_what_cannot_be_judged_is_refused(checkpoint: Path, images: Path) -> None:
    usual = {"width": 0.25, "resolution": 33, "classes": 3}
    for space, error in (("digits-mobilenetv3x", UnknownNameError), ("composites", ArgumentError)):
        with pytest.raises(error):
            ofa_checkpoint(checkpoint, images, space)
    with pytest.raises(ArgumentError, match=r"is missing|has shape"):
        ofa_checkpoint(checkpoint, images, "ofa-proxyless", width=0.25, resolution=33, classes=3)
    with pytest.raises(ArgumentError, match="has shape"):
        ofa_checkpoint(checkpoint, images, width=0.25, resolution=33, classes=4)
    for numbers in ({"calibration_images": 1}, {"judged_images": -1}):
        with pytest.raises(ArgumentError, match="no network can be judged"):
            ofa_checkpoint(checkpoint, images, **usual, **numbers)  # type: ignore[arg-type]


def test_folders_are_read_as_imagenet_is_kept(images: Path, tmp_path: Path) -> None:
    found = find_images(images, 3)
    assert [file.label for file in found.training] == [0] * 3 + [1] * 3 + [2] * 3
    assert [(file.path.parent.name, file.label) for file in found.judged] == [("ant", 0)] * 2 + [("bee", 1)] * 3 + [("cat", 2)]
    plain = find_images(images / "train", 3)
    assert plain.judged == plain.training == found.training
    with pytest.raises(ArgumentError, match="3 folders of images, the networks know 1000"):
        find_images(images, 1000)
    with pytest.raises(ArgumentError, match="cannot read the images"):
        find_images(images / "absent", 3)
    (images / "train" / "ant").rename(images / "train" / "asp")
    with pytest.raises(ArgumentError, match="other names"):
        find_images(images, 3)
    (tmp_path / "empty" / "one").mkdir(parents=True)
    (tmp_path / "empty" / "two").mkdir()
    with pytest.raises(ArgumentError, match="no images"):
        find_images(tmp_path / "empty", 2)


def test_views_of_an_image(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, 64:] = (255, 128, 0)
    Image.fromarray(pixels).save(tmp_path / "halves.png")
    view = central_view(tmp_path / "halves.png", 56)
    assert view.shape == (3, 56, 56)
    assert view.dtype == torch.uint8
    # 56 of 64 pixels a side from the middle of 128: the edge of the halves stays in the middle.
    assert view[:, :, :28].max() == 0
    assert view[:, 0, 28:].numpy().min(1).tolist() == view[:, 0, 28:].numpy().max(1).tolist() == [255, 128, 0]
    first, second = (random_view(tmp_path / "halves.png", 24, np.random.default_rng(seed)) for seed in (0, 0))
    assert torch.equal(first, second)
    assert first.shape == (3, 24, 24)
    expected = (torch.tensor([0.0, 1.0]) - 0.485) / 0.229
    torch.testing.assert_close(normalised(view[None])[0, 0, 5, [0, 55]], expected)
    _paint(tmp_path / "thin.png", 0, (200, 2))
    assert random_view(tmp_path / "thin.png", 8, np.random.default_rng(0)).shape == (3, 8, 8)
    assert central_view(tmp_path / "thin.png", 8).shape == (3, 8, 8)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    for broken in (tmp_path / "broken.jpg", tmp_path / "absent.jpg"):
        with pytest.raises(ArgumentError, match="cannot read the image"):
            central_view(broken, 8)
