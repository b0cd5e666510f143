import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.models import Convolution, DeepSpeech2, DeepSpeech2Config

SMALL = DeepSpeech2Config(
    num_outputs=7,
    num_bands=12,
    convolutions=(Convolution(4, 5, 5, 2, 2), Convolution(6, 3, None, 1)),
    cell="gru",
    layers=2,
    units=8,
    bidirectional=False,
    lookahead=3,
    dense_units=8,
)


def paddings_of(lengths, frames):
    return jnp.asarray(np.arange(frames) >= np.asarray(lengths)[:, None], jnp.float32)


@pytest.fixture
def sound(rng):
    return jnp.asarray(rng.normal(0, 1, (2, 40, 12)), jnp.float32)


class Compiled:
    """A network whose methods are compiled: op by op they take seconds."""

    def __init__(self, config, sound, **dtypes):
        self._network = DeepSpeech2(config, **dtypes)
        zeros = jnp.zeros(sound.shape[:2])
        init = jax.jit(lambda key: self._network.init(key, sound, zeros, train=False))
        self.variables = init(jax.random.key(0))
        self.apply = jax.jit(self._network.apply, static_argnames=("train", "method", "mutable"))


def initialized(config, sound):
    network = Compiled(config, sound)
    return network, network.variables


def count(config, num_bands=161):
    network = DeepSpeech2(config)
    sound = jax.ShapeDtypeStruct((1, 8, num_bands), jnp.float32)
    paddings = jax.ShapeDtypeStruct((1, 8), jnp.float32)
    shapes = jax.eval_shape(
        lambda x, p: network.init(jax.random.key(0), x, p, train=False), sound, paddings
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_parameter_counts_are_the_published_ones():
    """Narang et al., arXiv 1704.05119: 67 and 115 million for these networks."""
    assert count(DeepSpeech2Config()) / 1e6 == pytest.approx(67, abs=1)
    gru = DeepSpeech2Config(
        cell="gru", layers=3, units=2560, bidirectional=False, lookahead=80, dense_units=2560
    )
    assert count(gru) / 1e6 == pytest.approx(115, abs=1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bidirectional": True, "lookahead": 0, "cell": "rnn"},
        {"batch_norm": False, "dense_units": 0},
        {"convolutions": (Convolution(5, 11, None, 3),)},
        {"convolutions": ()},
        {"convolutions": tuple(Convolution(3, 5, 3, 2, 2) for _ in range(3)), "layers": 1},
    ],
)
def test_padding_changes_nothing(sound, changes):
    config = dataclasses.replace(SMALL, **changes)
    network, variables = initialized(config, sound)
    length = 23
    noisy = sound.at[1, length:].set(1e3)
    logits, paddings = network.apply(variables, noisy, paddings_of([40, length], 40), train=False)
    alone, none = network.apply(variables, sound[1:, :length], jnp.zeros((1, length)), train=False)
    outputs = -(-length // config.time_stride)
    assert logits.shape == (2, -(-40 // config.time_stride), 7)
    assert (paddings[1].shape[0] - paddings[1].sum()) == outputs == none.shape[1]
    np.testing.assert_allclose(logits[1, :outputs], alone[0], atol=2e-5)


def test_padding_changes_no_statistic(sound):
    network, variables = initialized(SMALL, sound)
    paddings = paddings_of([40, 23], 40)

    def statistics(x):
        return network.apply(
            variables, x, paddings, train=True, mutable=("batch_stats",),
            rngs={"dropout": jax.random.key(0)},
        )[1]  # fmt: skip

    for a, b in zip(
        jax.tree.leaves(statistics(sound)),
        jax.tree.leaves(statistics(sound.at[1, 23:].set(1e3))),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_forward_network_looks_no_further_than_its_lookahead(sound):
    network, variables = initialized(SMALL, sound)

    def logits(x):
        return network.apply(variables, x, jnp.zeros((2, 40)), train=False)[0]

    _, right = SMALL.context
    changed = 30
    # Output t sees hidden states to t + lookahead, which see 2 * (t + lookahead) + right frames.
    last = (changed - right - 1) // 2 - SMALL.lookahead
    before, after = logits(sound), logits(sound.at[:, changed:].add(1.0))
    np.testing.assert_array_equal(before[:, : last + 1], after[:, : last + 1])
    assert (before[:, last + 1] != after[:, last + 1]).any()


def test_context_is_what_the_convolutions_see(sound):
    network, variables = initialized(SMALL, sound)
    left, right = SMALL.context

    def features(x):
        return network.apply(variables, x, jnp.zeros((2, 40)), method="convolve")[0]

    place = 10
    frame = place * SMALL.time_stride
    before = features(sound)[:, place]
    for inside, outside in ((frame - left, frame - left - 1), (frame + right, frame + right + 1)):
        assert (features(sound.at[:, inside].add(5.0))[:, place] != before).any()
        np.testing.assert_array_equal(features(sound.at[:, outside].add(5.0))[:, place], before)


def test_pieces_with_context_are_the_whole(sound):
    """Padding before a piece stands for what lies before the sound."""
    network, variables = initialized(SMALL, sound)
    left, right = (-(-side // 2) * 2 for side in SMALL.context)
    whole, _ = network.apply(variables, sound, jnp.zeros((2, 40)), method="convolve")
    padded = jnp.pad(sound, ((0, 0), (left, right), (0, 0)), constant_values=7.0)
    outside = jnp.pad(jnp.zeros((2, 40)), ((0, 0), (left, right)), constant_values=1.0)
    pieces = []
    for first in range(0, 40, 10):
        some = slice(first, first + left + 10 + right)
        piece, _ = network.apply(variables, padded[:, some], outside[:, some], method="convolve")
        pieces.append(piece[:, left // 2 : left // 2 + 5])
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, atol=1e-5)


def test_batch_norm_row_convolution_and_dropout_do_something(sound):
    zeros = jnp.zeros((2, 40))
    network, variables = initialized(dataclasses.replace(SMALL, dropout=0.5), sound)
    assert "row_convolution" in variables["params"] and "batch_stats" in variables

    def logits(key, train):
        return network.apply(
            variables, sound, zeros, train=train, rngs={"dropout": key}, mutable=("batch_stats",)
        )[0][0]

    one, two = jax.random.key(1), jax.random.key(2)
    assert (logits(one, True) != logits(two, True)).any()
    np.testing.assert_array_equal(logits(one, False), logits(two, False))
    bare = dataclasses.replace(SMALL, batch_norm=False, lookahead=0, dense_units=0)
    _, variables = initialized(bare, sound)
    assert "batch_stats" not in variables
    assert not {"row_convolution", "dense"} & set(variables["params"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "lstm"}, "cell='lstm'"),
        ({"layers": 0}, "layers=0"),
        ({"num_outputs": 1}, "num_outputs=1"),
        ({"bidirectional": True}, "lookahead=3"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"convolutions": (Convolution(2, 3), Convolution(2, 3, 3))}, "2-D"),
    ],
)
def test_wrong_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_wrong_convolutions_and_inputs_are_refused(sound):
    with pytest.raises(ValueError, match="time_stride=0"):
        Convolution(2, 3, None, 0)
    network, variables = initialized(SMALL, sound)
    with pytest.raises(ValueError, match="num_bands=12"):
        network.apply(variables, sound[..., :5], jnp.zeros((2, 40)), train=False)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_stays_near_float32(sound, dtype):
    network, variables = initialized(SMALL, sound)
    zeros = jnp.zeros((2, 40))
    exact, _ = network.apply(variables, sound, zeros, train=False)
    # Flax's batch norm mixes dtypes.
    with jax.numpy_dtype_promotion("standard"):
        half, _ = Compiled(SMALL, sound, dtype=dtype).apply(variables, sound, zeros, train=False)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, exact, atol=0.1)
    assert (half != exact).any()
