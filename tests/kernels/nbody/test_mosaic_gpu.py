"""The GPU kernel in the interpreter, with races looked for, against the plain implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels.nbody import _laws, mosaic_gpu, reference
from deepaudio.kernels.nbody.config import KernelConfig

try:
    from jax.experimental.pallas.mosaic_gpu import InterpretGPUParams
except ImportError:  # JAX 0.11
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

SMALL = KernelConfig(targets=128, sources=32, splits=2, unroll=4, vector=1)
LAWS = {
    "gravity": _laws.gravity(),
    "two-float gravity": _laws.gravity(True),
    "potential": _laws.gravity_potential(),
    "jerk": _laws.gravity_and_jerk(),
    **{name: _laws.lennard_jones_coulomb(name) for name in _laws.DIELECTRICS},
    "energy": _laws.lennard_jones_coulomb_energy("sigmoidal"),
    "gravity by targets": _laws.target_gradient(_laws.gravity()),
    "jerk by sources": _laws.source_gradient(_laws.gravity_and_jerk()),
    "linear by sources": _laws.source_gradient(_laws.lennard_jones_coulomb("linear")),
}


def features(law, number, rng):
    """Random features of targets and sources at the same places, and the law's constants."""
    places = [rng.normal(0, 3, number) for _ in range(3)]
    # Positive, as half sigmas and roots of epsilons are; small, for twelfth powers.
    rest = [
        [rng.uniform(0.05, 0.2, number) for _ in padding[3:]]
        for padding in (law.target_padding, law.source_padding)
    ]
    targets, sources = (tuple(jnp.asarray(x, jnp.float32) for x in places + r) for r in rest)
    constants = (jnp.float32(0.01),) if "gravity" in law.name else ()
    return constants, targets, sources


def assert_close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=3e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("name", LAWS)
def test_kernel_equals_the_plain_sum(rng, name):
    law = LAWS[name]
    arguments = features(law, 150, rng)
    offset = jnp.int32(0) if law.singular else None
    found = mosaic_gpu.sum_pairs(
        law, *arguments, offset, config=SMALL, interpret=InterpretGPUParams(detect_races=True)
    )
    assert_close(found, reference.sum_pairs(law, *arguments, offset))


@pytest.mark.parametrize("offset", [-30, 60])
def test_the_pair_left_out_is_where_the_offset_says(rng, offset):
    law = _laws.gravity_potential()
    constants, targets, sources = features(law, 150, rng)
    shifted = tuple(jnp.roll(source, offset) for source in sources)
    found, expected = (
        function(law, constants, targets, shifted, jnp.int32(offset))
        for function in (
            lambda *a: mosaic_gpu.sum_pairs(*a, config=SMALL, interpret=InterpretGPUParams()),
            reference.sum_pairs,
        )
    )
    assert_close(found, expected)
    all_pairs = reference.sum_pairs(law, constants, targets, shifted, None)
    kept = slice(30, -60)
    assert np.abs(all_pairs[0] - found[0])[kept].min() > 0.1, "every body has left something out"


@pytest.mark.parametrize(
    "config",
    [
        KernelConfig(targets=256, sources=16, splits=1, unroll=8, vector=2),
        KernelConfig(targets=512, sources=64, splits=3, unroll=2, vector=4),
    ],
)
def test_sizes_change_only_rounding(rng, config):
    law = _laws.gravity()
    arguments = features(law, 300, rng)
    found = mosaic_gpu.sum_pairs(
        law, *arguments, None, config=config, interpret=InterpretGPUParams(detect_races=True)
    )
    again = mosaic_gpu.sum_pairs(
        law, *arguments, None, config=config, interpret=InterpretGPUParams()
    )
    assert_close(found, reference.sum_pairs(law, *arguments, None))
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_is_its_members(rng):
    law = _laws.gravity()
    batch = [features(law, 100, rng) for _ in range(2)]

    def run(constants, targets, sources):
        return mosaic_gpu.sum_pairs(
            law, constants, targets, sources, None, config=SMALL, interpret=InterpretGPUParams()
        )

    together = jax.vmap(run)(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *batch))
    for number, arguments in enumerate(batch):
        for found, expected in zip(together, run(*arguments), strict=True):
            np.testing.assert_array_equal(found[number], expected)


def test_sizes_fill_the_chip_at_any_number():
    for number in (1024, 4096, 16384, 65536, 262144, 1048576):
        config = KernelConfig.choose(number, number)
        blocks = -(-number // config.targets) * config.splits
        assert config.targets in (128, 256, 512) and config.vector <= config.targets // 128
        # As many blocks as multiprocessors, or shares of the sources as small as they may be.
        assert blocks >= 132 or number // config.splits < 2048
    assert KernelConfig.choose(1 << 20, 1 << 20).splits == 1


def test_other_dtypes_are_refused():
    half = jnp.zeros(4, jnp.float16)
    with pytest.raises(ValueError, match="float32, not float16"):
        mosaic_gpu.sum_pairs(_laws.gravity(), (half[0],), (half,) * 3, (half,) * 4, None)
