"""Scores of speech recognition, thin over jiwer."""

from collections.abc import Sequence


def score_texts(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """Word and character error rates, pooled over a corpus: all errors over all words.

    Texts are compared as they are given, but for spaces at either end and in a row: normalize case
    and punctuation before, both sides alike (`Alphabet.normalize`). Characters count with the
    spaces between words. A rate may exceed 1.

    Args:
        references: What was said; at least one holds a word.
        hypotheses: What was recognized, in the same order.

    Returns:
        `metric/wer` and `metric/cer`, and of words `substitutions`, `deletions`, `insertions` and
        `words`, the number in the references.

    Raises:
        ValueError: The lengths differ, or there is no word in the references.

    Examples:
        >>> scores = score_texts(["the cat sat"], ["the cat sat down"])
        >>> round(scores["metric/wer"], 3), int(scores["insertions"])
        (0.333, 1)

    Source: the definition that jiwer implements, Levenshtein distance over reference length.
    """
    # Only scoring pays for the import.
    import jiwer

    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    references = [" ".join(text.split()) for text in references]
    hypotheses = [" ".join(text.split()) for text in hypotheses]
    # jiwer refuses an empty reference; what is recognized there is all insertions.
    empty = [h for r, h in zip(references, hypotheses, strict=True) if not r]
    pairs = [(r, h) for r, h in zip(references, hypotheses, strict=True) if r]
    if not pairs:
        raise ValueError("no words in the references")
    spoken, heard = map(list, zip(*pairs, strict=True))
    words, characters = jiwer.process_words(spoken, heard), jiwer.process_characters(spoken, heard)
    extra_words = sum(len(text.split()) for text in empty)
    extra_characters = sum(len(text) for text in empty)
    return {
        "metric/wer": _rate(words, extra_words),
        "metric/cer": _rate(characters, extra_characters),
        "substitutions": float(words.substitutions),
        "deletions": float(words.deletions),
        "insertions": float(words.insertions + extra_words),
        "words": float(_length(words)),
    }


def _length(counts) -> int:
    return counts.hits + counts.substitutions + counts.deletions


def _rate(counts, extra: int) -> float:
    errors = counts.substitutions + counts.deletions + counts.insertions + extra
    return errors / _length(counts)
