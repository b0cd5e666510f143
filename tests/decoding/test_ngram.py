"""N-gram models: queries, files, and KenLM's view of the same."""

import gzip
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.decoding import (
    KenlmModel,
    NgramModel,
    load_language_model,
    read_arpa,
    train_kneser_ney,
    write_arpa,
)

ARPA = """
\\data\\
ngram 1=5
ngram 2=3
ngram 3=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.5
-0.7\t</s>
-0.4\ta\t-0.25
-0.6\tb\t-0.125

\\2-grams:
-0.3\t<s> a\t-0.0625
-0.2\ta b
-0.1\tb </s>

\\3-grams:
-0.05\t<s> a b
-0.15\tb a b

\\end\\
"""


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "model.arpa"
    path.write_text(ARPA)
    return path


def random_model(seed, order=3, **options):
    rng = np.random.default_rng(seed)
    sentences = [
        rng.choice(list("abcdefgh"), rng.integers(0, 7), p=np.arange(1, 9) / 36).tolist()
        for _ in range(60)
    ]
    return train_kneser_ney(sentences, order=order, **options)


def in_capitals(text):
    return re.sub(r"\b[ab]\b", lambda word: word[0].upper(), text)


def log10s(model, *words):
    """Log10 probabilities of the words of a sentence and of its end."""
    state, found = model.start(), []
    for word in words:
        log_prob, state = model.score(state, word)
        found.append(log_prob)
    return np.array([*found, model.finish(state)]) / np.log(10)


def test_backs_off_as_the_file_says(arpa):
    model = read_arpa(arpa)
    assert (model.order, model.words) == (3, ("a", "b"))
    # The trigram; b </s> by way of a b's backoff of one.
    assert log10s(model, "a", "b") == pytest.approx([-0.3, -0.05, -0.1])
    # <s> b is unknown, then b's backoff and a, then b a's, which is no bigram but begins one.
    assert log10s(model, "b", "a", "b") == pytest.approx([-1.1, -0.525, -0.15, -0.1])
    # <s> a has a backoff, a too; an unknown word has none and what came before it is forgotten.
    assert log10s(model, "a", "x", "b") == pytest.approx([-0.3, -1.3125, -0.6, -0.1])
    assert log10s(model) == pytest.approx([-1.2])


def test_special_words_are_no_words(arpa):
    model = read_arpa(arpa)
    assert "a" in model and "x" not in model
    for special in ("<s>", "</s>", "<unk>"):
        assert special not in model
        assert model.score(model.start(), special) == model.score(model.start(), "x")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), order=st.integers(1, 4))
