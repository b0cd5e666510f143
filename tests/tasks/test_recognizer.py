import dataclasses

import jax
import numpy as np
import pytest

import deepaudio
from deepaudio import audio
from deepaudio.data.alphabet import Alphabet
from deepaudio.decoding import BeamSearch, train_kneser_ney
from deepaudio.models import (
    Convolution,
    DeepSpeech2Config,
    WeightsError,
    pack_weights,
    save_weights,
)
from deepaudio.tasks.recognition import RecognitionConfig, RecognitionTask
from deepaudio.tasks.recognizer import Recognizer, Segmenter, load_model, load_recognizer

ALPHABET = Alphabet(tuple("ab "))
CONFIG = RecognitionConfig(
    front_end=audio.LogMelConfig(hop_length=80, n_fft=240, n_mels=8, sample_rate=8000, f_max=4000),
    model=DeepSpeech2Config(
        num_outputs=4,
        num_bands=8,
        convolutions=(Convolution(4, 5, None, 2),),
        cell="gru",
        layers=1,
        units=8,
        bidirectional=False,
        lookahead=2,
        dense_units=0,
    ),
    alphabet=ALPHABET,
)
SECONDS = 0.1  # of a frame, in what follows


def spoken(text, *, pause="_"):
    """Log probabilities of which each frame's likeliest output is a character of the text."""
    rows = np.full((len(text), 4), np.log(0.05))
    for frame, character in enumerate(text):
        number = 0 if character == pause else 1 + ALPHABET.units.index(character)
        rows[frame, number] = np.log(0.85)
    return rows.astype(np.float32)


def segmenter(**settings):
    search = BeamSearch(ALPHABET, beam_width=8)
    settings = {"frame_seconds": SECONDS, "pause_seconds": 0.5} | settings
    return Segmenter(search, **settings)


def texts(segments):
    return [segment.transcripts[0].text for segment in segments]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_segments_end_at_pauses_however_the_frames_arrive(size):
    frames = spoken("__a_b_____" + "b_ab______" + "_a")
    one = segmenter()
    found = []
    for first in range(0, len(frames), size):
        found += one.feed(frames[first : first + size])
    assert texts(found) == ["ab", "bab"]
    found += one.finish()
    assert texts(found) == ["ab", "bab", "a"]
    starts = [segment.start for segment in found]
    # Each begins about where its first letter is said.
    np.testing.assert_allclose(starts, [0.2, 1.0, 2.1], atol=0.1)
    assert all(s.start < s.end for s in found)


def test_silence_has_no_segments_and_a_long_one_is_cut():
    silent = segmenter()
    assert silent.feed(spoken("_" * 50)) == [] and silent.finish() == []
    long = segmenter(longest_seconds=2.0)
    found = long.feed(spoken("a_" * 25)) + long.finish()
    assert len(found) == 3
    assert all(2 * i <= s.start < s.end <= 2 * (i + 1) for i, s in enumerate(found))


def test_partial_text_grows_and_ends():
    one = segmenter()
    assert one.partial() == ""
    one.feed(spoken("_a_"))
    assert one.partial() == "a"
    one.feed(spoken("b_"))
    assert one.partial() == "ab"
    one.feed(spoken("______"))
    assert one.partial() == ""


def test_a_delay_is_taken_off():
    early = segmenter(start=-0.5)
    on_time = segmenter()
    a = early.feed(spoken("__ab______"))[0].transcripts[0].words[0]
    b = on_time.feed(spoken("__ab______"))[0].transcripts[0].words[0]
    assert a.start == pytest.approx(b.start - 0.5)
    assert a.end == pytest.approx(b.end - 0.5)


@pytest.fixture(scope="module")
def model():
    task = RecognitionTask(CONFIG)
    variables = jax.device_get(jax.jit(task.init)(jax.random.key(0)))
    # Logits large enough that the likeliest outputs vary.
    logits = variables["params"]["logits"]
    logits["kernel"] = 30.0 * logits["kernel"]
    return task, variables


@pytest.fixture(scope="module")
def sound():
    rng = np.random.default_rng(1)
    loudness = np.repeat(rng.uniform(0, 0.5, 40), 400)
    return (rng.normal(0, 1, 16000) * loudness).astype(np.float32)


@pytest.fixture(scope="module")
def recognizer(model):
    return Recognizer([model], BeamSearch(ALPHABET, beam_width=8))


def test_live_sound_says_what_the_file_says(recognizer, sound):
    whole = recognizer.recognize([sound])
    assert whole.text
    stream, final = recognizer.stream(), []
    for first in range(0, len(sound), 700):
        heard = stream.feed(sound[first : first + 700])
        final += heard.final
    final += stream.finish().final
    assert texts(final) == texts(whole.segments)
    np.testing.assert_allclose(
        [word.start for segment in final for word in segment.transcripts[0].words],
        [word.start for word in whole.words],
        atol=1e-6,
    )


def test_progress_tells_the_seconds_done(recognizer, sound):
    done = []
    recognizer.recognize([sound[:8000], sound[8000:]], done.append)
    assert done == [1.0, 2.0]


