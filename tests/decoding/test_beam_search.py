"""Beam search, against the definition: every path of outputs, one by one."""

import dataclasses
import itertools
import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.data.alphabet import ENGLISH, Alphabet
from deepaudio.decoding import BeamSearch, align_words, ctc_greedy, train_kneser_ney

LETTERS = Alphabet((" ", "a", "b"))
PAIRS = Alphabet((" ", "a", "b", "ab"))
CHARACTERS = Alphabet(("a", "b", "c"), "")
SENTENCES = [["a", "ab"], ["ab", "ba", "ab"], ["ba"], ["a", "ab", "a"], ["b", "ab"]]
MODEL = train_kneser_ney(SENTENCES, order=3)
HOT = {"ab": 3.0, "a b": 2.0, "b": -1.5, "aa": 0.5, "bb": -0.5}
EXHAUSTIVE = {"beam_width": 10**6, "prune_mass": 1.0, "prune_most": 10**6}


def occurrences(text, phrase, separator):
    text, phrase = separator + text + separator, separator + phrase + separator
    return sum(text.startswith(phrase, place) for place in range(len(text)))


def worth(text, alphabet, model, alpha, beta, unknown_penalty, hot_words):
    """What a text is worth besides its sound."""
    words = text.split() if alphabet.word_separator else list(text)
    wanted = " ".join(phrase for phrase, weight in (hot_words or {}).items() if weight > 0)
    familiar = set(wanted.split() if alphabet.word_separator else wanted)
    total = beta * len(words)
    if model:
        state = model.start()
        for word in words:
            log_prob, state = model.score(state, word)
            unknown = word not in model and word not in familiar
            total += alpha * log_prob - unknown * unknown_penalty
        total += alpha * model.finish(state)
    for phrase, weight in (hot_words or {}).items():
        total += weight * occurrences(text, phrase, alphabet.word_separator)
    return total


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    alphabet=st.sampled_from([LETTERS, PAIRS, CHARACTERS]),
    frames=st.integers(0, 5),
    model=st.sampled_from([None, MODEL]),
    hot_words=st.sampled_from([None, HOT]),
    lookahead=st.booleans(),
)
def test_scores_are_those_of_all_paths(
    all_paths, random_log_probs, seed, alphabet, frames, model, hot_words, lookahead
):
    weights = {"alpha": 0.7, "beta": 0.9, "unknown_penalty": 2.0, "hot_words": hot_words}
    if not alphabet.word_separator and hot_words:
        weights["hot_words"] = hot_words = {"ab": 3.0, "b": -1.5, "cab": 1.0, "bb": 2.0}
    log_probs = random_log_probs(seed, frames, len(alphabet))
    sums = {}
    for text, log_prob, _ in all_paths(log_probs, alphabet):
        sums[text] = np.logaddexp(sums.get(text, -np.inf), log_prob)
    expected = {text: s + worth(text, alphabet, model, **weights) for text, s in sums.items()}
    search = BeamSearch(alphabet, model, lookahead=lookahead, **weights, **EXHAUSTIVE)
    found = search.decode(log_probs, frame_seconds=1.0, n_best=10**6)
    assert {x.text: x.score for x in found} == pytest.approx(expected, abs=1e-9)
    assert len(found) == len(expected)
    scores = [x.score for x in found]
    assert scores == sorted(scores, reverse=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), alphabet=st.sampled_from([LETTERS, CHARACTERS]))
