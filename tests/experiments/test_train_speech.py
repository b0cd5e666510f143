"""The launchers on a little speech: train, resume, evaluate, export, recognize."""

import json

import jax
import numpy as np
import pytest
import soundfile
from jax.sharding import Mesh

import deepaudio
from deepaudio import training
from deepaudio.data.alphabet import ENGLISH
from experiments import (
    compare_speech,
    evaluate_speech,
    export,
    restore,
    train,
    train_language_model,
)
from experiments.configs import deep_speech, deep_speech_2

RATE = 16000
WORDS = {"a": 500, "be": 1000, "sea": 2000, "day": 3000}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of manifests; every word is a tone."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 4), ("test", 4)):
        rows = []
        for number in range(count):
            words = rng.choice(list(WORDS), 1 + number % 3)
            time = np.arange(RATE // 2) / RATE
            sound = np.concatenate(
                [0.3 * np.sin(2 * np.pi * WORDS[w] * time) * (time < 0.4) for w in words]
            )
            name = f"{split}-{number}.wav"
            soundfile.write(folder / name, sound, RATE)
            rows.append(
                {
                    "audio_filepath": name,
                    "duration": len(sound) / RATE,
                    "text": " ".join(words),
                    "kind": "long" if len(words) > 1 else "short",
                    "speaker": f"voice+{number % 2}",
                }
            )
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    (folder / "texts.txt").write_text("a be sea\nsea day\nbe a day\n" * 3)
    return folder


@pytest.fixture(autouse=True)
def loose_promotion():
    """optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Compiling for eight takes minutes."""
    with pytest.MonkeyPatch.context() as patch:
        mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
        patch.setattr("deepaudio.training.data_mesh", lambda model: mesh)
        yield


def shrink(config, corpus, num_steps):
    config.data_dir = str(corpus)
    config.batch_size = 4
    config.buckets = (2.0,)
    config.num_threads = 0
    config.num_steps = num_steps
    config.checkpoint_every = 2
    config.evaluate_every = 4
    return config


def _config(corpus, num_steps):
    config = deep_speech_2.get_config("smoke")
    config.model.convolutions = ((2, 5, 5, 3, 8),)
    config.model.units = 8
    config.model.lookahead = 2
    return shrink(config, corpus, num_steps)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A run of four steps, and its last state."""
    workdir = tmp_path_factory.mktemp("run")
    with jax.numpy_dtype_promotion("standard"):
        return workdir, train.train(_config(corpus, 4), workdir)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(corpus, run, tmp_path):
    _, whole = run
    train.train(_config(corpus, 2), tmp_path)
    resumed = train.train(_config(corpus, 4), tmp_path)
    assert int(resumed.step) == 4
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_metrics_hold_error_rates(run):
    workdir, _ = run
    names = {line.split(",")[1] for line in (workdir / "metrics.csv").read_text().splitlines()}
    assert {"loss/total", "loss/dropped", "validation/metric/cer"} <= names


@pytest.fixture(scope="module")
def words(corpus, tmp_path_factory):
    """A language model of the corpus's texts, as the launcher makes it."""
    path = tmp_path_factory.mktemp("words") / "words.npz"
    sentences = train_language_model.read_sentences([str(corpus / "texts.txt")], characters=False)
    assert sentences[0] == ["a", "be", "sea"]
    model = train_language_model.train_kneser_ney(sentences, order=2)
    train_language_model.save(model, str(path))
    value, unknown = train_language_model.perplexity(model, sentences)
    assert 1 < value < len(WORDS) + 3 and unknown == 0
    return path


def test_only_pruned_runs_are_exported_packed(run, tmp_path):
    workdir, _ = run
    path = tmp_path / "speech.safetensors"
    with pytest.warns(UserWarning, match="packing gains nothing: it stays dense"):
        export.export(workdir, path, packed=True)
    _, variables, _ = evaluate_speech.load_model(path)
    assert "packed" not in variables


def test_export_evaluate_and_recognize(corpus, run, words, tmp_path):
    workdir, state = run
    path = tmp_path / "speech.safetensors"
    decoding = export.export(workdir, path, data_dir=str(corpus), language_model=str(words))
    assert set(decoding) == {"language_model", "alpha", "beta"}
    task, variables, stored = evaluate_speech.load_model(path)
    assert stored == decoding
    for a, b in zip(
        jax.tree.leaves(variables), jax.tree.leaves(jax.device_get(state.average)), strict=True
    ):
        np.testing.assert_array_equal(a, b)

    splits = {
        name: evaluate_speech.read_split(str(corpus), name) for name in ("test", "test:short")
    }
    rows = evaluate_speech.evaluate(task, variables, splits, search=None, snrs=[None, 5.0])
    assert [(row["split"], row["snr_db"]) for row in rows] == [
        ("test", "none"), ("test", 5.0), ("test:short", "none"), ("test:short", 5.0),
    ]  # fmt: skip
    assert rows[0]["utterances"] == 4 > rows[2]["utterances"]
    assert all(row["wer"] >= 0 for row in rows)
    sound, rate = soundfile.read(corpus / "test-0.wav")
    found = deepaudio.recognize(sound, rate, model=path)
    assert set(found.text) <= ENGLISH.characters


def test_parts_of_a_split_are_told_by_kind_or_speaker(corpus):
    counts = {
        name: len(evaluate_speech.read_split(str(corpus), f"test:{name}"))
        for name in ("short", "long", "short+long", "voice+0", "voice+1")
    }
    assert counts == {"short": 2, "long": 2, "short+long": 4, "voice+0": 2, "voice+1": 2}


def test_half_of_the_settings_is_refused(corpus, run, tmp_path):
    with pytest.raises(ValueError, match="both data_dir and language_model"):
        export.export(run[0], tmp_path / "a.safetensors", data_dir=str(corpus))


def test_characters_of_the_corpus_are_kept_with_the_run(corpus, tmp_path):
    config = _config(corpus, 1)
    config.alphabet.kind = "characters"
    train.train(config, tmp_path)
    task, _ = restore.restore(tmp_path)
    assert set(task.config.alphabet.units) == set("abesdy")
    assert task.config.alphabet.word_separator == ""


def test_deep_speech_1_trains(corpus, tmp_path):
    config = deep_speech.get_config("smoke")
    config.model.units = 8
    state = train.train(shrink(config, corpus, 1), tmp_path)
    assert int(state.step) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_missing_data_are_named(corpus):
    config = _config(corpus, 1)
    config.data_dir = None
    with pytest.raises(ValueError, match="--config.data_dir"):
        train.train(config, corpus / "nowhere")
    with pytest.raises(ValueError, match="'test:none'"):
        evaluate_speech.read_split(str(corpus), "test:none")


def test_arms_of_the_comparison_are_configurations(corpus, tmp_path):
    known = compare_speech.arms(tmp_path)
    base = compare_speech.configure({}, str(corpus), 50)
    for name, changes in known.items():
        config = compare_speech.configure(changes, str(corpus), 50)
        assert (config.to_json_best_effort() != base.to_json_best_effort()) == (name != "base")
    with pytest.raises(ValueError, match="arm 'all'"):
        compare_speech.compare(
            str(corpus), tmp_path, 10, names=["all"], splits=["test"], limit=None
        )


def weights_in(config, part):
    from experiments import _recognition

    task = _recognition.make_task(config)
    shapes = jax.eval_shape(task.init, jax.random.key(0))["params"]
    return sum(
        leaf.size for name, tree in shapes.items() if part in name for leaf in jax.tree.leaves(tree)
    )


def test_simple_recurrent_arm_has_about_as_many_weights(tmp_path):
    known = compare_speech.arms(tmp_path)
    gru = weights_in(compare_speech.configure({}, "", 10), "recurrent")
    rnn = weights_in(compare_speech.configure(known["rnn"], "", 10), "recurrent")
    assert rnn == pytest.approx(gru, rel=0.15)


def test_loop_writes_what_evaluation_reads(run):
    checkpoints = training.Checkpoints(run[0] / "checkpoints", read_only=True)
    assert checkpoints.latest_step() == 4
    checkpoints.close()
