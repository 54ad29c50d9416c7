"""Writing predictors as ONNX graphs: the parts that every predictor of genomes shares. Needs onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from layerclock.errors import PredictorError
from layerclock.predictors.portable import METADATA_KEY, OnnxPredictor, PredictorCard

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["FLOAT", "IR_VERSION", "OPSET", "TREES_OPSET", "GraphBuilder"]

# The lowest versions that hold all the operators used here, so that old runtimes can load the file.
OPSET = 17
TREES_OPSET = 3
FLOAT = TensorProto.FLOAT
IR_VERSION = 8


class GraphBuilder:
    """Collects nodes and constants; each method adds one step and returns the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        """A constant tensor of the graph."""
        self._constants[name] = numpy_helper.from_array(value, name)
        return name

    def add(self, op: str, inputs: list[str], result: str, **attributes: int | float) -> str:
        """One ONNX operator; ``attributes`` are the operator's own."""
        node = helper.make_node(op, inputs, [result], name=result)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self._nodes.append(node)
        return result

    def options(self, radix: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], name: str) -> str:
        """int64[N, K]: ``genomes @ radix + offsets``, for radix int64[G, K] and offsets int64[K].

        In float32, whose matrix product is far faster and exact for these small whole numbers.
        """
        weights = self.constant(f"{name}_radix", radix.astype(np.float32))
        product = self.add("MatMul", [self.genomes_as_float(), weights], f"{name}_product")
        shifted = self.add("Add", [product, self.constant(f"{name}_offsets", offsets.astype(np.float32))], f"{name}_shifted")
        return self.add("Cast", [shifted], name, to=TensorProto.INT64)

    def genomes_as_float(self) -> str:
        """The input as float32[N, G]; made once."""
        if not any(node.name == "genomes_float" for node in self._nodes):
            self.add("Cast", ["genomes"], "genomes_float", to=TensorProto.FLOAT)
        return "genomes_float"

    def sum_columns(self, matrix: str, result: str) -> str:
        """Sum over the second axis: [N, K] to [N]."""
        return self.add("ReduceSum", [matrix, self.constant(f"{result}_axis", np.array([1], dtype=np.int64))], result, keepdims=0)

    def add_estimator(self, estimator: Any, features: str, width: int) -> str:
        """A fitted scikit-learn regressor of features float32[N, width]; returns float32[N]. Needs skl2onnx.

        Raises :class:`PredictorError` if skl2onnx cannot write it.
        """
        from skl2onnx import to_onnx  # type: ignore[import-untyped]

        try:
            example = np.zeros((1, width), dtype=np.float32)
            model = to_onnx(estimator, example, target_opset={"": OPSET, "ai.onnx.ml": TREES_OPSET})
        except Exception as error:  # the converters raise classes of many kinds
            first = str(error).strip().splitlines()[0]
            raise PredictorError(f"{type(estimator).__name__} cannot be written as ONNX: {first}", "choose another model") from error
        renamed = compose.add_prefix(model, "estimator_")
        given, result = renamed.graph.input[0].name, renamed.graph.output[0].name
        self.add("Identity", [features], given)
        self._nodes += renamed.graph.node
        self._constants |= {tensor.name: tensor for tensor in renamed.graph.initializer}
        return self.add("Reshape", [result, self.constant("flat", np.array([-1], dtype=np.int64))], "estimated")

    def finish(
        self, latency: str, coverage: str, card: PredictorCard, uncovered_error: float = 0.0, bounds: tuple[str, str] | None = None
    ) -> OnnxPredictor:
        """The predictor whose latency and coverage are the tensors of these names, float32[N].

        Its interval has the card's half width; what is not covered adds its share of the time, times ``uncovered_error``. Or ``bounds``
        name the tensors of both ends.
        """
        self.add("Identity", [latency], "latency_ms")
        self.add("Identity", [coverage], "coverage")
        for bound, name in zip(bounds or self._bounds(latency, coverage, card, uncovered_error), ("lower_ms", "upper_ms"), strict=True):
            self.add("Identity", [bound], name)
        genomes = helper.make_tensor_value_info("genomes", TensorProto.INT64, ["networks", len(card.genes)])
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["networks"])
            for name in ("latency_ms", "lower_ms", "upper_ms", "coverage")
        ]
        graph = helper.make_graph(self._nodes, "latency_predictor", [genomes], outputs, list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=_opsets(self._nodes), ir_version=IR_VERSION)
        model.producer_name, model.producer_version = "layerclock", card.tool.removeprefix("layerclock ")
        helper.set_model_props(model, {METADATA_KEY: card.to_json()})
        onnx.checker.check_model(model, full_check=True)
        return OnnxPredictor(model.SerializeToString())

    def _bounds(self, latency: str, coverage: str, card: PredictorCard, uncovered_error: float) -> tuple[str, str]:
        half = self.constant("half_width", np.array(card.interval_half_width, dtype=np.float32))
        one = self.constant("whole", np.array(1, dtype=np.float32))
        if uncovered_error:
            uncovered = self.add("Sub", [one, coverage], "uncovered")
            added = self.add("Mul", [uncovered, self.constant("uncovered_error", np.array(uncovered_error, dtype=np.float32))], "added")
            half = self.add("Add", [half, added], "half_widths")
        nothing = self.constant("none", np.array(0, dtype=np.float32))
        lower = self.add("Mul", [latency, self.add("Max", [self.add("Sub", [one, half], "below"), nothing], "lower_factor")], "lower")
        return lower, self.add("Mul", [latency, self.add("Add", [one, half], "upper_factor")], "upper")


def _opsets(nodes: Sequence[onnx.NodeProto]) -> list[onnx.OperatorSetIdProto]:
    versions = {"": OPSET, **({"ai.onnx.ml": TREES_OPSET} if any(node.domain == "ai.onnx.ml" for node in nodes) else {})}
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]
