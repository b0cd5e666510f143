import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.evaluation import score_texts


def edit_distance(a, b):
    """Levenshtein's recursion, by rows."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), max_size=5).map(" ".join)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_rates_are_all_errors_over_all_words(pairs):
    references, hypotheses = zip(*pairs, strict=True)
    words = sum(len(text.split()) for text in references)
    if not words:
        with pytest.raises(ValueError, match="no words"):
            score_texts(references, hypotheses)
        return
    scores = score_texts(references, hypotheses)
    errors = sum(edit_distance(r.split(), h.split()) for r, h in pairs)
    characters = sum(edit_distance(r, h) for r, h in pairs)
    assert scores["metric/wer"] == pytest.approx(errors / words)
    assert scores["metric/cer"] == pytest.approx(characters / sum(map(len, references)))
    kinds = ("substitutions", "deletions", "insertions")
    assert sum(scores[name] for name in kinds) == errors
    assert scores["words"] == words


def test_jiwer_agrees_and_spaces_do_not_count():
    references, hypotheses = ["the cat  sat ", "on a mat"], ["the  cat", "on the mat today"]
    scores = score_texts(references, hypotheses)
    assert scores["metric/wer"] == jiwer.wer(
        ["the cat sat", "on a mat"], ["the cat", hypotheses[1]]
    )


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 references but 1"):
        score_texts(["a", "b"], ["a"])
