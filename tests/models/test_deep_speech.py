import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.models import DeepSpeech, DeepSpeechConfig

SMALL = DeepSpeechConfig(num_outputs=5, num_bands=6, context=2, units=8, dropout=0.0)


@pytest.fixture
def sound(rng):
    return jnp.asarray(rng.normal(0, 1, (2, 20, 6)), jnp.float32)


def initialized(config, sound):
    """A compiled `apply`, and variables."""
    network = DeepSpeech(config)
    zeros = jnp.zeros(sound.shape[:2])
    init = jax.jit(lambda key: network.init(key, sound, zeros, train=False))
    return jax.jit(network.apply, static_argnames="train"), init(jax.random.key(0))


def by_the_paper(params, frames, context):
    """Section 2 of arXiv 1412.5567, equations 1 to 3 and 5, one sequence, in float64."""

    def g(z):
        return np.minimum(np.maximum(0, z), 20)

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"]

    padded = np.pad(frames, ((context, context), (0, 0)))
    x = np.stack([padded[t : t + 2 * context + 1].ravel() for t in range(len(frames))])
    for number in range(3):
        x = g(dense(f"dense_{number}", x))
    recurrent = params["recurrent"]
    inputs = x @ recurrent["input"]["kernel"] + recurrent["input"]["bias"]
    total = np.zeros_like(inputs)
    for kernel, order in zip(recurrent["recurrent_kernel"], (1, -1), strict=True):
        hidden = np.zeros(len(kernel))
        for t in range(len(frames))[::order]:
            hidden = g(inputs[t] + hidden @ kernel)
            total[t] += hidden
    return dense("logits", g(dense("dense_3", total)))


def test_equals_the_papers_equations(sound):
    apply, variables = initialized(SMALL, sound)
    logits, _ = apply(variables, sound, jnp.zeros((2, 20)), train=False)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    for row in range(2):
        expected = by_the_paper(params, np.asarray(sound[row], np.float64), 2)
        np.testing.assert_allclose(logits[row], expected, atol=1e-4)


def test_parameter_count_of_the_paper_follows_from_its_layers():
    network = DeepSpeech(DeepSpeechConfig())
    shapes = jax.eval_shape(
        lambda: network.init(
            jax.random.key(0), jnp.zeros((1, 4, 161)), jnp.zeros((1, 4)), train=False
        )
    )
    units = 2048
    expected = (
        (19 * 161 + 1) * units  # the first layer sees 2 * 9 + 1 frames
        + 2 * (units + 1) * units  # two more dense layers
        + (units + 1) * units + 2 * units * units  # one recurrent layer, one kernel a direction
        + (units + 1) * units
        + (units + 1) * 29
    )  # fmt: skip
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected


def test_padding_changes_nothing(sound):
    apply, variables = initialized(SMALL, sound)
    paddings = jnp.asarray(np.arange(20) >= np.array([[20], [13]]), jnp.float32)
    logits, out = apply(variables, sound.at[1, 13:].set(1e3), paddings, train=False)
    alone, _ = apply(variables, sound[1:, :13], jnp.zeros((1, 13)), train=False)
    np.testing.assert_allclose(logits[1, :13], alone[0], atol=1e-5)
    np.testing.assert_array_equal(out, paddings)


def test_stride_and_dropout(sound):
    config = DeepSpeechConfig(
        num_outputs=5, num_bands=6, context=2, units=8, dropout=0.5, time_stride=2
    )
    apply, variables = initialized(config, sound)
    zeros = jnp.zeros((2, 20))
    logits, paddings = apply(variables, sound, zeros, train=False)
    assert logits.shape == (2, 10, 5) and paddings.shape == (2, 10)
    dropped = [
        apply(variables, sound, zeros, train=True, rngs={"dropout": jax.random.key(i)})[0]
        for i in range(2)
    ]
    assert (dropped[0] != dropped[1]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"units": 0}, "units=0"), ({"context": -1}, "context=-1"), ({"dropout": 1.0}, "dropout=1.0")],
)
def test_wrong_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DeepSpeechConfig(**changes)
