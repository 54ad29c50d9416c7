"""Latency of a whole generated sequence, from the latencies of its two parts.

An encoder-decoder network reads its source once and then runs its decoder once for each generated token, so that
``latency = encoder + length * decoder step`` (Wang et al., HAT, ACL 2020, measure the two in the same way). Each part has a
predictor of its own; both take the same genomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError
from layerclock.interfaces import Predictions
from layerclock.target import require_same_target

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.interfaces import Predictor
    from layerclock.target import Target

__all__ = ["GenerationLatency", "generation_latency"]


@dataclass(frozen=True, slots=True)
class GenerationLatency:
    """A predictor of the time that ``length`` tokens take: ``encoder`` once and ``decoder`` ``length`` times.

    It fits :func:`layerclock.search.objective.latency_objective`. Raises :class:`ArgumentError` unless ``length >= 1``.
    """

    encoder: Predictor
    decoder: Predictor
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ArgumentError(f"length={self.length} generates nothing", "give at least 1 token")

    @property
    def target(self) -> Target | None:
        """What both predictors are valid for; None where they do not tell."""
        return getattr(self.encoder, "target", None)

    @property
    def digest(self) -> str:
        """What tells these two fits from any others, as far as the predictors tell."""
        return "+".join(filter(None, (getattr(part, "digest", "") for part in (self.encoder, self.decoder))))

    def predict(self, genomes: npt.ArrayLike) -> Predictions:
        """Latency of ``genomes`` int64[N, G] in ms.

        The bounds are the sums of the parts' bounds: at least as wide as needed, for the errors of the parts may well agree.
        Coverage is the share of the summed latency that rests on measured layers. Raises
        :class:`~layerclock.errors.GenomeError` if a genome does not belong to the predictors' spaces.
        """
        once, step = self.encoder.predict(genomes), self.decoder.predict(genomes)
        latency = once.latency_ms + self.length * step.latency_ms
        measured = once.coverage * once.latency_ms + self.length * step.coverage * step.latency_ms
        return Predictions(
            latency,
            once.lower_ms + self.length * step.lower_ms,
            once.upper_ms + self.length * step.upper_ms,
            np.divide(measured, latency, out=np.minimum(once.coverage, step.coverage), where=latency > 0),
        )


def generation_latency(encoder_predictor: Predictor, decoder_predictor: Predictor, length: int) -> GenerationLatency:
    """The predictor of ``encoder + length * decoder step``, in ms.

    Raises :class:`ArgumentError` unless ``length >= 1``, and, where the predictors carry a card (as the shipped ones do), if
    they take different genomes; then also :class:`~layerclock.errors.TargetMismatchError` if they are of different targets.
    """
    cards = [card for card in (getattr(predictor, "card", None) for predictor in (encoder_predictor, decoder_predictor)) if card]
    if len(cards) == 2:
        if cards[0].genes != cards[1].genes:
            raise ArgumentError(
                f"the predictors of {cards[0].space!r} and {cards[1].space!r} take different genomes",
                "fit them for the two parts of one space",
            )
        require_same_target(cards[0].target, [cards[1].target], "the latency of a generated sequence")
    return GenerationLatency(encoder_predictor, decoder_predictor, length)
