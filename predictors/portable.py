"""A predictor as one ONNX file, and asking it. Needs numpy and onnxruntime, nothing else.

The file's inputs and outputs: ``genomes`` int64[N, G] to ``latency_ms``, ``lower_ms``, ``upper_ms`` and ``coverage``,
float32[N]. What it is valid for stands in its metadata. Loading runs no code of the file: it holds ONNX's standard
operators and JSON.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnxruntime

from layerclock.errors import ArgumentError, GenomeError, PredictorError
from layerclock.interfaces import Predictions
from layerclock.predictors.onnx_inspection import refuse_unsafe
from layerclock.space import Choice, Gene, GenomeArray, check_genomes
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["METADATA_KEY", "OnnxPredictor", "PredictorCard", "is_kernelwise", "load", "names_of", "open_model", "read_card", "read_model"]

METADATA_KEY = "layerclock"
_FORMAT = 1
# Genomes computed at once: any number of them takes no more memory than so many, and most of that stays in caches.
_BLOCK = 8192
_MOST_BYTES = 2 * 2**30  # protobuf's own limit
_OUTPUTS = ["latency_ms", "lower_ms", "upper_ms", "coverage"]


@dataclass(frozen=True, slots=True)
class PredictorCard:
    """What a predictor file says of itself.

    ``interval_level`` is the share of networks that the interval was calibrated to hold, ``interval_half_width`` its
    half width relative to the prediction, ``noise_floor`` the relative noise of the measurements it was fitted on.
    """

    kind: str
    space: str
    space_digest: str
    genes: tuple[Gene, ...]
    target: Target
    interval_level: float
    interval_half_width: float
    noise_floor: float
    fitted_on_networks: int
    table_hash: str
    tool: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    model: str = ""

    def to_json(self) -> str:
        """The card as JSON, with the format's version and the unit."""
        return json.dumps({"format": _FORMAT, "unit": "ms", **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> PredictorCard:
        """Inverse of :meth:`to_json`; raises ``ValueError``, ``KeyError`` or ``TypeError`` on other text."""
        fields: dict[str, Any] = json.loads(text)
        if fields.pop("format") != _FORMAT or fields.pop("unit") != "ms":
            raise ValueError("written by a version that this one does not know")
        fields["genes"] = tuple(Gene(gene["name"], tuple(gene["choices"])) for gene in fields["genes"])
        fields["target"] = Target.from_json(json.dumps(fields["target"]))
        for name in ("interval_level", "interval_half_width", "noise_floor"):
            fields[name] = float(fields[name])
        if not 0 < fields["interval_level"] <= 1 or fields["interval_half_width"] < 0:
            raise ValueError("its interval has a level or a half width that cannot be")
        fields["parameters"] = {str(name): float(value) for name, value in fields["parameters"].items()}
        return cls(**fields)


def open_model(model: bytes, source: str) -> onnxruntime.InferenceSession:
    """A session on one thread for a predictor's ONNX.

    Raises :class:`PredictorError` if it is none, or holds what no runtime should be given (:mod:`layerclock.predictors.onnx_inspection`).
    """
    try:
        refuse_unsafe(model)
    except ValueError as error:
        raise PredictorError(f"{source} is no readable ONNX file, or an unsafe one: {error}", "copy it again, or fit it again") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        # Falling back to what was asked for in the first place only prints, on standard output.
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    except Exception as error:  # the binding raises classes of its own that share no public base
        first = str(error).strip().splitlines()[0]
        raise PredictorError(f"{source} is no readable ONNX file: {first}", "it may be truncated: copy it again") from error


def names_of(values: Sequence[onnxruntime.NodeArg], source: str) -> list[str]:
    """The names of a model's inputs or outputs. Raises :class:`PredictorError` if one is no text."""
    try:
        return [value.name for value in values]
    except UnicodeDecodeError as error:
        raise PredictorError(f"{source} has damaged names: {error.reason}", "copy it again, or fit it again") from error


def read_card(session: onnxruntime.InferenceSession, source: str) -> str | None:
    """The card's text in a predictor's metadata, None if it has none. Raises :class:`PredictorError` if it is no text."""
    try:
        found: str | None = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    except UnicodeDecodeError as error:
        raise PredictorError(f"{source} has damaged metadata: {error.reason}", "copy it again, or fit it again") from error
    return found


@runtime_checkable
class Trial(Protocol):
    """The part of an Optuna trial that is asked."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        ...


class OnnxPredictor:
    """A fitted predictor: ``predict(genomes)`` in one vectorised call on one thread.

    It plugs in as it stands: as a plain function, as a regressor in the manner of scikit-learn, as an objective of pymoo and of Optuna.

    Raises :class:`PredictorError` if ``model`` is no predictor of this project.
    """

    def __init__(self, model: bytes, source: str = "the model") -> None:
        self.model = model
        self._session = open_model(model, source)
        written = read_card(self._session, source)
        outputs = names_of(self._session.get_outputs(), source)
        if outputs == ["kernel_us"]:
            raise PredictorError(f"{source} predicts any network from its kernels, not genomes", "use load_kernelwise()")
        if written is None or outputs != _OUTPUTS:
            raise PredictorError(f"{source} is an ONNX model, but no latency predictor", "layerclock fit makes one from a table")
        try:
            self.card = PredictorCard.from_json(written)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise PredictorError(f"{source} has damaged metadata: {error}", "fit the predictor again") from error
        inputs = self._session.get_inputs()
        if names_of(inputs, source) != ["genomes"] or inputs[0].shape[1:] != [len(self.card.genes)]:
            raise PredictorError(f"{source} has damaged metadata: its genes are not those of its input", "fit the predictor again")
        self._cardinality = np.array([len(gene.choices) for gene in self.card.genes], dtype=np.int64)
        self._names = [gene.name for gene in self.card.genes]

    @property
    def target(self) -> Target:
        """What the predicted latencies are valid for."""
        return self.card.target

    @property
    def digest(self) -> str:
        """What tells this fit from any other: the beginning of its file's SHA-256."""
        return hashlib.sha256(self.model).hexdigest()[:12]

    def predict(self, genomes: npt.ArrayLike) -> Predictions:
        """Latency of ``genomes``, int64[N, G]; a data frame with a column for each gene may have them in any order.

        Raises :class:`~layerclock.errors.GenomeError` if a genome does not belong to the predictor's space, :class:`PredictorError` if
        the file is damaged where only computing shows it.
        """
        checked = check_genomes(self._in_order(genomes), self._cardinality, self._names)
        if not len(checked):
            nothing = np.zeros(0)
            return Predictions(nothing, nothing, nothing, nothing)
        blocks = [checked[start : start + _BLOCK] for start in range(0, len(checked), _BLOCK)]
        try:
            answers = [self._session.run(_OUTPUTS, {"genomes": block}) for block in blocks]
        except Exception as error:  # the binding raises classes of its own that share no public base
            first = str(error).strip().splitlines()[0]
            raise PredictorError(f"the predictor cannot be computed: {first}", "its file is damaged: fit it again") from error
        for block, outputs in zip(blocks, answers, strict=True):
            if any(np.shape(values) != (len(block),) for values in outputs) or not np.isfinite(outputs[0]).all():
                raise PredictorError(f"the predictor does not answer {len(block)} genomes with as many numbers", "fit it again")
        return Predictions(*(np.concatenate(values, dtype=np.float64) for values in zip(*answers, strict=True)))

    def _in_order(self, genomes: Any) -> npt.ArrayLike:
        """What was given, or of a data frame whose columns are called as the genes are, these in the predictor's order."""
        columns = getattr(genomes, "columns", None)
        ordered: npt.ArrayLike = genomes[self._names] if columns is not None and set(columns) == set(self._names) else genomes
        return ordered

    def __call__(self, given: Trial | npt.ArrayLike) -> Any:
        """Latency in ms, for whoever wants a plain function: float for one genome int64[G], float64[N] for int64[N, G].

        An Optuna trial is asked for a choice of every gene, by its name: the predictor is an objective as it stands. So it is one
        of pymoo's ``FunctionalProblem``, whose whole numbers may come as floats. Raises
        :class:`~layerclock.errors.GenomeError` as :meth:`predict` does.
        """
        if isinstance(given, Trial):
            chosen = [gene.choices.index(given.suggest_categorical(gene.name, gene.choices)) for gene in self.card.genes]
            return float(self.predict([chosen]).latency_ms[0])
        genomes = np.asarray(self._in_order(given))
        if genomes.dtype.kind == "f" and (genomes == np.rint(genomes)).all():
            genomes = genomes.astype(np.int64)
        latency = self.predict(np.atleast_2d(genomes)).latency_ms
        return float(latency[0]) if genomes.ndim == 1 else latency

    def score(self, genomes: npt.ArrayLike, latency_ms: npt.ArrayLike) -> float:
        """Coefficient of determination on measured latencies float64[N] or float64[N, 1], as scikit-learn's regressors score.

        NaN where they do not vary. Raises :class:`~layerclock.errors.ArgumentError` if there are not as many as genomes.
        """
        predicted = self.predict(genomes).latency_ms
        measured = np.asarray(latency_ms, dtype=np.float64)
        if measured.shape not in ((len(predicted),), (len(predicted), 1)):
            raise ArgumentError(f"latencies of shape {measured.shape} for {len(predicted)} genomes", "one latency for each genome")
        residuals, deviations = measured.ravel() - predicted, measured - measured.mean()
        return float(1 - (residuals**2).sum() / (deviations**2).sum()) if deviations.any() else float("nan")

    def __reduce__(self) -> tuple[type[OnnxPredictor], tuple[bytes]]:
        """Copied and sent to other processes as the bytes of its file."""
        return OnnxPredictor, (self.model,)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn's scorers ask before they take it as a regressor. Needs scikit-learn, which asks."""
        from layerclock.predictors.regressors import fitted_regressor_tags

        return fitted_regressor_tags()

    def encode(self, config: Mapping[str, Choice]) -> GenomeArray:
        """Genome int64[G] of a mapping from gene name to chosen value; absent genes take their first choice."""
        values = dict.fromkeys(self._names, 0)
        for name, value in config.items():
            gene = next((gene for gene in self.card.genes if gene.name == name), None)
            if gene is None or value not in gene.choices:
                raise GenomeError(
                    f"gene {name!r} cannot be {value!r}",
                    f"choices: {gene.choices}" if gene else f"genes: {', '.join(self._names[:6])}, ...",
                )
            values[name] = gene.choices.index(value)
        return np.array(list(values.values()), dtype=np.int64)

    def save(self, path: Path | str) -> None:
        """Write the file, whole or not at all. Raises :class:`~layerclock.errors.OutputError`."""
        from layerclock.atomic import write_atomically

        write_atomically(Path(path), lambda draft: draft.write_bytes(self.model))


def read_model(path: Path | str) -> bytes:
    """The bytes of a predictor file. Raises :class:`PredictorError` if there are none."""
    try:
        file = Path(path)
        if file.is_file() and file.stat().st_size > _MOST_BYTES:
            raise PredictorError(f"{path} has more than {_MOST_BYTES >> 30} GB: that is no predictor", "layerclock fit writes one")
        return file.read_bytes()
    except OSError as error:
        raise PredictorError(f"cannot read the predictor {path}: {error.strerror or error}", "layerclock fit writes one") from error


def load(path: Path | str) -> OnnxPredictor:
    """Load a predictor file. Raises :class:`PredictorError` if it is absent, truncated or something else."""
    return OnnxPredictor(read_model(path), str(path))


def is_kernelwise(path: Path | str) -> bool:
    """Whether a predictor file is asked about kernels rather than genomes. Raises :class:`PredictorError` as :func:`load`."""
    session = open_model(read_model(path), str(path))
    return names_of(session.get_inputs(), str(path)) == ["features", "family"]
