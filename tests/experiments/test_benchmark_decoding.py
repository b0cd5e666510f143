"""The decoding benchmark, on a small language."""

import numpy as np
import pytest

from deepaudio import decoding
from deepaudio.data.alphabet import ENGLISH
from experiments import benchmark_decoding


@pytest.fixture
def language():
    return benchmark_decoding.Language(np.random.default_rng(0), num_words=200)


def test_a_language_has_frequent_words_and_favourites(language):
    sentences = language.sentences(300)
    words = [word for sentence in sentences for word in sentence]
    assert set(words) <= set(language.words) and len(set(language.words)) == 200
    assert all(5 <= len(sentence) <= 20 for sentence in sentences)
    counts = [words.count(word) for word in language.words]
    assert sum(counts[:10]) > sum(counts[100:])
    # What comes after a word is easier to tell than what comes anywhere.
    pairs = [p for s in sentences for p in zip(s[:-1], s[1:], strict=True)]
    after = [b for a, b in pairs if a == language.words[0]]
    assert len(set(after)) / len(after) < len(set(words[: len(after)])) / len(after)


def test_posteriors_are_as_sure_as_their_kind(language, rng):
    text = " ".join(language.sentences(1)[0]) + " ll"
    sure = []
    for kind in benchmark_decoding.KINDS:
        log_probs = benchmark_decoding.random_posteriors(text, 0.03, kind, rng)
        assert log_probs.dtype == np.float32
        assert np.exp(log_probs).sum(axis=1) == pytest.approx(1, abs=1e-5)
        sure.append(np.exp(log_probs).max(axis=1).mean())
    assert sure[0] > 0.85 > sure[1] > 0.5 > sure[2]


def test_without_noise_the_text_is_read(language, rng, monkeypatch):
    monkeypatch.setitem(benchmark_decoding.KINDS, "certain", (30.0, 0.0))
    text = "all " + " ".join(language.sentences(1)[0])
    log_probs = benchmark_decoding.random_posteriors(text, 0.03, "certain", rng)
    assert decoding.ctc_greedy(log_probs, ENGLISH, frame_seconds=0.03).text == text
    # 14 letters a second.
    assert 0.7 < len(log_probs) * 0.03 / (len(text) / 14) < 1.4


def test_the_processors_time_is_measured(monkeypatch):
    # Two turns of 1 and 4 seconds after a first one of 9, which warms up.
    times = iter([0, 9, 10, 11, 20, 24, 30, 31])
    monkeypatch.setattr(benchmark_decoding.time, "process_time", lambda: next(times))
    decoded = []
    found = benchmark_decoding.measure(
        decoded.append,
        [np.zeros((60, 29)), np.zeros((40, 29))],
        frame_seconds=0.1,
        repetitions=3,
    )
    assert found == {"frames_per_second": 100, "times_real_time": 10.0, "all_seconds": [1, 4, 1]}
    assert [len(x) for x in decoded] == [60, 40] * 4


def test_all_decoders_decode(language, rng):
    model = decoding.train_kneser_ney(language.sentences(50))
    decoders = benchmark_decoding.make_decoders(model, [5, 10], 0.03)
    assert list(decoders) == [
        "best path",
        "beam 5",
        "beam 5, language model",
        "beam 10",
        "beam 10, language model",
    ]
    log_probs = benchmark_decoding.random_posteriors("a test", 0.03, "peaked", rng)
    for decode in decoders.values():
        decode(log_probs)


def test_stored_posteriors_are_read(tmp_path):
    np.savez(tmp_path / "some.npz", a=np.zeros((3, 29)), b=np.ones((2, 29)))
    found = benchmark_decoding._stored(tmp_path / "some.npz")
    assert [x.shape for x in found["stored"]] == [(3, 29), (2, 29)]