def test_times_are_those_of_the_likeliest_path(all_paths, random_log_probs, seed, alphabet):
    log_probs = random_log_probs(seed, 5, len(alphabet))
    found = BeamSearch(alphabet, **EXHAUSTIVE).decode(log_probs, frame_seconds=1.0, n_best=30)
    likeliest = {}
    for text, log_prob, path in all_paths(log_probs, alphabet):
        likeliest[text] = max(likeliest.get(text, (-np.inf, None)), (log_prob, path))
    for transcript in found:
        # The path with certainty gives no choice to best path decoding.
        path = np.array(likeliest[transcript.text][1])
        certain = np.where(path[:, None] == np.arange(len(alphabet)), log_probs, -100.0)
        timed = ctc_greedy(certain, alphabet, frame_seconds=1.0)
        assert timed.text == transcript.text
        assert transcript.times == pytest.approx(timed.times)
        assert len(transcript.words) == len(timed.words)
        for word, expected in zip(transcript.words, timed.words, strict=True):
            assert dataclasses.astuple(word)[1:] == pytest.approx(dataclasses.astuple(expected)[1:])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(1, 20),
    mass=st.sampled_from([0.6, 0.99, 1.0]),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    alphabet=st.sampled_from([PAIRS, CHARACTERS]),
)
def test_pieces_equal_the_whole(random_log_probs, seed, width, mass, cuts, alphabet):
    log_probs = random_log_probs(seed, 40, len(alphabet), spread=3.0).astype(np.float32)
    search = BeamSearch(alphabet, MODEL, beam_width=width, prune_mass=mass, hot_words={"ab": 3.0})
    whole = search.decode(log_probs, frame_seconds=0.03, n_best=10, start=5.0)
    stream = search.stream(frame_seconds=0.03, start=5.0)
    for piece in np.split(log_probs, sorted(cuts)):
        stream.feed(piece)
        stream.best()
        stream.finish()
    assert stream.finish(10) == whole


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(2, 20))
def test_no_two_texts_are_the_same(random_log_probs, seed, width):
    """Although prefixes leave the beam and come back, when what grew of them is still there."""
    log_probs = random_log_probs(seed, 40, len(LETTERS), spread=3.0)
    found = BeamSearch(LETTERS, MODEL, beam_width=width).decode(
        log_probs, frame_seconds=1.0, n_best=width
    )
    assert len({x.text for x in found}) == len(found)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), alphabet=st.sampled_from([LETTERS, PAIRS, CHARACTERS]))
def test_forgetting_prefixes_changes_nothing(random_log_probs, seed, alphabet):
    log_probs = random_log_probs(seed, 60, len(alphabet))
    search = BeamSearch(alphabet, MODEL, beam_width=8, hot_words={"ab": 3.0})
    expected = search.decode(log_probs, frame_seconds=1.0, n_best=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepaudio.decoding._beam_stream._FEW_PREFIXES", 0)
        stream = search.stream(frame_seconds=1.0)
        stream.feed(log_probs)
        assert len(stream._prefixes) < 400
        assert stream.finish(8) == expected


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(1, 30),
    most=st.integers(1, 4),
    lookahead=st.booleans(),
)
def test_a_narrow_beam_finds_nothing_that_is_not_there(
    all_paths, random_log_probs, seed, width, most, lookahead
):
    """Its scores are below the true ones, by the paths that it dropped."""
    log_probs = random_log_probs(seed, 5, len(LETTERS))
    options = {"alpha": 0.7, "beta": 0.9, "unknown_penalty": 2.0, "hot_words": HOT}
    search = BeamSearch(
        LETTERS, MODEL, beam_width=width, prune_most=most, lookahead=lookahead, **options
    )
    exhaustive = BeamSearch(LETTERS, MODEL, **options, **EXHAUSTIVE)
    true = exhaustive.decode(log_probs, frame_seconds=1.0, n_best=10**6)
    true = {x.text: x.score for x in true}
    found = search.decode(log_probs, frame_seconds=1.0, n_best=10**6)
    assert len({x.text for x in found}) == len(found) <= width
    assert all(x.score <= true[x.text] + 1e-9 for x in found)


