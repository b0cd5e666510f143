"""`deepaudio vocode` as a user meets it, with a small vocoder of random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import deepaudio
from deepaudio import audio, models
from deepaudio.cli import app
from deepaudio.tasks import vocoding

RATE = 16000


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A function from a task type to a weights file."""

    def save(kind, task_type, **sizes):
        shared = {"conditioning": 4, "upsample": (16, 16), "context": 1, "filter_width": 2}
        model = vocoding.make_model_config(kind, **shared, cycle=3, residual=6, gate=6, **sizes)
        task = task_type(vocoding.VocodingConfig(model=model))
        leaves, tree = jax.tree.flatten(task.init(jax.random.key(0)))
        rng = np.random.default_rng(0)
        leaves = [rng.normal(0, 0.1, leaf.shape).astype(np.float32) for leaf in leaves]
        path = tmp_path_factory.mktemp("weights") / f"{kind}.safetensors"
        models.save_weights(path, jax.tree.unflatten(tree, leaves), task.config.to_dict())
        return str(path)

    return {
        "student": save("parallel_wavenet", vocoding.StudentTask, flows=(3, 3)),
        "teacher": save("wavenet", vocoding.TeacherTask, layers=3, skip=6, mixtures=2),
    }


def run(*words):
    return CliRunner().invoke(app, ["vocode", *map(str, words)])


@pytest.fixture
def speech(tmp_path, rng):
    path = tmp_path / "speech.wav"
    soundfile.write(path, rng.normal(0, 0.1, RATE // 2), RATE)
    return path


def mel_of(path):
    samples, _ = soundfile.read(path, dtype="float32")
    mel = audio.convention_mel(jnp.asarray(samples), audio.mel_convention("hifigan_16k"))
    return np.asarray(mel)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_a_sound_becomes_a_sound_of_the_same_length(tmp_path, speech, weights, kind):
    found = run(speech, "-o", tmp_path / "out", "--model", weights[kind], "--json")
    assert found.exit_code == 0, found.stderr
    (row,) = json.loads(found.stdout)
    samples, rate = soundfile.read(row["output"])
    frames = -(-(RATE // 2) // 256)
    assert rate == RATE and len(samples) == frames * 256 == round(row["seconds"] * RATE)
    assert row["file"] == str(speech) and (tmp_path / "out" / "speech.wav").exists()


def test_a_saved_mel_becomes_the_sound_that_python_makes_of_it(tmp_path, speech, weights):
    mel = mel_of(speech)
    path = tmp_path / "words.npy"
    np.save(path, mel)
    found = run(path, "-o", tmp_path, "--model", weights["student"], "--seed", 4, "-q")
    assert found.exit_code == 0 and not found.output
    samples, _ = soundfile.read(tmp_path / "words.wav")
    expected = deepaudio.vocode(mel, model=weights["student"], seed=4)
    np.testing.assert_allclose(samples, expected, atol=2 / 32768)
    other = deepaudio.vocode(mel, model=weights["student"], seed=5)
    assert np.abs(samples - other).max() > 0.01


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda mel: mel[:, :40], "40"),
        (lambda mel: mel.T, "transposed"),
        (lambda mel: mel[:0], "frames"),
        (lambda mel: np.where(np.arange(80) == 3, np.nan, mel), "NaN"),
        (lambda mel: np.exp(mel), "no log-mel"),
    ],
)
def test_what_is_no_mel_is_refused_in_one_line(tmp_path, speech, weights, change, match):
    path = tmp_path / "wrong.npy"
    np.save(path, change(mel_of(speech)))
    found = run(path, speech, "-o", tmp_path / "out", "--model", weights["student"])
    assert found.exit_code == 1
    errors = [line for line in found.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and "wrong.npy" in errors[0] and match in errors[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["speech.wav"]


def test_bad_input(tmp_path, speech, weights):
    broken = tmp_path / "broken.npy"
    broken.write_bytes(b"no array")
    for words, status, match in (
        ((broken, "--model", weights["student"]), 1, "not an array"),
        ((tmp_path / "none.wav", "--model", weights["student"]), 1, "no such file"),
        ((speech, "--model", "nothing"), 1, "no such weights file"),
        ((speech, "--model", "onsets_and_frames_small"), 1, "holds no vocoder"),
        ((speech, "--model", weights["student"], "--speaker", 3), 1, "speaker=3"),
        ((speech, "--model", weights["student"], "--teacher"), 2, "exclude each other"),
        ((speech, "--temperature", -1), 2, "temperature"),
    ):
        found = run(*words, "-o", tmp_path / "out")
        assert found.exit_code == status and match in found.stderr, (words, found.stderr)
    with pytest.raises(ValueError, match="holds no vocoder"):
        deepaudio.vocode(mel_of(speech), model="onsets_and_frames_small")
