import collections
import dataclasses
import importlib.util

import numpy as np
import pytest

from deepaudio.data import speech_synthesis
from deepaudio.data.speech_synthesis import SpeechSynthesisError, Voice, draw_voice, speak

RATE = speech_synthesis.SAMPLE_RATE
PROGRAMS = {"espeak": "espeak-ng", "flite": "flite", "festival": "festival"}
VOICES = [
    Voice("espeak", "en-us+m3", pitch=50),
    Voice("flite", "slt"),
    Voice("pico", "en-GB"),
    Voice("festival", "kal_diphone"),
]
SPOKEN = "where were you all morning, we were worried"


@pytest.fixture(params=VOICES, ids=lambda voice: voice.engine)
def voice(request, require):
    if request.param.engine in PROGRAMS:
        require(PROGRAMS[request.param.engine])
    try:
        speech_synthesis.require_engines((request.param.engine,))
    except SpeechSynthesisError as error:
        pytest.skip(str(error))
    return request.param


def pitch(samples):
    """The middle of the fundamental frequencies of the loud parts, by autocorrelation."""
    size = RATE // 20
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    power = (frames**2).mean(axis=1)
    found = []
    for frame in frames[power > 0.3 * power.max()]:
        spectrum = np.abs(np.fft.rfft(frame - frame.mean(), 4 * size)) ** 2
        correlation = np.fft.irfft(spectrum)
        lags = np.arange(RATE // 400, RATE // 70)
        found.append(RATE / lags[correlation[lags].argmax()])
    return np.median(found)


def test_speech_is_sound_without_silence_around(voice):
    samples = speak(SPOKEN, voice)
    assert samples.dtype == np.float32 and 1.0 < len(samples) / RATE < 6.0
    assert 0.05 < np.abs(samples).max() <= 1.0
    assert min(np.abs(samples[[0, -1]])) > 0.01 * np.abs(samples).max()
    # Pico's last bits vary.
    atol = 5e-4 if voice.engine == "pico" else 0.0
    np.testing.assert_allclose(speak(SPOKEN, voice), samples, rtol=0, atol=atol)


def test_a_smaller_speaker_is_higher_and_as_fast(voice):
    plain = speak(SPOKEN, voice)
    small = speak(SPOKEN, dataclasses.replace(voice, size=1.2))
    assert pitch(small) / pitch(plain) == pytest.approx(1.2, rel=0.06)
    assert len(small) / len(plain) == pytest.approx(1.0, rel=0.06)


def test_rate_changes_the_tempo_alone(voice):
    plain = speak(SPOKEN, voice)
    fast = speak(SPOKEN, dataclasses.replace(voice, rate=1.25))
    assert len(plain) / len(fast) == pytest.approx(1.25, rel=0.08)
    assert pitch(fast) / pitch(plain) == pytest.approx(1.0, rel=0.12)


def test_pitch_is_the_one_asked_for(require):
    require("flite")
    for hertz in (140.0, 210.0):
        assert pitch(speak(SPOKEN, Voice("flite", "slt", pitch=hertz))) == pytest.approx(
            hertz, rel=0.08
        )
    require("espeak-ng")
    low, high = (pitch(speak(SPOKEN, Voice("espeak", "en-us+m3", pitch=p))) for p in (25, 75))
    assert high > 1.15 * low


def test_pico_takes_its_pitch_as_a_factor():
    pytest.importorskip("py_nanotts")
    own, low = (pitch(speak(SPOKEN, Voice("pico", "en-US", pitch=p))) for p in (None, 0.7))
    assert low / own == pytest.approx(0.7, rel=0.08)


def test_loud_speech_does_not_clip(voice):
    assert (np.abs(speak(SPOKEN, voice)) > 0.99).sum() < 10


def test_an_utterance_without_words_is_refused(require):
    require("espeak-ng")
    with pytest.raises(SpeechSynthesisError, match=r"espeak says nothing for ', ,'"):
        speak(", ,", VOICES[0])


def test_an_engines_failure_is_told(require):
    require("espeak-ng")
    with pytest.raises(SpeechSynthesisError, match="espeak-ng failed"):
        speak("hello", Voice("espeak", "xx-unknown", pitch=50))


def test_without_a_pitch_espeak_takes_the_voices_own(require):
    require("espeak-ng")
    own, usual = (speak(SPOKEN, Voice("espeak", "en-us", pitch=p)) for p in (None, 50))
    np.testing.assert_array_equal(own, usual)


def test_missing_engines_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpeechSynthesisError, match="needs espeak-ng: install Debian's package"):
        speech_synthesis.require_engines(("espeak", "flite"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SpeechSynthesisError, match="needs py-nanotts: install deepaudio"):
        speech_synthesis.require_engines(("pico",))


def voices(rng, split, count=1500, **settings):
    return [draw_voice(rng, split, **settings) for _ in range(count)]


def kin(voice):
    """A voice whatever its size, pitch and accent."""
    return voice.engine, voice.name.partition("+")[2] or voice.name


def test_held_out_voices_are_never_heard_in_training(rng):
    train, validation, speakers, engine = (
        {kin(v) for v in voices(rng, split)}
        for split in ("train", "validation", "test_speakers", "test_engine")
    )
    assert train == validation and not train & speakers and not train & engine
    assert {e for e, _ in train} == {"espeak", "flite", "pico"} and {e for e, _ in speakers} == {
        "espeak"
    }
    assert {e for e, _ in engine} == {"festival"} and len(engine) == 3
    # Kin by name are on one side: steph2 is steph.
    stems = [{name.rstrip("0123456789").lower() for e, name in side} for side in (train, speakers)]
    assert stems[0] & stems[1] <= {"m", "f", "klatt"}


def test_training_hears_many_speakers_and_each_person_equally_often(rng):
    drawn = voices(rng, "train")
    people = collections.Counter(v.name for v in drawn if v.engine != "espeak")
    assert len(people) == 6
    for count in people.values():
        assert count / len(drawn) == pytest.approx(0.1, abs=0.03)
    assert len({v.speaker for v in drawn}) > 600
    for engine, least, most in (("espeak", 0.9, 1.12), ("flite", 0.86, 1.16), ("pico", 0.8, 1.12)):
        sizes = [v.size for v in drawn if v.engine == engine]
        assert least <= min(sizes) + 1e-9 < least + 0.03 and most - 0.03 < max(sizes) <= most + 1e-9
    words = [175 * v.rate for v in drawn if v.engine == "espeak"]
    assert 110 <= min(words) < 120 and 190 < max(words) <= 200
    accents = {v.name.partition("+")[0] for v in drawn if v.engine == "espeak"}
    assert len(accents) == 7


def test_mandarin_is_spoken_by_espeak_alone(rng):
    drawn = voices(rng, "train", language="cmn")
    assert {v.engine for v in drawn} == {"espeak"}
    assert {v.name.partition("+")[0] for v in drawn} == {"cmn"}
