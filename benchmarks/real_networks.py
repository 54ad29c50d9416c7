"""Published networks that no campaign here is made of, as ONNX files: what kernel-wise prediction is tested on.

Architectures come from geffnet, pytorchcv and transformers (from a config), none of which needs torchvision; weights are random,
with batch normalisation calibrated so that activations keep their scale. ``pip install --no-deps geffnet "pytorchcv<0.0.68"`` and
``pip install transformers`` bring them (later versions of pytorchcv need torchvision).
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import onnx
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["NETWORKS", "export_all"]

_OPSET = 17
_TOKENS = 128

# Name (whose letters before the first digit are the family), and what builds it.
_GEFFNET = {
    "mnasnet100": "mnasnet_100", "mixnet_s": "mixnet_s", "mobilenetv2_100": "mobilenetv2_100", "fbnetc": "fbnetc_100",
    "spnasnet": "spnasnet_100", "efficientnet_b0": "efficientnet_b0", "efficientnet_lite0": "efficientnet_lite0",
    "mobilenetv3_large": "mobilenetv3_large_100", "mobilenetv3_small": "tf_mobilenetv3_small_100",
}  # fmt: skip
_PYTORCHCV = {
    "resnet18": "resnet18", "resnet50": "resnet50", "preresnet18": "preresnet18", "resnext50": "resnext50_32x4d",
    "seresnet18": "seresnet18", "densenet121": "densenet121", "squeezenet_v1_1": "squeezenet_v1_1", "shufflenet_g3": "shufflenet_g3_w1",
    "shufflenetv2_w1": "shufflenetv2_w1", "inceptionv3": "inceptionv3", "vgg11": "vgg11", "dla34": "dla34",
    "hrnet_w18": "hrnet_w18_small_v1", "ghostnet": "ghostnet", "mobilenet_w1": "mobilenet_w1", "darknet_tiny": "darknet_tiny",
    "peleenet": "peleenet", "igcv3_w1": "igcv3_w1",
}  # fmt: skip


def _vision(name: str, **settings: Any) -> Callable[[], tuple[torch.nn.Module, dict[str, torch.Tensor]]]:
    def build() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        transformers = import_module("transformers")
        config = getattr(transformers, f"{name}Config")(**settings)
        side = getattr(config, "image_size", 224)
        side = side if isinstance(side, int) else side[0]
        return getattr(transformers, f"{name}Model")(config), {"pixel_values": torch.randn(1, 3, side, side)}

    return build


def _text(name: str, **settings: Any) -> Callable[[], tuple[torch.nn.Module, dict[str, torch.Tensor]]]:
    def build() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        transformers = import_module("transformers")
        config = getattr(transformers, f"{name}Config")(**settings)
        return getattr(transformers, f"{name}Model")(config), {"input_ids": torch.randint(0, 1000, (1, _TOKENS))}

    return build


_SMALL = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
_TRANSFORMERS = {
    "vit_tiny": _vision("ViT", hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768),
    "deit_small": _vision("DeiT", hidden_size=384, num_hidden_layers=6, num_attention_heads=6, intermediate_size=1536),
    "swin_tiny": _vision("Swin", depths=[2, 2, 2, 2], embed_dim=96),
    "convnext_atto": _vision("ConvNext", hidden_sizes=[40, 80, 160, 320], depths=[2, 2, 6, 2]),
    "mobilevit_xs": _vision("MobileViT", hidden_sizes=[96, 120, 144], neck_hidden_sizes=[16, 32, 48, 64, 80, 96, 384]),
    "poolformer_s12": _vision("PoolFormer"),
    "segformer_b0": _vision("Segformer"),
    "regnety004": _vision("RegNet", embedding_size=32, hidden_sizes=[48, 104, 208, 440], depths=[1, 3, 6, 6], groups_width=8),
    "levit_128": _vision("Levit"),
    "pvt_tiny": _vision("Pvt", depths=[2, 2, 2, 2]),
    "yolos_tiny": _vision(
        "Yolos", hidden_size=192, num_hidden_layers=6, num_attention_heads=3, intermediate_size=768, image_size=[224, 224]
    ),
    "bert_mini": _text("Bert", **_SMALL),
    "electra_small": _text("Electra", embedding_size=128, **_SMALL),
    "distilbert": _text("DistilBert", dim=384, n_layers=4, n_heads=6, hidden_dim=1536),
    "squeezebert": _text("SqueezeBert", **_SMALL, embedding_size=256),
}  # fmt: skip


def _from(package: str, name: str) -> Callable[[], tuple[torch.nn.Module, dict[str, torch.Tensor]]]:
    def build() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        if package == "geffnet":
            module = import_module("geffnet").create_model(name, pretrained=False, exportable=True)
        else:
            module = import_module("pytorchcv.model_provider").get_model(name, pretrained=False)
        side = 299 if name == "inceptionv3" else 224
        return module, {"x": torch.randn(1, 3, side, side)}

    return build


NETWORKS: dict[str, Callable[[], tuple[torch.nn.Module, dict[str, torch.Tensor]]]] = {
    **{name: _from("geffnet", model) for name, model in _GEFFNET.items()},
    **{name: _from("pytorchcv", model) for name, model in _PYTORCHCV.items()},
    **_TRANSFORMERS,
}


class _Plain(torch.nn.Module):
    """A network with one tensor as its result, whatever it gave before."""

    def __init__(self, network: torch.nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        result = self.network(value) if self.name == "x" else self.network(**{self.name: value})
        while not isinstance(result, torch.Tensor):
            result = result[0] if isinstance(result, list | tuple) else result.to_tuple()[0]
        return result


def export_all(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write the networks as ONNX files (those that are not there yet), by the TorchScript exporter, or the dynamo one if that fails.

    One that neither can write is told and left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names or NETWORKS:
        path = folder / f"{name}.onnx"
        if not path.exists():
            torch.manual_seed(0)
            try:
                module, inputs = NETWORKS[name]()
                ((given, value),) = inputs.items()
                plain = _Plain(module, given)
                _calibrate(plain, value)
                _export(plain.eval(), value, path)
            except Exception as error:
                print(f"{name} is left out: {type(error).__name__}: {str(error).strip().splitlines()[:1]}", file=sys.stderr)
                continue
        paths.append(path)
    return paths


def _calibrate(module: torch.nn.Module, example: torch.Tensor) -> None:
    from layerclock.devices.export import calibrate_normalisation

    if any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules()):
        calibrate_normalisation(module, [(torch.randn(4, *example.shape[1:]),)])


def _export(module: torch.nn.Module, value: torch.Tensor, path: Path) -> None:
    draft = path.with_suffix(".draft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]}
        try:
            torch.onnx.export(module, (value,), str(draft), **named, dynamo=False, opset_version=_OPSET)
        except Exception:
            torch.onnx.export(module, (value,), str(draft), **named, dynamo=True, external_data=False, verbose=False)
    onnx.load(str(draft))
    draft.rename(path)