def test_pruning_keeps_the_symbols_with_most_of_the_probability():
    rows = np.log(np.array([[0.3, 0.1, 0.35, 0.25]]))
    texts = {}
    for mass, most in ((0.3, 9), (0.6, 9), (0.64, 9), (0.9, 9), (1.0, 9), (1.0, 2), (1.0, 3)):
        search = BeamSearch(LETTERS, prune_mass=mass, prune_most=most)
        found = search.decode(rows, frame_seconds=1.0, n_best=9)
        texts[mass, most] = {x.text for x in found}
    # A separator at the begin writes nothing.
    assert texts == {
        (0.3, 9): {"", "a"},
        (0.6, 9): {"", "a"},
        (0.64, 9): {"", "a"},
        (0.9, 9): {"", "a", "b"},
        (1.0, 9): {"", "a", "b"},
        (1.0, 2): {"", "a"},
        (1.0, 3): {"", "a", "b"},
    }


def test_frames_of_blanks_are_exact(all_paths, random_log_probs):
    """Blanks and repeats count in full where blanks leave no probability to extend prefixes."""
    log_probs = random_log_probs(3, 5, len(LETTERS), spread=0.5)
    log_probs[2] = np.log([0.9901, 0.0033, 0.0033, 0.0033])

    def prefix(path):
        text = "".join(LETTERS.units[unit - 1] for unit, _ in itertools.groupby(path) if unit)
        return re.sub(" +", " ", text).lstrip()

    sums = {}
    for text, log_prob, path in all_paths(log_probs, LETTERS):
        if prefix(path[:3]) == prefix(path[:2]):
            sums[text] = np.logaddexp(sums.get(text, -np.inf), log_prob)
    search = BeamSearch(LETTERS, beta=0.0, beam_width=10**6)
    found = search.decode(log_probs, frame_seconds=1.0, n_best=10**6)
    assert {x.text: x.score for x in found} == pytest.approx(sums)


def spelled(text, doubtful=(), alphabet=ENGLISH, blanks=1):
    """Posteriors that spell a text; at some places another letter is about as likely."""
    rows = []
    for place, char in enumerate(text):
        row = np.full(len(alphabet), 1e-4)
        row[alphabet.units.index(char) + 1] = 0.9
        for at, other in doubtful:
            if at == place:
                row[alphabet.units.index(char) + 1] = 0.4
                row[alphabet.units.index(other) + 1] = 0.5
        rest = np.full(len(alphabet), 1e-5)
        rest[0] = 1.0
        rows += [row] + [rest] * blanks
    rows = np.array(rows).reshape(-1, len(alphabet))
    return np.log(rows / rows.sum(axis=1, keepdims=True))


def best_text(search, log_probs):
    return search.decode(log_probs, frame_seconds=1.0)[0].text


def test_the_language_model_decides_what_sounds_alike():
    model = train_kneser_ney(["the cat sat".split(), "a mat".split()] * 5, order=2)
    log_probs = spelled("the cat sat", [(4, "k"), (8, "z")])
    assert best_text(BeamSearch(ENGLISH), log_probs) == "the kat zat"
    assert best_text(BeamSearch(ENGLISH, model), log_probs) == "the cat sat"
    weightless = BeamSearch(ENGLISH, model, alpha=0.0, unknown_penalty=0.0)
    assert best_text(weightless, log_probs) == "the kat zat"


def test_unknown_words_cost_their_penalty():
    model = train_kneser_ney(["the cat sat".split()] * 5, order=2)
    log_probs = spelled("the kat", [(4, "c")])
    log_probs[8, [3 + 2, 11 + 2]] = np.log([0.001, 0.9])
    texts = [
        best_text(BeamSearch(ENGLISH, model, unknown_penalty=penalty), log_probs)
        for penalty in (0.0, 20.0)
    ]
    assert texts == ["the kat", "the cat"]


def test_hot_words_are_heard():
    log_probs = spelled("call ann smith", [(5, "e"), (10, "n")])
    assert best_text(BeamSearch(ENGLISH), log_probs) == "call enn snith"
    for hot_words, text in (
        ({"ann": 2.0}, "call ann snith"),
        ({"ann smith": 2.0}, "call ann smith"),
        ({"smith": 2.0}, "call enn smith"),
        # A part of a word is no word.
        ({"an": 2.0, "mith": 2.0}, "call enn snith"),
    ):
        assert best_text(BeamSearch(ENGLISH, hot_words=hot_words), log_probs) == text


