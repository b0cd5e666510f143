"""Vocoders are scored by what they make of recordings; scores that are undefined are left out."""

import numpy as np
import pytest
import soundfile

from deepaudio import audio
from experiments import evaluate_voice

CONVENTION = audio.mel_convention("hifigan_16k")


def sounds(rng):
    return [{"samples": rng.normal(0, 0.1, 256 * n).astype(np.float32)} for n in (8, 12, 9, 10)]


def loudness(reference, estimate, rate, convention):
    assert rate == 16000 and convention is CONVENTION and len(reference) == len(estimate)
    ratio = float(estimate.std() / reference.std())
    return {"metric/ratio": ratio, "metric/odd": np.nan if len(reference) > 256 * 9 else 2.0}


def test_means_are_of_what_is_defined(rng):
    def half(samples, mel):
        assert mel.shape == (len(samples) // 256, 80)
        return np.append(0.5 * samples, np.zeros(100))  # what is too long is cut

    found = list(evaluate_voice.evaluate({"half": half}, sounds(rng), CONVENTION, loudness))
    ((name, scores, kept),) = found
    assert name == "half" and len(kept) == 3
    np.testing.assert_allclose(scores["metric/ratio"], 0.5, rtol=1e-5)
    assert scores["metric/odd"] == 2.0


def test_sounds_and_a_picture_are_written(tmp_path, rng):
    made = {name: [s["samples"] for s in sounds(rng)[:2]] for name in ("recording", "WORLD, it")}
    evaluate_voice.write_sounds(tmp_path / "out", made, CONVENTION)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    oggs = {"0_recording.ogg", "1_recording.ogg", "0_world.ogg", "1_world.ogg"}
    assert names == oggs | {"spectrograms.png"}
    samples, rate = soundfile.read(tmp_path / "out" / "1_world.ogg")
    assert rate == 16000 and len(samples) == 256 * 12


def test_vocoders_of_another_convention_are_refused():
    pytest.importorskip("pyworld", reason="needs the extra voice")
    other = type("Other", (), {"convention": audio.mel_convention("hifigan")})()
    with pytest.raises(ValueError, match="student reads hifigan, not hifigan_16k"):
        evaluate_voice.contestants(CONVENTION, {"student": other}, 0)
