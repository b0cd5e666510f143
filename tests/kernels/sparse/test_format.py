"""Packing loses nothing but what rounding to 16 bits loses."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as drawn

from deepaudio.kernels import sparse
from deepaudio.kernels.sparse import PackConfig

CELLS = strategies.one_of(strategies.just(0.0), strategies.floats(-8, 8, width=16))
MATRICES = strategies.tuples(strategies.integers(1, 40), strategies.integers(1, 20)).flatmap(
    lambda shape: drawn.arrays(np.float32, shape, elements=CELLS, fill=strategies.just(0.0))
)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
@hypothesis.given(matrix=MATRICES, steps=strategies.sampled_from([4, 8, 64]))
def test_unpacked_is_what_was_packed(matrix, steps):
    hypothesis.assume(sparse.zero_share(matrix) >= sparse.MIN_SPARSITY)
    packed = sparse.pack(matrix, dtype="float16", config=PackConfig(steps))
    assert packed.shape == matrix.shape and packed.values.shape[1] == steps
    np.testing.assert_array_equal(sparse.unpack(packed), matrix)
    again = sparse.from_arrays(sparse.to_arrays(packed))
    jax.tree.map(np.testing.assert_array_equal, packed, again)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_values_are_rounded_to_their_dtype(draw, dtype):
    matrix = draw((300, 70), 0.2)
    packed = sparse.pack(matrix, dtype=dtype)
    assert packed.values.dtype == dtype
    np.testing.assert_array_equal(
        sparse.unpack(packed), matrix.astype(jnp.dtype(dtype)).astype(np.float32)
    )


@pytest.mark.parametrize("gap", [255, 256, 511, 4000, 65535])
def test_gaps_of_any_length(gap):
    matrix = np.zeros((65536, 3), np.float32)
    matrix[[0, gap], 1] = 1.0, 2.0
    matrix[gap, 2] = 3.0
    np.testing.assert_array_equal(sparse.unpack(sparse.pack(matrix)), matrix)


def test_many_outputs_and_long_ones(draw):
    """Blocks end at 128 outputs or 256 lanes; an output fills one by itself."""
    matrix = draw((1024, 400), 0.01)
    matrix[:, 7] = 1.0
    for steps in (4, 8, 32):
        packed = sparse.pack(matrix, config=PackConfig(steps))
        np.testing.assert_array_equal(sparse.unpack(packed), sparse.unpack(sparse.pack(matrix)))
        assert np.diff(packed.block_outputs).max() <= 128
        assert packed.most_lanes == 1024 // steps


def test_an_output_must_fit_a_block():
    matrix = np.zeros((2048, 10), np.float32)
    matrix[:, 0] = 1.0
    with pytest.raises(ValueError, match="steps=4 must be at least 8 for this matrix"):
        sparse.pack(matrix, config=PackConfig(4))


@pytest.mark.parametrize("density", [0.1, 0.05])
def test_about_three_bytes_a_nonzero(draw, density):
    """A twelfth of float32 at 90 %; the sizes of arXiv 1704.05119's smaller network."""
    matrix = draw((1760, 5280), density)
    packed = sparse.pack(matrix)
    per_nonzero = packed.nbytes / np.count_nonzero(matrix)
    assert 3.0 < per_nonzero < 3.6
    assert matrix.nbytes / packed.nbytes > 8


def test_steps_suit_the_outputs():
    def choose(*nonzeros):
        return PackConfig.choose(np.array(nonzeros)).steps

    assert choose(*[256] * 1000) == 32
    assert choose(*[100] * 1000) == 16
    # One lane of 8 each would leave half of a block empty, as it holds 128 outputs.
    assert choose(*[5] * 1000) == 4
    assert choose(0, 0) == 4
    # Lanes of 32 would be more than a block of 256 for the last.
    assert choose(*[30] * 1000, 9000) == 64


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        (np.zeros(3, np.float32), {}, r"must be \(inputs, outputs\) of at least 1, not \(3,\)"),
        (np.zeros((0, 3), np.float32), {}, r"of at least 1, not \(0, 3\)"),
        (np.zeros((2, 3), np.int32), {}, "must be of floats, not int32"),
        (np.zeros((65537, 1), np.float32), {}, "inputs=65537 must be at most 65536"),
        (np.array([[0, 0, np.nan, 0]], np.float32), {}, r"matrix\[0, 2\] = nan must be a number"),
        (np.array([[0, 1e6, 0, 0]], np.float32), {"dtype": "float16"}, r"\[0, 1\] = 1000000.0"),
        (np.zeros((2, 3), np.float32), {"dtype": "int8"}, "dtype='int8' must be one of bfloat16"),
    ],
)
def test_bad_matrices(matrix, options, message):
    with pytest.raises(ValueError, match=message):
        sparse.pack(matrix, **options)


def test_bad_steps():
    with pytest.raises(ValueError, match="steps=12 must be a power of two from 4 to 256"):
        PackConfig(12)


def damaged(name, change):
    matrix = np.zeros((300, 10), np.float32)
    matrix[[5, 250], 3] = 1.0
    arrays = sparse.to_arrays(sparse.pack(matrix))
    arrays[name] = change(arrays[name])
    return arrays


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("deltas", lambda x: x + np.uint8(200), "a value of input"),
        ("pages", lambda x: x + np.uint8(9), "a value of input"),
        ("pages", lambda x: x[:, :9], r"pages must be \(1, 256\) uint8, not \(1, 9\)"),
        ("num_lanes", lambda x: 0 * x, "num_lanes must be"),
        ("num_lanes", lambda x: np.repeat(x, 30), "outputs of 3 blocks, but values of 1"),
        ("values_bfloat16", lambda x: x[:, :3], "steps=3 must be"),
        ("values_float16", lambda x: x, "no packed matrix"),
    ],
)
def test_damaged_arrays_are_refused(name, change, message):
    """Indices outside would read other memory: products do not look."""
    if name == "values_float16":
        arrays = damaged("deltas", lambda x: x)
        arrays[name] = arrays["values_bfloat16"]
    else:
        arrays = damaged(name, change)
    with pytest.raises(ValueError, match=message):
        sparse.from_arrays(arrays)