def test_a_state_is_the_last_words_that_count(seed, order):
    model, rng = random_model(seed, order), np.random.default_rng(seed)

    def state_after(words):
        state = model.start()
        for word in words:
            _, state = model.score(state, word)
        return state

    for _ in range(10):
        words = rng.choice(list("abcx"), 5).tolist()
        states = [state_after(words), state_after(["x", "b", *words[len(words) - order + 1 :]])]
        assert states[0] == states[1] and len(states[0]) < order


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_arpa_round_trip(tmp_path, name):
    model = random_model(0, prune=(0, 0, 1))
    write_arpa(model, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    text = (gzip.decompress(data) if name.endswith("gz") else data).decode()
    assert text.startswith("\\data\\\nngram 1=11\n") and text.endswith("\n\\end\\\n")
    found = read_arpa(tmp_path / name)
    assert found.vocabulary == model.vocabulary
    for read, written in zip(found.grams, model.grams, strict=True):
        assert np.array_equal(read.keys, written.keys)
        finite = np.isfinite(written.log_probs)
        assert read.log_probs[finite] == pytest.approx(written.log_probs[finite], rel=1e-6)
        assert read.backoffs == pytest.approx(written.backoffs, abs=1e-6)


def test_contexts_without_a_probability_survive_files(arpa, tmp_path):
    model = read_arpa(arpa)
    write_arpa(model, tmp_path / "again.arpa")
    model.save(tmp_path / "again.npz")
    for again in (read_arpa(tmp_path / "again.arpa"), NgramModel.load(tmp_path / "again.npz")):
        for words in (("b", "a", "b"), ("a", "b"), ("a", "x", "b")):
            assert log10s(again, *words) == pytest.approx(log10s(model, *words), abs=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_compact_file_round_trip(tmp_path, half):
    model = random_model(1, order=4)
    model.save(tmp_path / "model.npz", half_precision=half)
    found = load_language_model(tmp_path / "model.npz")
    assert found.vocabulary == model.vocabulary
    rng = np.random.default_rng(0)
    for _ in range(50):
        words = rng.choice(list("abcdefghx"), 5).tolist()
        tolerance = {"abs": 0.01} if half else {"rel": 1e-6}
        assert log10s(found, *words) == pytest.approx(log10s(model, *words), **tolerance)


def test_capitals_can_be_read_as_small_letters(tmp_path):
    (tmp_path / "model.arpa").write_text(in_capitals(ARPA))
    model = read_arpa(tmp_path / "model.arpa", lower_case=True)
    assert log10s(model, "a", "b") == pytest.approx([-0.3, -0.05, -0.1])
    assert "A" not in model


def test_without_an_unknown_word_its_probability_is_kenlms(tmp_path):
    text = ARPA.replace("-1.0\t<unk>\n", "").replace("ngram 1=5", "ngram 1=4")
    (tmp_path / "model.arpa").write_text(text)
    assert log10s(read_arpa(tmp_path / "model.arpa"), "x")[0] == pytest.approx(-100.5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", r"line 23: \\data\\ expected, not ''"),
        ("ngram 2=3", "ngram 3=3", "the number of 2-grams expected, not 'ngram 3=3'"),
        ("ngram 1=5\nngram 2=3\nngram 3=2\n", "", "ngram 1=… expected"),
        ("ngram 3=2", "ngram 3=7", "2 3-grams instead of 7"),
        ("\\2-grams:", "\\4-grams:", r"\\2-grams: expected, not .*4-grams:'"),
        ("-0.3\t<s> a", "-0.3\t<s> z", "z is not among the 1-grams"),
        ("-0.3\t<s> a", "x\t<s> a", "line 15: a logarithm expected"),
        ("-0.3\t<s> a", "0.3\t<s> a", "the logarithm of a probability expected"),
        ("-0.3\t<s> a", "nan\t<s> a", "the logarithm of a probability expected"),
        ("-0.2\ta b", "-0.2\ta", "a probability and 2 words expected, not '-0.2"),
        ("-0.6\tb", "-0.6\ta", "'a' stands twice among the 1-grams"),
        ("<s>", "<t>", "<s> is not among the 1-grams"),
        ("\\end\\", "", r"\\end\\ expected, not ''"),
    ],
)
def test_what_is_no_arpa_file_is_told(tmp_path, old, new, message):
    assert old in ARPA
    (tmp_path / "model.arpa").write_text(ARPA.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_arpa(tmp_path / "model.arpa")


def test_what_is_no_compact_file_is_told(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    model = random_model(0)
    model.save(tmp_path / "model.npz")
    arrays = dict(np.load(tmp_path / "model.npz"))
    np.savez(tmp_path / "newer.npz", **(arrays | {"format": np.array(2)}))
    np.savez(tmp_path / "short.npz", **(arrays | {"words_2": arrays["words_2"][:-1]}))
    for name in ("text.npz", "other.npz", "array.npy", "newer.npz", "short.npz"):
        with pytest.raises(ValueError, match=f"{name} holds no language model"):
            NgramModel.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="missing.npz"):
        load_language_model(tmp_path / "missing.npz")


def test_tables_that_do_not_fit_are_refused():
    model = random_model(0)
    with pytest.raises(ValueError, match="begins with"):
        NgramModel(model.vocabulary[1:], model.grams)
    with pytest.raises(ValueError, match="twice"):
        NgramModel([*model.vocabulary[:-1], "a"], model.grams)
    with pytest.raises(ValueError, match="1-grams are needed for all 12 words"):
        NgramModel([*model.vocabulary, "z"], model.grams)
    turned = model.grams[1]._replace(keys=model.grams[1].keys[::-1])
    with pytest.raises(ValueError, match="2-grams' keys do not increase"):
        NgramModel(model.vocabulary, [model.grams[0], turned])
    short = model.grams[1]._replace(backoffs=model.grams[1].backoffs[1:])
    with pytest.raises(ValueError, match="2-grams' arrays are not of one length"):
        NgramModel(model.vocabulary, [model.grams[0], short])


def test_much_is_forgotten_rather_than_memory_filled(monkeypatch):
    model = random_model(0)
    expected = log10s(model, *"abcdefgh")
    monkeypatch.setattr("deepaudio.decoding._ngram._MOST_REMEMBERED", 2)
    fresh = NgramModel(model.vocabulary, model.grams)
    for _ in range(2):
        assert log10s(fresh, *"abcdefgh") == pytest.approx(expected)
    assert len(fresh._remembered) <= 2


def test_without_kenlm_arpa_files_are_read_and_others_refused(arpa, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    assert isinstance(load_language_model(arpa), NgramModel)
    (tmp_path / "model.binary").write_bytes(b"mmap lm")
    with pytest.raises(ImportError, match="pip install kenlm"):
        load_language_model(tmp_path / "model.binary")


def test_equals_kenlm(tmp_path):
    pytest.importorskip("kenlm")
    rng = np.random.default_rng(0)
    for order, prune in ((2, ()), (3, (0, 0, 1)), (4, (0, 1))):
        ours = random_model(order, order, prune=prune)
        write_arpa(ours, tmp_path / "model.arpa")
        theirs = load_language_model(tmp_path / "model.arpa")
        assert isinstance(theirs, KenlmModel)
        assert theirs.words == ours.words
        assert theirs.unigrams() == pytest.approx(ours.unigrams(), abs=1e-5)
        for _ in range(100):
            words = rng.choice([*"abcdefgh", "x", "</s>", "<s>"], rng.integers(0, 8)).tolist()
            assert log10s(theirs, *words) == pytest.approx(log10s(ours, *words), abs=1e-5)
            assert [word in theirs for word in words] == [word in ours for word in words]


def test_kenlm_looks_capitals_up(tmp_path):
    pytest.importorskip("kenlm")
    # KenLM asks that b a be a bigram if b a b is a trigram.
    text = ARPA.replace("-0.15\tb a b\n", "").replace("ngram 3=2", "ngram 3=1")
    (tmp_path / "model.arpa").write_text(in_capitals(text))
    model = load_language_model(tmp_path / "model.arpa", upper_case=True)
    assert model.words == ("a", "b") and "a" in model and "x" not in model
    assert log10s(model, "a", "b") == pytest.approx([-0.3, -0.05, -0.1], abs=1e-6)


def test_what_kenlm_cannot_read_is_told(tmp_path):
    pytest.importorskip("kenlm")
    (tmp_path / "model.binary").write_text("no model")
    with pytest.raises(ValueError, match="model.binary holds no language model"):
        KenlmModel(tmp_path / "model.binary")
    with pytest.raises(FileNotFoundError, match="missing.binary"):
        load_language_model(tmp_path / "missing.binary")
