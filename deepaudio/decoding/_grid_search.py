"""Choice of the weights of a beam search by the errors that they make."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from deepaudio.decoding._beam_search import BeamSearch


@dataclasses.dataclass(frozen=True)
class WeightChoice:
    """What `choose_weights` found.

    Attributes:
        alpha: Best weight of the language model.
        beta: Best bonus for each word.
        error_rate: With these.
        table: For all pairs tried, in order: `alpha`, `beta`, `error_rate`.
    """

    alpha: float
    beta: float
    error_rate: float
    table: tuple[dict[str, float], ...]


def choose_weights(
    search: BeamSearch,
    recordings: Iterable[tuple[Any, str]],
    error_rate: Callable[[list[str], list[str]], float],
    *,
    alphas: Sequence[float],
    betas: Sequence[float],
) -> WeightChoice:
    """Tries pairs of weights on recordings whose text is known (arXiv 1412.5567, section 2.2).

    Args:
        search: With the language model and whatever else is to stay.
        recordings: (frames, symbols) log probabilities of each, and its text.
        error_rate: Takes all texts and, in the same order, all transcripts; returns their pooled
            rate of word or character errors.
        alphas: Weights of the language model to try.
        betas: Bonuses for each word to try.

    Returns:
        The pair with the lowest error rate, of equal ones the first, and a table of all.

    Raises:
        ValueError: There is no recording or no weight to try, or one that `BeamSearch` refuses.
    """
    recordings = list(recordings)
    if not recordings:
        raise ValueError("there is no recording to choose weights by")
    if not alphas or not betas:
        raise ValueError(f"{alphas=} and {betas=} must not be empty")
    references = [text for _, text in recordings]
    table = []
    for alpha in alphas:
        for beta in betas:
            weighted = search.with_weights(alpha=alpha, beta=beta)
            # Times are not looked at, so that a frame may have any length.
            texts = [weighted.decode(x, frame_seconds=1.0)[0].text for x, _ in recordings]
            table.append(
                {"alpha": alpha, "beta": beta, "error_rate": error_rate(references, texts)}
            )
    best = min(table, key=lambda row: row["error_rate"])
    return WeightChoice(**best, table=tuple(table))
