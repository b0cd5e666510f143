import jax
import jax.numpy as jnp
import pytest

from experiments import _optimizer, _recognition, _systems
from experiments.configs import deep_speech, deep_speech_2

MODULES = {"deep_speech": deep_speech, "deep_speech_2": deep_speech_2}
VARIANTS = [(module, name) for module in MODULES for name in MODULES[module].VARIANTS]


def configured(module, name):
    config = MODULES[module].get_config(name)
    if config.alphabet.kind == "characters":
        config.alphabet.characters = "我们他的"
    return config


@pytest.mark.parametrize(("module", "name"), VARIANTS)
def test_every_variant_is_a_network_and_an_optimizer(module, name):
    config = configured(module, name)
    assert _systems.of(config) is _recognition
    task = _recognition.make_task(config)
    _optimizer.make_optimizer(config, lambda: 0.1)
    # Buckets are whole frames, or the spectrogram would leave some of the sound out.
    front_end = task.config.front_end
    for seconds in config.buckets:
        assert round(seconds * front_end.sample_rate) % front_end.hop_length == 0


@pytest.mark.parametrize(("module", "name"), [v for v in VARIANTS if v[1].startswith("paper")])
def test_a_step_of_the_papers_size_has_its_shapes(module, name):
    task = _recognition.make_task(configured(module, name))
    shape = jax.ShapeDtypeStruct
    batch = {
        "samples": shape((2, 64_000), jnp.float32),
        "num_samples": shape((2,), jnp.int32),
        "labels": shape((2, 50), jnp.int32),
        "num_labels": shape((2,), jnp.int32),
    }
    variables = jax.eval_shape(task.init, jax.random.key(0))
    state = {k: v for k, v in variables.items() if k != "params"}
    with jax.numpy_dtype_promotion("standard"):
        loss, (metrics, _) = jax.eval_shape(
            task.loss, variables["params"], state, batch, jax.random.key(0)
        )
    assert loss.shape == () and set(metrics) == {"loss/total", "loss/dropped"}
    log_probs, frames = jax.eval_shape(
        task.log_probs, variables, batch["samples"], batch["num_samples"]
    )
    # Four seconds of frames of 10 ms, every second of which has an output.
    assert log_probs.shape == (2, 200, 29) and frames.shape == (2,)


def test_unknown_variants_alphabets_and_tasks_are_named():
    for module in MODULES.values():
        with pytest.raises(ValueError, match="variant='large'"):
            module.get_config("large")
    config = deep_speech_2.get_config("smoke")
    config.alphabet.kind = "runes"
    with pytest.raises(ValueError, match="kind='runes'"):
        _recognition.make_task(config)
    config.task = "juggling"
    with pytest.raises(ValueError, match="task='juggling'"):
        _systems.of(config)
