import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepaudio import audio, losses
from deepaudio.data.alphabet import Alphabet
from deepaudio.data.spec_augment import SpecAugmentConfig
from deepaudio.models import Convolution, DeepSpeech2Config, DeepSpeechConfig
from deepaudio.tasks.recognition import RecognitionConfig, RecognitionTask

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
        dense_units=0,
    ),
    alphabet=Alphabet(tuple("ab ")),
)


@pytest.fixture(scope="module")
def task():
    return RecognitionTask(CONFIG)


@pytest.fixture(scope="module")
def variables(task):
    return jax.jit(task.init)(jax.random.key(0))


@pytest.fixture
def batch(rng):
    return {
        "samples": rng.normal(0, 0.1, (3, 4000)).astype(np.float32),
        "num_samples": np.array([4000, 3000, 1600], np.int32),
        "labels": np.array([[1, 2, 3, 1], [2, 1, 0, 0], [1, 0, 0, 0]], np.int32),
        "num_labels": np.array([4, 2, 1], np.int32),
    }


def loss_of(task, variables, batch):
    state = {k: v for k, v in variables.items() if k != "params"}
    total, (metrics, _) = jax.jit(task.loss)(variables["params"], state, batch, jax.random.key(1))
    return float(total), jax.tree.map(float, metrics)


def test_loss_is_ctc_a_unit_over_the_utterances_that_count(task, variables, batch):
    total, metrics = loss_of(task, variables, batch)
    state = {"batch_stats": variables["batch_stats"]}
    spectrogram, paddings = task.spectrogram(batch["samples"], batch["num_samples"])
    (logits, paddings), _ = task.network.apply(
        {"params": variables["params"], **state}, spectrogram, paddings, train=True,
        rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"],
    )  # fmt: skip
    label_paddings = np.arange(4) >= batch["num_labels"][:, None]
    each = losses.ctc_loss(
        logits, paddings, batch["labels"], jnp.asarray(label_paddings, jnp.float32)
    )
    assert total == pytest.approx(float(each.sum()) / 7, rel=1e-5)
    assert metrics == {"loss/total": total, "loss/dropped": 0.0}


def test_utterances_that_cannot_count_do_not(task, variables, batch):
    """One without a label, one with more units than frames: as if they were not there."""
    changed = {k: v.copy() for k, v in batch.items()}
    changed["num_labels"][1] = 0
    changed["num_samples"][2] = 150  # two frames of the spectrogram, one output
    changed["labels"][2, :2] = 1
    changed["num_labels"][2] = 2
    total, metrics = loss_of(task, variables, changed)
    assert metrics["loss/dropped"] == 2.0
    assert np.isfinite(total)
    gradient = jax.grad(lambda p: task.loss(p, {"batch_stats": variables["batch_stats"]}, changed,
                                            jax.random.key(1))[0])  # fmt: skip
    for leaf in jax.tree.leaves(jax.jit(gradient)(variables["params"])):
        assert np.isfinite(leaf).all()


def test_frames_cover_the_sound(task, batch):
    spectrogram, paddings = task.spectrogram(batch["samples"], np.array([4000, 3041, 1]))
    assert spectrogram.shape == (3, 50, 8)
    np.testing.assert_array_equal((1 - paddings).sum(axis=1), [50, 39, 1])
    silent, _ = task.spectrogram(np.zeros((1, 800), np.float32), np.array([800]))
    np.testing.assert_array_equal(silent, 0.0)


def test_log_probs_are_those_of_each_sound_alone(task, variables, batch):
    function = jax.jit(functools.partial(task.log_probs, variables))
    values, frames = function(batch["samples"], batch["num_samples"])
    np.testing.assert_allclose(np.exp(values).sum(-1), 1.0, rtol=1e-5)
    samples = batch["samples"][1:2, :3040].copy()
    samples[:, 3000:] = 0.0
    cut = batch["samples"].copy()
    cut[1, 3000:] = 0.0
    values, frames = function(cut, batch["num_samples"])
    alone, count = function(samples, batch["num_samples"][1:2])
    assert frames[1] == count[0] == 19
    np.testing.assert_allclose(values[1, :19], alone[0, :19], atol=1e-5)


def test_masks_reach_the_network_in_training_only(variables, batch, task):
    masks = SpecAugmentConfig(frequency_masks=2, frequency_width=8, time_masks=2, time_width=40)
    masking = RecognitionTask(dataclasses.replace(CONFIG, spec_augment=masks))
    assert loss_of(masking, variables, batch)[0] != loss_of(task, variables, batch)[0]
    for each in (task, masking):
        values, _ = each.log_probs(variables, batch["samples"], batch["num_samples"])
        expected, _ = task.log_probs(variables, batch["samples"], batch["num_samples"])
        np.testing.assert_array_equal(values, expected)


def test_it_learns_one_batch_by_heart(task, variables, batch):
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = {"batch_stats": variables["batch_stats"]}
    key = jax.random.key(1)

    @jax.jit
    def step(params, opt_state):
        gradient = jax.grad(lambda p: task.loss(p, state, batch, key)[0])(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = variables["params"], optimizer.init(variables["params"])
    before = loss_of(task, variables, batch)[0]
    for _ in range(60):
        params, opt_state = step(params, opt_state)
    assert loss_of(task, {"params": params, **state}, batch)[0] < 0.2 * before


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        RecognitionConfig(),
        dataclasses.replace(CONFIG, spec_augment=SpecAugmentConfig(), precision="bfloat16"),
        RecognitionConfig(model=DeepSpeechConfig(units=8)),
    ],
)
def test_configuration_survives_json(config):
    import json

    assert RecognitionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="8 bands"):
        RecognitionTask(
            dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, num_bands=9))
        )
    with pytest.raises(ValueError, match="4 symbols"):
        RecognitionTask(
            dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, num_outputs=5))
        )