def test_ensemble_and_jitter_cannot_hear_live_sound(model, sound):
    for models, jitter in (([model, model], 0.0), ([model], 0.005)):
        several = Recognizer(models, BeamSearch(ALPHABET), jitter_seconds=jitter)
        assert not several.streams
        with pytest.raises(ValueError, match="live"):
            several.stream()
    alone = Recognizer([model], BeamSearch(ALPHABET, beam_width=8))
    # A model and itself say what the model says.
    assert (
        Recognizer([model, model], BeamSearch(ALPHABET, beam_width=8)).recognize([sound]).text
        == alone.recognize([sound]).text
    )


def test_models_of_an_ensemble_must_fit(model):
    task, variables = model
    other = RecognitionTask(dataclasses.replace(CONFIG, alphabet=Alphabet(tuple("ba "))))
    with pytest.raises(ValueError, match="alphabet"):
        Recognizer([model, (other, variables)], BeamSearch(ALPHABET))


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    task, variables = model
    language_model = train_kneser_ney([["ab", "b"], ["a", "ab"]], order=2)
    language_model.save(folder / "words.npz")
    decoding = {"language_model": str(folder / "words.npz"), "alpha": 0.7, "beta": 0.3}
    path = folder / "model.safetensors"
    save_weights(path, variables, {**task.config.to_dict(), "decoding": decoding})
    return path


def test_loaded_weights_say_the_same(weights, recognizer, sound):
    loaded = load_recognizer(weights, use_language_model=False, beam_width=8)
    assert loaded.recognize([sound]).text == recognizer.recognize([sound]).text
    with_model = load_recognizer(weights, n_best=3)
    found = with_model.recognize([sound])
    assert found.text != recognizer.recognize([sound]).text
    assert all(1 <= len(segment.transcripts) <= 3 for segment in found.segments)


@pytest.fixture(scope="module")
def pruned_weights(model, tmp_path_factory):
    """The model with nine tenths of its recurrent matrix pruned, as weights and packed."""
    task, variables = model
    variables = jax.tree.map(np.array, variables)
    matrix = variables["params"]["recurrent_0"]["recurrent_kernel"]
    matrix[np.abs(matrix) < np.quantile(np.abs(matrix), 0.9)] = 0.0
    # What float16 holds, as shipped weights are.
    matrix[...] = matrix.astype(np.float16)
    paths = [tmp_path_factory.mktemp("pruned") / f"{n}.safetensors" for n in ("dense", "packed")]
    save_weights(paths[0], variables, task.config.to_dict())
    save_weights(paths[1], pack_weights(variables), task.config.to_dict())
    return paths


def test_a_pruned_model_says_the_same_packed(pruned_weights, weights, sound):
    """Whole files and live sound, packed when loaded or before."""
    dense, packed = pruned_weights
    expected = load_recognizer(dense)
    text, log_probs = expected.recognize([sound]).text, expected.log_probs([sound])
    assert (
        text and text != load_recognizer(weights, use_language_model=False).recognize([sound]).text
    )
    for path, run_packed in ((dense, True), (packed, True), (packed, False)):
        found = load_recognizer(path, packed=run_packed)
        assert found.recognize([sound]).text == text
        np.testing.assert_allclose(found.log_probs([sound]), log_probs, atol=1e-4)
        _, variables, _ = load_model(path, packed=run_packed)
        assert ("packed" in variables) == run_packed
    stream = load_recognizer(packed, packed=True).stream()
    final = [s for i in range(0, len(sound), 900) for s in stream.feed(sound[i : i + 900]).final]
    assert texts([*final, *stream.finish().final]) == texts(expected.recognize([sound]).segments)


def test_a_dense_model_cannot_run_packed(weights, sound):
    expected = load_recognizer(weights).recognize([sound]).text
    with pytest.warns(UserWarning, match="packing gains nothing: it stays dense"):
        assert load_recognizer(weights, packed=True).recognize([sound]).text == expected


def test_the_public_function_takes_arrays(weights, sound):
    found = deepaudio.recognize(sound, 8000, model=weights)
    stereo = np.stack([sound, sound], axis=1)
    assert deepaudio.recognize(stereo, 8000, model=weights).text == found.text
    assert [w.text for w in found.words] == found.text.split()
    with pytest.raises(ValueError, match="NaN"):
        deepaudio.recognize(np.array([np.nan]), 8000, model=weights)


def test_wrong_weights_are_refused(weights, tmp_path, sound):
    with pytest.raises(WeightsError, match="no such weights"):
        load_recognizer("nothing")
    with pytest.raises(WeightsError, match="not the weights of a recognition model"):
        load_recognizer("onsets_and_frames_small")
    with pytest.raises(ValueError, match="missing.arpa: no such language model"):
        load_recognizer(weights, language_model=tmp_path / "missing.arpa")


def test_shipped_weights_load_and_hear_no_words_in_silence():
    shipped = load_recognizer()
    assert shipped.sample_rate == 16000 and shipped.streams
    assert shipped.recognize([np.zeros(2 * 16000, np.float32)]).text == ""
