"""The network against the published table, and its layers against brute force."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.models import OnsetsAndFrames, OnsetsAndFramesConfig
from deepaudio.models._layers import BiLSTM, max_pool_frequency
from deepaudio.models.onsets_and_frames import Logits

TINY = OnsetsAndFramesConfig(
    num_bands=16, channels=(2, 3, 4), dense_units=8, lstm_units=5, offset_head=True
)


def _variables(config):
    network = OnsetsAndFrames(config)
    spectrogram = jnp.zeros((1, 3, config.num_bands))
    key = jax.random.key(0)
    return jax.eval_shape(lambda key: network.init(key, spectrogram, train=False), key)


def _count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _stack_parameters(channels, dense):
    first, second, third = channels
    kernels = 9 * (first + first * second + second * third)
    norms = 2 * sum(channels)
    return kernels + norms + (229 // 2 // 2) * third * dense + dense


def _lstm_parameters(inputs, units):
    return 2 * 4 * (inputs * units + units * units + units)


def _keys_parameters(inputs):
    return inputs * 88 + 88


def test_parameter_count_of_the_paper():
    # Three stacks 32/32/64 -> 512; BiLSTM 128 on onsets and on [onset, activation].
    expected = (
        3 * _stack_parameters((32, 32, 64), 512)
        + _lstm_parameters(512, 128)
        + _lstm_parameters(2 * 88, 128)
        + 2 * _keys_parameters(256)  # onsets, frames
        + 2 * _keys_parameters(512)  # activation, velocities
    )
    assert _count(_variables(OnsetsAndFramesConfig())["params"]) == expected


def test_parameter_count_of_the_follow_up():
    config = OnsetsAndFramesConfig(
        channels=(48, 48, 96), dense_units=768, lstm_units=256, offset_head=True
    )
    expected = (
        4 * _stack_parameters((48, 48, 96), 768)
        + 2 * _lstm_parameters(768, 256)
        + _lstm_parameters(3 * 88, 256)
        + 3 * _keys_parameters(512)
        + 2 * _keys_parameters(768)
    )
    assert _count(_variables(config)["params"]) == expected


def test_shared_convolutions_are_one_stack_with_a_dense_layer_a_head():
    shared = _variables(dataclasses.replace(TINY, shared_convolutions=True))["params"]
    separate = _variables(TINY)["params"]
    assert sum("convolutions" in name for name in shared) == 1
    assert sum("convolutions" in name for name in separate) == 4
    assert sum("features" in name for name in shared) == 4


def _frame_gradient(config):
    """The gradient of the frame logits' sum, by module."""
    network = OnsetsAndFrames(config)
    spectrogram = jax.random.uniform(jax.random.key(1), (2, 6, config.num_bands))
    variables = network.init(jax.random.key(0), spectrogram, train=False)

    def frames(params):
        return network.apply({**variables, "params": params}, spectrogram, train=False).frames.sum()

    gradient = jax.grad(frames)(variables["params"])
    return {
        name: float(sum(jnp.abs(g).sum() for g in jax.tree.leaves(tree)))
        for name, tree in gradient.items()
    }


def test_frames_are_conditioned_on_onsets_and_offsets():
    gradient = _frame_gradient(TINY)
    assert gradient["onset_lstm"] > 0
    assert gradient["offset_lstm"] > 0
    assert gradient["velocity_keys"] == 0


def test_stopped_gradient_leaves_the_other_heads_alone():
    gradient = _frame_gradient(dataclasses.replace(TINY, stop_gradient=True))
    assert gradient["onset_lstm"] == gradient["offset_lstm"] == gradient["onset_convolutions"] == 0
    assert gradient["frame_convolutions"] > 0


def test_frames_only_has_no_other_head():
    config = dataclasses.replace(TINY, onset_head=False, offset_head=False, velocity_head=False)
    network = OnsetsAndFrames(config)
    spectrogram = jnp.zeros((1, 4, 16))
    variables = network.init(jax.random.key(0), spectrogram, train=False)
    logits = network.apply(variables, spectrogram, train=False)
    assert logits.onsets is None and logits.offsets is None and logits.velocities is None
    assert logits.frames.shape == (1, 4, 88)


def _logits_with_deaf_recurrence(config):
    """Onset and frame logits of noise when no recurrent layer's output counts."""
    network = OnsetsAndFrames(config)
    spectrogram = jax.random.uniform(jax.random.key(1), (1, 9, config.num_bands))
    variables = network.init(jax.random.key(0), spectrogram, train=False)
    params = {**variables["params"]}
    for name in ("onset_keys", "frame_keys"):
        params[name] = jax.tree.map(jnp.zeros_like, params[name])
    if config.direct:
        # The linear reading starts from zero, so give it something to say.
        kernel = params["frame_linear"]["kernel"]
        params["frame_linear"] = {**params["frame_linear"], "kernel": jnp.ones_like(kernel)}
    apply = jax.jit(lambda x: network.apply({**variables, "params": params}, x, train=False))
    return apply, spectrogram