def test_hot_words_may_be_unknown_to_the_language_model():
    model = train_kneser_ney(["the cat sat".split()] * 5, order=2)
    log_probs = spelled("the kat sat", [(4, "c")])
    hot_words = {"kat": 8.0}
    found = BeamSearch(ENGLISH, model).decode(log_probs, frame_seconds=1.0)[0]
    assert found.text == "the cat sat"
    for width in (1, 100):
        search = BeamSearch(ENGLISH, model, hot_words=hot_words, beam_width=width)
        assert best_text(search, log_probs) == "the kat sat"


def test_a_narrow_beam_waits_for_hot_words_and_known_words():
    """Each letter but for the last is less likely than another, which a beam of one must bear."""
    log_probs = spelled("deep", [(0, "t"), (1, "i")])
    assert best_text(BeamSearch(ENGLISH, beam_width=1), log_probs) == "tiep"
    hot = {"deep": 4.0}
    assert best_text(BeamSearch(ENGLISH, beam_width=1, hot_words=hot), log_probs) == "deep"
    model = train_kneser_ney([["deep", "sleep"]], order=1)
    found = [
        best_text(BeamSearch(ENGLISH, model, beam_width=1, lookahead=lookahead), log_probs)
        for lookahead in (False, True)
    ]
    assert found == ["tiep", "deep"]


def test_partial_transcripts_follow_the_sound():
    model = train_kneser_ney(["the cat sat".split()] * 5, order=2)
    log_probs = spelled("the cat sat", blanks=2)
    stream = BeamSearch(ENGLISH, model).stream(frame_seconds=0.1)
    assert stream.best().text == "" and stream.best().words == ()
    texts = []
    for frame in log_probs:
        stream.feed(frame[None])
        texts.append(stream.best().text)
    assert texts[::3] == ["the cat sat"[: n + 1].rstrip() for n in range(11)]
    assert stream.best().words == stream.finish()[0].words


def test_a_partial_score_counts_what_an_unfinished_word_promises():
    model = train_kneser_ney(["the cat sat".split(), "the cow".split()] * 5, order=2)
    certain = np.where(spelled("the cx", blanks=0) > -1, 0.0, -np.inf)
    stream = BeamSearch(ENGLISH, model, alpha=0.5, beta=2.0).stream(frame_seconds=1.0)
    unigrams = dict(zip(model.words, model.unigrams().tolist(), strict=True))
    begin = model.start()
    the, after = model.score(begin, "the")
    unknown, _ = model.score(begin, "<unk>")
    whole = 0.5 * the + 2.0
    scores = []
    for frame in certain:
        stream.feed(frame[None])
        scores.append(stream.best().score)
    assert scores[2] == pytest.approx(0.5 * unigrams["the"] + 2.0)
    assert scores[3] == pytest.approx(whole)
    assert scores[4] == pytest.approx(whole + 0.5 * max(unigrams["cat"], unigrams["cow"]) + 2.0)
    assert scores[5] == pytest.approx(whole + 0.5 * unknown + 2.0 - 10.0)
    log_prob, state = model.score(after, "cx")
    expected = whole + 0.5 * (log_prob + model.finish(state)) + 2.0 - 10.0
    assert stream.finish()[0].score == pytest.approx(expected)


