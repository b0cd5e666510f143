"""Products of both implementations against the dense product in float64, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import sparse
from deepaudio.kernels.sparse import PackConfig, mosaic_gpu

FOUR = PackConfig(4)


class TestEveryImplementation:
    def test_equals_the_dense_product(self, multiply, check, draw):
        """Of several blocks, with outputs that are empty and one that is full."""
        matrix = draw((264, 170), 0.1)
        matrix[:, 3:30] = 0.0
        matrix[:, 40] = 1.5
        packed = sparse.pack(matrix, config=PackConfig(8))
        assert packed.values.shape[0] > 1
        check(multiply, packed, 1)

    def test_several_vectors(self, multiply, check, draw):
        """Of a length that no bulk copy takes as it is."""
        check(multiply, sparse.pack(draw((150, 20), 0.1), dtype="float16", config=FOUR), 3)

    def test_a_matrix_of_nothing(self, multiply):
        packed = sparse.pack(np.zeros((12, 130), np.float32), config=FOUR)
        assert packed.values.shape[0] == 2, "128 outputs a block"
        np.testing.assert_array_equal(multiply(packed, jnp.ones((1, 12))), np.zeros((1, 130)))


@pytest.mark.parametrize("batch", range(1, 9))
def test_every_batch(check, draw, batch):
    check(sparse.matvec, sparse.pack(draw((130, 90), 0.1), config=FOUR), batch)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 129), (1023, 257), (4096, 3)])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.29])
def test_odd_sizes(check, draw, shape, density):
    matrix = draw(shape, density)
    if sparse.zero_share(matrix) < sparse.MIN_SPARSITY:
        matrix[:] = 0.0  # by chance a small one may hold too many
    check(sparse.matvec, sparse.pack(matrix), 2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_vectors(rng, draw, dtype):
    packed = sparse.pack(draw((100, 50), 0.1))
    vectors = jnp.asarray(rng.normal(0, 1, (2, 100)), dtype)
    found = sparse.matvec(packed, vectors)
    expected = np.asarray(vectors, np.float64) @ sparse.unpack(packed)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_dense_matrix_is_told_of_and_stays(rng, draw):
    matrix = draw((60, 40), 0.5)
    with pytest.warns(UserWarning, match=r"\(60, 40\) is [45].\.. % zero.* below 70 %: it stays"):
        dense = sparse.pack(matrix)
    assert isinstance(dense, jax.Array)
    vectors = rng.normal(0, 1, (2, 60)).astype(np.float32)
    with jax.default_matmul_precision("highest"):  # GPUs round to 10 bits by themselves
        found = sparse.matvec(dense, vectors)
    np.testing.assert_allclose(found, vectors @ matrix, rtol=1e-5, atol=1e-5)


def test_inside_jit_and_scan(rng, draw):
    """A recurrence: the packed matrix is an argument, and its steps read it again and again."""
    packed = sparse.pack(draw((48, 48), 0.1))
    start = rng.normal(0, 1, (1, 48)).astype(np.float32)

    @jax.jit
    def run(packed, start):
        return jax.lax.scan(lambda h, _: (jnp.tanh(sparse.matvec(packed, h)), None), start, None, 5)

    expected = start
    for _ in range(5):
        expected = np.tanh(expected @ sparse.unpack(packed))
    np.testing.assert_allclose(run(packed, start)[0], expected, rtol=1e-4, atol=1e-5)


def test_there_is_no_gradient(draw):
    packed = sparse.pack(draw((30, 20), 0.1))
    with pytest.raises(TypeError, match="for inference and has no gradient"):
        jax.grad(lambda x: sparse.matvec(packed, x).sum())(jnp.ones((1, 30)))


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        (np.ones((1, 31), np.float32), {}, r"vectors must be \(batch, 30\), not \(1, 31\)"),
        (np.ones(30, np.float32), {}, r"vectors must be \(batch, 30\), not \(30,\)"),
        (np.ones((9, 30), np.float32), {}, "batch=9 must be from 1 to 8"),
        (np.ones((0, 30), np.float32), {}, "batch=0 must be from 1 to 8"),
        (np.ones((1, 30), np.int32), {}, "float32, bfloat16, float16, not int32"),
        (
            np.ones((1, 30), np.float32),
            {"implementation": "triton"},
            "implementation='triton' must be one of xla, mosaic_gpu",
        ),
    ],
)
def test_bad_arguments(draw, vectors, options, message):
    packed = sparse.pack(draw((30, 20), 0.1))
    with pytest.raises(ValueError, match=message):
        sparse.matvec(packed, vectors, **options)


def test_the_gpu_kernel_says_what_its_memory_holds(draw):
    packed = sparse.pack(draw((10000, 2), 0.001))
    assert mosaic_gpu.fits(packed, 4) and not mosaic_gpu.fits(packed, 8)
    with pytest.raises(ValueError, match=r"8 vectors of 10000 and lanes of .* at most 231424: use"):
        mosaic_gpu.matvec(packed, jnp.ones((8, 10000)))
    with pytest.raises(ValueError, match="steps=8 must be a multiple of chunk=16"):
        mosaic_gpu.matvec(
            sparse.pack(draw((30, 20), 0.1), config=PackConfig(8)),
            jnp.ones((1, 30)),
            config=sparse.KernelConfig(chunk=16),
        )


@pytest.mark.parametrize("inputs", [1760, 2560, 4, 7, 1021, 65536])
def test_vectors_are_cut_for_bulk_copies(rng, inputs):
    """No side over 256, rows of a multiple of 16 bytes, and nothing lost."""
    vectors = rng.normal(0, 1, (2, inputs)).astype(np.float32)
    cut = mosaic_gpu._in_rows(jnp.asarray(vectors))
    assert max(cut.shape[1:]) <= 256 and cut.shape[2] % 4 == 0
    np.testing.assert_array_equal(cut.reshape(2, -1)[:, :inputs], vectors)