def test_direct_logits_do_not_need_the_recurrent_layers():
    apply, spectrogram = _logits_with_deaf_recurrence(TINY)
    assert not np.asarray(apply(spectrogram).frames).any()

    apply, spectrogram = _logits_with_deaf_recurrence(dataclasses.replace(TINY, direct=True))
    assert np.asarray(apply(spectrogram).onsets).std() > 0
    # The linear reading sees two frames to either side, the stack's convolutions three.
    changed = apply(spectrogram.at[0, 4].add(1.0)).frames - apply(spectrogram).frames
    np.testing.assert_array_equal(np.abs(changed[0]).max(axis=-1) > 0, [0, 1, 1, 1, 1, 1, 1, 1, 0])


def test_key_by_key_treats_every_key_alike():
    """Permuting the keys of what the frame head hears permutes what it says."""
    config = dataclasses.replace(TINY, key_lstm_units=3, direct=True)
    network = OnsetsAndFrames(config)
    spectrogram = jax.random.uniform(jax.random.key(1), (2, 7, config.num_bands))
    variables = network.init(jax.random.key(0), spectrogram, train=False)
    assert "frame_lstm" not in variables["params"]
    params = {**variables["params"]}
    kernel = params["key_out"]["kernel"]
    params["key_out"] = {**params["key_out"], "kernel": jnp.ones_like(kernel)}
    order = np.random.default_rng(0).permutation(88)

    def permuted(tree, name):
        return jax.tree.map(lambda leaf: leaf[..., order], tree) if name in heads else tree

    heads = [
        f"{head}_{kind}"
        for head in ("onset", "offset", "frame")
        for kind in ("keys", "direct_keys", "linear")
    ]
    shuffled = {name: permuted(tree, name) for name, tree in params.items()}

    def logits(params):
        return network.apply({**variables, "params": params}, spectrogram, train=False)

    straight, changed = logits(params), logits(shuffled)
    deaf = logits({**params, "key_out": variables["params"]["key_out"]})
    for name in ("frames", "offsets"):
        assert np.abs(getattr(straight, name) - getattr(deaf, name)).max() > 0.1
        np.testing.assert_allclose(
            getattr(changed, name), getattr(straight, name)[..., order], atol=1e-5
        )


@pytest.mark.parametrize("option", ["band_norm", "dense_norm"])
def test_norms_make_loudness_and_offset_not_matter(option):
    """Batch norm at the input or the dense layer cancels a common scale of what it normalizes."""
    network = OnsetsAndFrames(
        dataclasses.replace(TINY, **{option: True}, dense_dropout=0.0, conv_dropout=0.0)
    )
    spectrogram = jax.random.uniform(jax.random.key(1), (2, 30, 16))
    variables = network.init(jax.random.key(0), spectrogram, train=False)
    if option == "band_norm":
        louder, altered = 3.0 * spectrogram + 1.0, variables
    else:
        params = {**variables["params"]}
        features = {**params["frame_features"]}
        features["Dense_0"] = jax.tree.map(lambda leaf: 3.0 * leaf, features["Dense_0"])
        louder = spectrogram
        altered = {**variables, "params": {**params, "frame_features": features}}

    def frames(variables, x):
        return network.apply(variables, x, train=True, mutable=["batch_stats"])[0].frames

    np.testing.assert_allclose(frames(altered, louder), frames(variables, spectrogram), atol=2e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@jax.numpy_dtype_promotion("standard")  # flax's batch norm mixes half with float32 statistics
def test_half_precision_computes_in_half_and_sums_in_float32(dtype):
    """Every product of matrices is of half-precision operands; parameters and logits are not."""
    config = dataclasses.replace(
        TINY, key_lstm_units=3, direct=True, band_norm=True, dense_norm=True
    )
    spectrogram = jax.random.uniform(jax.random.key(1), (2, 7, 16))
    half, single = OnsetsAndFrames(config, dtype=dtype), OnsetsAndFrames(config)
    variables = single.init(jax.random.key(0), spectrogram, train=False)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))

    def logits(network, variables):
        return network.apply(variables, spectrogram, train=False)

    jaxpr = str(jax.make_jaxpr(functools.partial(logits, half))(variables))
    products = [line for line in jaxpr.splitlines() if " dot_general[" in line or " conv_" in line]
    short = "f16" if dtype == jnp.float16 else "bf16"
    assert len(products) >= 10
    assert all(f":{short}[" in line.split("=")[0] for line in products)
    for name, a, b in zip(
        Logits._fields, logits(half, variables), logits(single, variables), strict=True
    ):
        assert a.dtype == jnp.float32, name
        np.testing.assert_allclose(a, b, atol=0.1)
        assert np.abs(a - b).max() > 0, name