def test_words_have_times_and_confidences():
    log_probs = spelled("the cat", [(4, "k")], blanks=3)
    model = train_kneser_ney([["the", "cat"]] * 5, order=2)
    (found,) = BeamSearch(ENGLISH, model).decode(log_probs, frame_seconds=0.1, start=1.0)
    aligned = align_words(log_probs, "the cat", ENGLISH, frame_seconds=0.1, start=1.0)
    assert found.text == "the cat" and found.words == aligned.words
    sure, unsure = found.words
    assert sure.confidence > 0.85 > 0.8 > unsure.confidence > 0.6
    # A spike every 4 frames: words reach 2 frames beyond theirs, but not out of the recording.
    edges = [sure.start, sure.end, unsure.start, unsure.end]
    assert edges == pytest.approx([1.0, 2.05, 2.45, 3.65])


def test_nothing_was_said():
    model = train_kneser_ney(["the cat sat".split()] * 5, order=2)
    (found,) = BeamSearch(ENGLISH, model, alpha=2.0).decode(
        np.zeros((0, 29)), frame_seconds=1.0, n_best=5
    )
    assert (found.text, found.words, found.times) == ("", (), ())
    assert found.score == pytest.approx(2.0 * model.finish(model.start()))


def test_takes_jax_half_precision_and_certainty():
    log_probs = spelled("a cat")
    certain = np.where(log_probs > -1, 0.0, -np.inf)
    expected = BeamSearch(ENGLISH).decode(certain, frame_seconds=1.0, n_best=3)
    assert [x.text for x in expected] == ["a cat"]
    half = jnp.asarray(certain, jnp.float16)
    assert BeamSearch(ENGLISH).decode(half, frame_seconds=1.0, n_best=3) == expected


def test_other_weights_are_as_if_given_at_first(random_log_probs):
    log_probs = random_log_probs(0, 8, len(LETTERS))
    other = BeamSearch(LETTERS, MODEL).with_weights(alpha=0.3, beta=-1.0)
    given = BeamSearch(LETTERS, MODEL, alpha=0.3, beta=-1.0)
    assert other.decode(log_probs, frame_seconds=1.0) == given.decode(log_probs, frame_seconds=1.0)
    with pytest.raises(ValueError, match="alpha=-1"):
        other.with_weights(alpha=-1, beta=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, "alpha=-0.1 must not be negative"),
        ({"beta": float("nan")}, "beta=nan must be finite"),
        ({"beam_width": 0}, "beam_width=0 must be at least 1"),
        ({"prune_most": 0}, "prune_most=0 must be at least 1"),
        ({"prune_mass": 0.0}, "prune_mass=0.0 must be above 0"),
        ({"prune_mass": 1.1}, "prune_mass=1.1 must be above 0"),
        ({"unknown_penalty": -1.0}, "unknown_penalty=-1.0 must not be negative"),
        ({"hot_words": {"a": float("inf")}}, "weight inf of 'a' is not finite"),
        ({"hot_words": {"xyz": 1.0}}, "'xyz' cannot be spelled"),
        ({"hot_words": {" ": 1.0}}, "' ' cannot be spelled"),
        ({"alphabet": Alphabet(("a", "ab"), "")}, "without a word separator 'ab' cannot"),
        ({"alphabet": Alphabet(("a", "b"))}, "' ' must be a unit"),
    ],
)
def test_wrong_settings_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        BeamSearch(**{"alphabet": LETTERS, **options})


def test_wrong_input_is_told(random_log_probs):
    search, log_probs = BeamSearch(LETTERS), random_log_probs(0, 3, 4)
    for wrong, message in (
        (log_probs[:, 1:], r"log_probs must be \(frames, 4\), not \(3, 3\)"),
        (np.where(log_probs > -1, np.nan, log_probs), "=nan is no log probability"),
        (-log_probs, "is no log probability"),
        (np.full((2, 4), -np.inf), "is -inf for every symbol"),
    ):
        with pytest.raises(ValueError, match=message):
            search.decode(wrong, frame_seconds=1.0)
    with pytest.raises(ValueError, match="n_best=0"):
        search.decode(log_probs, frame_seconds=1.0, n_best=0)
    with pytest.raises(ValueError, match="frame_seconds=-1"):
        search.stream(frame_seconds=-1)
