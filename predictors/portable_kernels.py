"""A kernel-wise predictor as one ONNX file, and asking it. Needs numpy and onnxruntime, nothing else.

The file's inputs: ``features`` float32[K, F] and ``family`` int64[K]; its output: ``kernel_us`` float32[K]. How features are made of
kernels, how kernels' times become a network's, and what all that is valid for stand in its metadata.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from layerclock.errors import PredictorError
from layerclock.predictors.kernel_features import FAMILIES, FEATURES_VERSION, Roofline, Vocabulary, describe, family, weight_bytes
from layerclock.predictors.portable import METADATA_KEY, names_of, open_model, read_card, read_model
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerclock.network import Kernel

__all__ = ["Combination", "KernelCard", "KernelPrediction", "KernelPredictor", "load_kernelwise"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Combination:
    """From kernels' times to a network's: ``constant + per_kernel * number + scale * sum``, times in us."""

    constant_us: float
    per_kernel_us: float
    scale: float

    def total_us(self, kernels_us: FloatArray) -> float:
        """A network's time from those of its kernels, float64[K]."""
        return self.constant_us + self.per_kernel_us * len(kernels_us) + self.scale * float(kernels_us.sum())


@dataclass(frozen=True, slots=True)
class KernelCard:
    """What a kernel-wise predictor's file says of itself.

    ``family_errors`` are the mean relative errors on kernels that were left out of the fit, and ``unknown_error`` is what kernels count
    for of which nothing is known; a network's interval is its prediction plus and minus ``interval_factor`` times its kernels' mean
    error, weighted by time, and holds ``interval_level`` of networks. ``lacking`` is what regressors of logarithms lack on the whole:
    every kernel's time is multiplied by it. ``format`` is the version of the features that the regressors see.
    ``fusions`` maps operators joined by ``+`` to the kind, implementation and layout of the kernel that they were fused to.
    """

    kind: str
    target: Target
    words: Vocabulary
    roofline: Roofline
    caches: tuple[float, ...]
    combination: Combination
    lacking: float
    family_errors: Mapping[str, float]
    unknown_error: float
    interval_level: float
    interval_factor: float
    noise_floor: float
    fitted_on_kernels: int
    fitted_on_networks: int
    fusions: Mapping[str, tuple[str, str, str]]
    table_hash: str
    tool: str
    format: int = FEATURES_VERSION

    def to_json(self) -> str:
        """The card as JSON, with the format's version and the unit."""
        return json.dumps({"unit": "us", "families": FAMILIES, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> KernelCard:
        """Inverse of :meth:`to_json`; raises ``ValueError``, ``KeyError`` or ``TypeError`` on other text."""
        fields: dict[str, Any] = json.loads(text)
        known = fields["format"] in range(1, FEATURES_VERSION + 1)
        if not known or fields.pop("unit") != "us" or tuple(fields.pop("families")) != FAMILIES:
            raise ValueError("written by a version that this one does not know")
        words = fields["words"]
        named = {name: tuple(map(str, words[name])) for name in ("operators", "kinds", "implementations", "layouts", "dtypes")}
        fields["words"] = Vocabulary(**named, families={str(name): int(count) for name, count in words["families"].items()})
        fields["target"] = Target.from_json(json.dumps(fields["target"]))
        fields["roofline"] = Roofline(**{name: _number(value, above=0.0) for name, value in fields["roofline"].items()})
        fields["combination"] = Combination(**{name: _number(value) for name, value in fields["combination"].items()})
        fields["caches"] = tuple(_number(size, above=0.0) for size in fields["caches"])
        fields["family_errors"] = {name: _number(fields["family_errors"][name]) for name in FAMILIES}
        fields["fusions"] = {operators: (str(kind), str(one), str(layout)) for operators, (kind, one, layout) in fields["fusions"].items()}
        for name in ("lacking", "unknown_error", "interval_level", "interval_factor"):
            fields[name] = _number(fields[name])
        fields["noise_floor"] = float(fields["noise_floor"])
        return cls(**fields)


def _number(value: object, above: float = -1e-12) -> float:
    """A finite number that is not below zero, or above a bound; raises ``ValueError`` for anything else."""
    if not isinstance(value, int | float) or not above < value < inf:
        raise ValueError(f"{value!r} is no possible number")
    return float(value)


@dataclass(frozen=True, slots=True)
class KernelPrediction:
    """A network's predicted latency, and that of each of its K kernels.

    ``kernel_us`` float64[K]; ``known`` bool[K]: whether the predictor has seen kernels of that sort. ``coverage`` is the known
    kernels' share of the kernels' time.
    """

    latency_ms: float
    lower_ms: float
    upper_ms: float
    coverage: float
    kernels: tuple[Kernel, ...]
    kernel_us: FloatArray
    known: npt.NDArray[np.bool_]


class KernelPredictor:
    """A fitted predictor of any network's latency from the kernels that the runtime makes of it.

    Raises :class:`PredictorError` if ``model`` is no such predictor.
    """

    def __init__(self, model: bytes, source: str = "the model") -> None:
        self.model = model
        self._session = open_model(model, source)
        written = read_card(self._session, source)
        names = names_of((*self._session.get_inputs(), *self._session.get_outputs()), source)
        if written is None or names != ["features", "family", "kernel_us"]:
            raise PredictorError(f"{source} is no kernel-wise predictor", "layerclock fit --kind kernelwise makes one")
        try:
            self.card = KernelCard.from_json(written)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise PredictorError(f"{source} has damaged metadata: {error}", "fit the predictor again") from error

    @property
    def target(self) -> Target:
        """What the predicted latencies are valid for."""
        return self.card.target

    def kernel_us(self, kernels: Sequence[Kernel], network_bytes: FloatArray | None = None) -> FloatArray:
        """Times of kernels in us, float64[K].

        ``network_bytes`` float64[K] are those of all weights of the network in which each one runs; None: these are one network's.
        """
        if not kernels:
            return np.zeros(0)
        card = self.card
        around = np.full(len(kernels), weight_bytes(kernels).sum()) if network_bytes is None else network_bytes
        features = describe(kernels, card.words, card.roofline, card.caches, around, card.format).astype(np.float32)
        families = np.array([FAMILIES.index(family(kernel)) for kernel in kernels], dtype=np.int64)
        try:
            (times,) = self._session.run(["kernel_us"], {"features": features, "family": families})
        except Exception as error:  # the binding raises classes of its own that share no public base
            first = str(error).strip().splitlines()[0]
            raise PredictorError(f"the predictor cannot be computed: {first}", "its file is damaged: fit it again") from error
        found: FloatArray = np.asarray(times, dtype=np.float64) * card.lacking
        if found.shape != (len(kernels),) or not np.isfinite(found).all():
            raise PredictorError(f"the predictor answers {found.shape} for {len(kernels)} kernels, or no numbers", "fit it again")
        return found

    def predict(self, kernels: Sequence[Kernel]) -> KernelPrediction:
        """Latency of the network that a runtime executes as these kernels (``Session.kernels()``).

        Raises :class:`PredictorError` for a network without kernels.
        """
        if not kernels:
            raise PredictorError("a network without kernels has no latency", "is the model empty?")
        card = self.card
        times = self.kernel_us(kernels)
        known = np.array([card.words.knows(kernel) for kernel in kernels])
        errors = np.array(
            [card.family_errors[family(kernel)] if told else card.unknown_error for kernel, told in zip(kernels, known, strict=True)]
        )
        total_ms = card.combination.total_us(times) / 1e3
        reach = max(card.interval_factor * float(errors @ times / times.sum()), card.noise_floor)
        coverage = float(times[known].sum() / times.sum())
        return KernelPrediction(total_ms, total_ms * max(0.0, 1 - reach), total_ms * (1 + reach), coverage, tuple(kernels), times, known)

    def scaled(self, factor: float) -> KernelPredictor:
        """The predictor whose networks take ``factor`` times as long: calibrated on networks measured end to end. Needs onnx."""
        import onnx

        old = self.card.combination
        combination = Combination(old.constant_us * factor, old.per_kernel_us * factor, old.scale * factor)
        model = onnx.load_model_from_string(self.model)
        onnx.helper.set_model_props(model, {METADATA_KEY: replace(self.card, combination=combination).to_json()})
        return KernelPredictor(model.SerializeToString())

    def save(self, path: Path | str) -> None:
        """Write the file, whole or not at all. Raises :class:`~layerclock.errors.OutputError`."""
        from layerclock.atomic import write_atomically

        write_atomically(Path(path), lambda draft: draft.write_bytes(self.model))


def load_kernelwise(path: Path | str) -> KernelPredictor:
    """Load a kernel-wise predictor file. Raises :class:`PredictorError` if it is absent, truncated or something else."""
    return KernelPredictor(read_model(path), str(path))