def test_lstm_keeps_its_cell_in_the_accumulation_dtype():
    """A cell that gains one a frame stands still at 256 in bfloat16, as 257 rounds to 256.

    Its output gate, zero but for the last frame, shows nothing; there tanh would hide the sum, so
    the candidate takes it down again by 300 frames of minus one: 0 remains, or less than 0.
    """
    x = jnp.concatenate([jnp.ones((1, 300, 1)), -jnp.ones((1, 300, 1))], axis=1)

    def last_output(accumulation_dtype):
        layer = BiLSTM(1, dtype=jnp.bfloat16, accumulation_dtype=accumulation_dtype)
        params = jax.tree.map(jnp.zeros_like, layer.init(jax.random.key(0), x)["params"])
        # Gates (i, f, o) wide open by their bias; the candidate g is the sign of the input.
        params["bias"] = jnp.tile(jnp.array([20.0, 20.0, 0.0, 20.0]), (2, 1))
        params["input_kernel"] = params["input_kernel"].at[:, 0, 2].set(20.0)
        return float(layer.apply({"params": params}, x)[0, -1, 0])

    assert last_output(jnp.float32) == 0.0
    assert last_output(jnp.bfloat16) < -0.99


def test_wrong_number_of_bands_is_said():
    with pytest.raises(ValueError, match="num_bands"):
        OnsetsAndFrames(TINY).init(jax.random.key(0), jnp.zeros((1, 4, 15)), train=False)


@pytest.mark.parametrize(("bands", "size"), [(12, 2), (13, 2), (11, 3)])
def test_max_pool_is_the_maximum_of_windows(bands, size, rng):
    x = rng.standard_normal((2, 3, bands, 4)).astype(np.float32)
    expected = np.stack(
        [x[:, :, i * size : (i + 1) * size].max(axis=2) for i in range(bands // size)], axis=2
    )
    np.testing.assert_array_equal(max_pool_frequency(jnp.asarray(x), size), expected)


def _reference_lstm(x, input_kernel, recurrent_kernel, bias):
    """One direction of one sequence, from the equations."""

    def sigmoid(z):
        return 1.0 / (1.0 + np.exp(-z))

    units = recurrent_kernel.shape[0]
    hidden, cell, outputs = np.zeros(units), np.zeros(units), []
    for frame in x.astype(np.float64):
        i, f, g, o = np.split(frame @ input_kernel + hidden @ recurrent_kernel + bias, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.array(outputs)


def test_lstm_follows_its_equations_in_both_directions(rng):
    x = rng.standard_normal((2, 7, 3)).astype(np.float32)
    layer = BiLSTM(5)
    variables = layer.init(jax.random.key(0), jnp.asarray(x))
    params = {name: np.asarray(value, np.float64) for name, value in variables["params"].items()}
    outputs = layer.apply(variables, jnp.asarray(x))
    for row in range(2):
        pairs = [
            (params["input_kernel"][d], params["recurrent_kernel"][d], params["bias"][d])
            for d in (0, 1)
        ]
        forward = _reference_lstm(x[row], *pairs[0])
        backward = _reference_lstm(x[row, ::-1], *pairs[1])[::-1]
        expected = np.concatenate([forward, backward], axis=1)
        np.testing.assert_allclose(outputs[row], expected, atol=1e-6)


def test_lstm_starts_with_memories_up_to_the_longest():
    """A unit that hears nothing keeps 1 - 1/T of its cell a frame."""
    layer = BiLSTM(5, longest_memory=50.0)
    bias = layer.init(jax.random.key(0), jnp.zeros((1, 2, 3)))["params"]["bias"]
    i, f, g, o = np.split(np.asarray(bias[1], np.float64), 4)
    memory = 1.0 / (1.0 - 1.0 / (1.0 + np.exp(-f)))
    np.testing.assert_allclose(memory, 2.0 * 25.0 ** (np.arange(5) / 4), rtol=1e-5)
    np.testing.assert_array_equal(i, -f)
    assert not g.any() and not o.any()


def test_lstm_starts_remembering_and_orthogonal():
    params = BiLSTM(4).init(jax.random.key(0), jnp.zeros((1, 2, 3)))["params"]
    np.testing.assert_array_equal(params["bias"][0], np.repeat([0.0, 1.0, 0.0, 0.0], 4))
    for direction in (0, 1):
        for block in np.split(np.asarray(params["recurrent_kernel"][direction]), 4, axis=1):
            np.testing.assert_allclose(block.T @ block, np.eye(4), atol=1e-5)
