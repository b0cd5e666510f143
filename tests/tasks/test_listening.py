import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio import audio
from deepaudio.data.alphabet import Alphabet
from deepaudio.models import Convolution, DeepSpeech2Config, DeepSpeechConfig
from deepaudio.tasks.listening import (
    StreamingListener,
    StreamingNetwork,
    WindowedListener,
    averaged,
    can_stream,
)
from deepaudio.tasks.recognition import RecognitionConfig, RecognitionTask

ALPHABET = Alphabet(tuple("abc "))
CONFIG = RecognitionConfig(
    front_end=audio.LogMelConfig(hop_length=80, n_fft=240, n_mels=8, sample_rate=8000, f_max=4000),
    model=DeepSpeech2Config(
        num_outputs=5,
        num_bands=8,
        convolutions=(Convolution(4, 5, 3, 2, 2), Convolution(4, 3, 3, 2, 1)),
        cell="gru",
        layers=2,
        units=8,
        bidirectional=False,
        lookahead=3,
        dense_units=6,
    ),
    alphabet=ALPHABET,
)


@pytest.fixture(scope="module")
def task():
    return RecognitionTask(CONFIG)


@pytest.fixture(scope="module")
def variables(task):
    drawn = jax.jit(task.init)(jax.random.key(0))
    # Statistics other than those of the beginning, so that padding is told from silence.
    stats = jax.tree.map(lambda leaf: leaf + 0.3, drawn["batch_stats"])
    return {**drawn, "batch_stats": stats}


def whole(task, variables, samples):
    hop = task.config.front_end.hop_length
    padded = np.zeros((1, -(-len(samples) // hop) * hop), np.float32)
    padded[0, : len(samples)] = samples
    log_probs, frames = jax.jit(task.log_probs)(variables, padded, np.array([len(samples)]))
    return np.asarray(log_probs[0, : frames[0]])


@pytest.fixture(scope="module")
def streaming(task, variables):
    """From a number of frames a piece to a function that makes listeners."""

    @functools.cache
    def compiled(chunk):
        network = StreamingNetwork(task, chunk)
        return network, functools.partial(jax.jit(network.advance), variables)

    return lambda chunk: StreamingListener(task, *compiled(chunk))


@pytest.mark.parametrize("length", [1, 79, 320, 5000, 16001])
def test_a_stream_says_what_the_whole_sound_says(task, variables, streaming, rng, length):
    samples = rng.normal(0, 0.1, length).astype(np.float32)
    expected = whole(task, variables, samples)
    for chunk, pieces in (
        (7, [length]),
        (7, [13] * (length // 13) + [length % 13]),
        (40, [length]),
    ):
        listener = streaming(chunk)
        place, found = 0, []
        for size in pieces:
            found.append(listener.feed(samples[place : place + size]))
            place += size
        found.append(listener.finish())
        found = np.concatenate(found)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_stream_is_behind_by_no_more_than_it_must_be(task, streaming, rng):
    listener = streaming(7)
    network = StreamingNetwork(task, 7)
    samples = rng.normal(0, 0.1, 16000).astype(np.float32)
    known = len(listener.feed(samples))
    # A piece, the lookahead, and what the convolutions and the transform see beyond a frame.
    beyond = network.window_samples - network.left * 80
    assert known >= (16000 - beyond) // CONFIG.frame_samples - network.lookahead - 1


def test_no_sound_at_all_has_no_frames(streaming):
    listener = streaming(7)
    assert listener.feed(np.zeros(0, np.float32)).shape == (0, 5)
    assert listener.finish().shape == (0, 5)


def test_networks_of_both_directions_cannot_stream():
    model = dataclasses.replace(CONFIG.model, bidirectional=True, lookahead=0)
    task = RecognitionTask(dataclasses.replace(CONFIG, model=model))
    assert not can_stream(task)
    with pytest.raises(ValueError, match="forward-only"):
        StreamingNetwork(task, 5)
    first = DeepSpeechConfig(num_outputs=5, num_bands=8, units=4)
    assert not can_stream(RecognitionTask(dataclasses.replace(CONFIG, model=first)))


def listened(task, log_probs, samples, sizes):
    listener, place, found = WindowedListener(task, log_probs), 0, []
    for size in sizes:
        found.append(listener.feed(samples[place : place + size]))
        place += size
    return np.concatenate([*found, listener.finish()])


def test_windows_are_cut_at_the_quietest_place_and_on_the_grid(task):
    rate = 8000
    samples = np.ones(30 * rate, np.float32)
    quiet = slice(15 * rate, 15 * rate + rate // 2)
    samples[quiet] = 0.0
    heard = []

    def log_probs(padded, num_samples):
        heard.append(int(num_samples[0]))
        frames = -(-num_samples // task.config.frame_samples)
        return jnp.zeros((1, int(frames[0]) + 3, 5)), frames

    found = listened(task, log_probs, samples, [12345] * 19 + [5445])
    assert len(heard) == 2 and sum(heard) == len(samples)
    assert quiet.start < heard[0] < quiet.stop
    assert heard[0] % task.config.frame_samples == 0
    assert len(found) == -(-len(samples) // task.config.frame_samples)


def test_windows_of_a_short_sound_say_what_the_whole_says(task, variables, rng):
    samples = rng.normal(0, 0.1, 9999).astype(np.float32)
    log_probs = functools.partial(jax.jit(task.log_probs), variables)
    found = listened(task, log_probs, samples, [9999])
    np.testing.assert_allclose(found, whole(task, variables, samples), atol=2e-5)


def test_ensemble_and_jitter_average_probabilities(rng):
    """Against a model that says what it hears: the mean is over models and shifts."""

    def louder(factor):
        def log_probs(samples, num_samples):
            return jax.nn.log_softmax(factor * samples.reshape(1, -1, 4)), num_samples // 4

        return log_probs

    samples = rng.normal(0, 1, (1, 12)).astype(np.float32)
    log_probs, frames = averaged([louder(1.0), louder(3.0)], jitter_samples=2)(
        samples, np.array([12])
    )
    total = 0.0
    for factor in (1.0, 3.0):
        for shift in (-2, 0, 2):
            moved = np.zeros(12, np.float32)
            for place in range(12):
                if 0 <= place - shift < 12:
                    moved[place] = samples[0, place - shift]
            logits = np.exp(factor * moved.reshape(3, 4))
            total = total + logits / logits.sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(log_probs[0]), total / 6, rtol=1e-5)
    assert frames[0] == 3
