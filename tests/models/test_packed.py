"""Packed weights: what is packed, files of them, and networks that run on them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels.sparse import PackedMatrix
from deepaudio.models import (
    Convolution,
    DeepSpeech2,
    DeepSpeech2Config,
    RecurrentLayer,
    WeightsError,
    load_weights,
    pack_weights,
    runnable_weights,
    save_weights,
    unpack_weights,
)

CONFIG = DeepSpeech2Config(
    num_outputs=5,
    num_bands=8,
    convolutions=(Convolution(4, 5, None, 2),),
    cell="gru",
    layers=2,
    units=24,
    bidirectional=False,
    lookahead=2,
    dense_units=16,
)


def pruned(variables, share=0.9):
    """Matrices' smallest values set to zero, and all others to what float16 holds."""

    def prune(leaf):
        leaf = np.asarray(leaf, np.float16).astype(np.float32)
        if leaf.ndim not in (2, 3) or leaf.shape[-1] == 5:
            return leaf
        return np.where(np.abs(leaf) > np.quantile(np.abs(leaf), share), leaf, 0.0)

    return {**variables, "params": jax.tree.map(prune, variables["params"])}


def drawn(module, *args, share=0.9, **options):
    """Pruned variables of a module; its own first ones take seconds to compile."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(functools.partial(module.init, **options), jax.random.key(0), *args)
    found = jax.tree.map(lambda s: rng.normal(0, 0.4, s.shape).astype(np.float32), shapes)
    if "batch_stats" in found:
        found["batch_stats"] = jax.tree.map(np.abs, found["batch_stats"])
    return pruned(found, share)


@pytest.fixture(scope="module")
def variables():
    return drawn(DeepSpeech2(CONFIG), jnp.zeros((1, 4, 8)), jnp.zeros((1, 4)), train=False)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_pruned_matrices_are_packed_and_come_back(variables):
    packed = pack_weights(variables)
    assert set(packed) == {"params", "batch_stats", "packed"}
    first = packed["packed"]["recurrent_0"]
    assert isinstance(first["recurrent_kernel"], tuple) and len(first["recurrent_kernel"]) == 1
    assert isinstance(first["input"]["kernel"], PackedMatrix)
    # Neither dense matrices nor convolutions: these have another collection's fast product.
    assert "logits" not in packed["packed"] and "convolution_0" not in packed["packed"]
    assert "recurrent_kernel" not in packed["params"]["recurrent_0"]
    # float16 is what the weights had.
    assert_same(unpack_weights(packed), variables)


def test_only_recurrent_matrices_run_packed(variables):
    found = runnable_weights(pack_weights(variables))
    kernels = jax.tree.leaves(found["packed"], is_leaf=lambda leaf: isinstance(leaf, PackedMatrix))
    assert len(kernels) == CONFIG.layers
    assert set(found["packed"]["recurrent_0"]) == {"recurrent_kernel"}
    assert "kernel" in found["params"]["recurrent_0"]["input"]


def test_a_dense_model_is_told_of_and_stays(variables):
    dense = {"params": {"a": {"kernel": np.ones((3, 4))}}}
    with pytest.warns(UserWarning, match="no matrix of the model is 70 % zero .*at most 0.0 %"):
        assert pack_weights(dense) is dense
    assert unpack_weights(dense) == dense == runnable_weights(dense)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_files(variables, tmp_path, dtype):
    packed = pack_weights(variables, dtype=dtype)
    # A stack of which one matrix stays dense.
    packed["packed"]["recurrent_0"]["recurrent_kernel"] += (np.ones((24, 72), np.float32),)
    path = tmp_path / "packed.safetensors"
    save_weights(path, packed, {"a": 1})
    found, config = load_weights(path)
    assert config == {"a": 1}
    assert_same(found, packed)


def test_a_packed_file_is_small(tmp_path):
    """arXiv 1704.05119: 8 times smaller than float32; here more than 10 of one matrix."""
    rng = np.random.default_rng(0)
    kernel = np.where(rng.random((1, 512, 1536)) < 0.1, rng.normal(0, 1, (1, 512, 1536)), 0.0)
    dense = {"params": {"recurrent_kernel": kernel.astype(np.float32)}}
    paths = [tmp_path / name for name in ("dense.safetensors", "packed.safetensors")]
    save_weights(paths[0], dense, {})
    save_weights(paths[1], pack_weights(dense), {})
    large, small = (path.stat().st_size for path in paths)
    # A bit a nonzero goes to lanes that are not full, and to the numbers of lanes.
    assert large / small > 10


def test_damaged_packed_matrices_are_refused(variables, tmp_path):
    path = tmp_path / "packed.safetensors"
    packed = pack_weights(variables)
    del packed["packed"]["recurrent_0"]
    save_weights(path, packed, {})
    text = path.read_bytes()
    for old, new in ((b"/num_lanes", b"/num_planes"[:10]), (b"/deltas", b"/detlas")):
        path.write_bytes(text.replace(old, new))
        with pytest.raises(WeightsError, match="damaged packed matrices"):
            load_weights(path)


@pytest.mark.parametrize(
    ("cell", "bidirectional", "batch"),
    [("rnn", False, 1), ("rnn", True, 2), ("gru", True, 1), ("gru", False, 9)],
)
def test_packed_layers_have_the_states_of_dense_ones(rng, cell, bidirectional, batch):
    """More sequences than a packed product takes at once, too."""
    layer = RecurrentLayer(32, cell, bidirectional)
    inputs = jnp.asarray(rng.normal(0, 1, (batch, 6, 5)), jnp.float32)
    paddings = jnp.asarray(np.arange(6) >= rng.integers(3, 7, (batch, 1)), jnp.float32)
    variables = drawn(layer, inputs, paddings, share=0.8)
    run = jax.jit(layer.apply)
    expected = run(variables, inputs, paddings)
    packed = runnable_weights(pack_weights(variables))
    assert len(packed["packed"]["recurrent_kernel"]) == 1 + bidirectional
    found = run(packed, inputs, paddings)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_packed_network_has_the_logits_of_the_dense_one(variables, rng):
    network = DeepSpeech2(CONFIG)
    spectrogram = jnp.asarray(rng.normal(0, 1, (2, 20, 8)), jnp.float32)
    paddings = jnp.asarray(np.arange(20) >= np.array([[20], [13]]), jnp.float32)

    @jax.jit
    def run(variables):
        return network.apply(variables, spectrogram, paddings, train=False)[0]

    found, expected = run(runnable_weights(pack_weights(variables))), run(variables)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    without = jax.tree.map(jnp.zeros_like, variables["params"]["recurrent_1"]["recurrent_kernel"])
    variables["params"]["recurrent_1"]["recurrent_kernel"] = without
    assert np.abs(run(variables) - expected).max() > 1e-3, "the recurrence counts"


def test_half_precision_networks_run_packed(rng):
    layer = RecurrentLayer(16, "gru", batch_norm=False, dtype=jnp.bfloat16)
    inputs = jnp.asarray(rng.normal(0, 1, (1, 5, 3)), jnp.float32)
    paddings = jnp.zeros((1, 5))
    variables = drawn(layer, inputs, paddings)
    found, expected = (
        jax.jit(layer.apply)(v, inputs, paddings)[0]
        for v in (runnable_weights(pack_weights(variables, dtype="bfloat16")), variables)
    )
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected.astype(jnp.float32), atol=2e-2)
