"""Writing a kernel-wise predictor as an ONNX graph. Needs onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from layerclock.predictors.graph import IR_VERSION, OPSET, TREES_OPSET
from layerclock.predictors.kernel_features import FAMILIES
from layerclock.predictors.portable import METADATA_KEY
from layerclock.predictors.portable_kernels import KernelPredictor

if TYPE_CHECKING:
    from layerclock.predictors.kernel_models import KernelModels
    from layerclock.predictors.portable_kernels import KernelCard

__all__ = ["build_kernel_predictor"]


def build_kernel_predictor(models: KernelModels, card: KernelCard) -> KernelPredictor:
    """The predictor of these regressors.

    Each regressor sees only its families' rows: they are picked out, computed, and put back into their places.
    """
    own = [name for name in FAMILIES if name in models.of_family]
    # Families without a regressor of their own share the last one.
    regressor_of = np.array([own.index(name) if name in own else len(own) for name in FAMILIES], dtype=np.int64)
    nodes = [
        helper.make_node("Gather", ["regressor_of", "family"], ["regressor"]),
        helper.make_node("Gather", ["features", "last"], ["log_roofline"], axis=1),
    ]
    constants = {"regressor_of": regressor_of, "last": np.array(-1, dtype=np.int64), "flat": np.array([-1], dtype=np.int64)}
    filled = "log_roofline"
    forests = [*(models.of_family[name] for name in own), models.general]
    for number, forest in enumerate(forests):
        constants[f"is{number}"] = np.array(number, dtype=np.int64)
        nodes += [
            helper.make_node("Equal", ["regressor", f"is{number}"], [f"chosen{number}"]),
            helper.make_node("NonZero", [f"chosen{number}"], [f"where{number}"]),
            helper.make_node("Reshape", [f"where{number}", "flat"], [f"rows{number}"]),
            helper.make_node("Gather", ["features", f"rows{number}"], [f"features{number}"], axis=0),
            helper.make_node(
                "TreeEnsembleRegressor", [f"features{number}"], [f"above{number}"], domain="ai.onnx.ml", **forest.attributes()
            ),
            helper.make_node("Reshape", [f"above{number}", "flat"], [f"values{number}"]),
            helper.make_node("Gather", ["log_roofline", f"rows{number}"], [f"base{number}"], axis=0),
            helper.make_node("Add", [f"values{number}", f"base{number}"], [f"log{number}"]),
            helper.make_node("ScatterElements", [filled, f"rows{number}", f"log{number}"], [f"filled{number}"], axis=0),
        ]
        filled = f"filled{number}"
    nodes.append(helper.make_node("Exp", [filled], ["kernel_us"]))
    graph = helper.make_graph(
        nodes,
        "kernel_latency_predictor",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["kernels", None]),
            helper.make_tensor_value_info("family", TensorProto.INT64, ["kernels"]),
        ],
        [helper.make_tensor_value_info("kernel_us", TensorProto.FLOAT, ["kernels"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", TREES_OPSET)], ir_version=IR_VERSION
    )
    model.producer_name, model.producer_version = "layerclock", card.tool.removeprefix("layerclock ")
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.checker.check_model(model)
    return KernelPredictor(model.SerializeToString())
