"""The differentiable example finds what was hidden."""

import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image

from experiments.nbody import recover_orbit


@pytest.fixture(autouse=True)
def loose_float64():
    """Float64; and optax's Adam raises a float to an integer power, which strictness forbids."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("unknown", recover_orbit.UNKNOWNS)
def test_what_is_unknown_is_found(unknown):
    bodies = recover_orbit.make_system()
    truth = recover_orbit.true_guess(bodies)
    first = recover_orbit.first_guess(bodies, unknown)
    assert (first.log_mass == truth.log_mass) == (unknown == "velocity")
    assert np.array_equal(first.velocity, truth.velocity) == (unknown == "mass")
    rng = np.random.default_rng(1)
    seen = recover_orbit.observe(bodies, rng, sights=20, noise=1e-3)
    assert seen.shape == (20, 3, 3)
    found = recover_orbit.recover(bodies, seen, unknown=unknown, noise=1e-3, updates=150)
    assert found.losses[0] > 1000 and found.losses[-1] < 2
    assert np.exp(found.guess.log_mass) == pytest.approx(0.03, rel=0.01)
    np.testing.assert_allclose(found.guess.velocity, truth.velocity, atol=1e-3)
    if unknown != "velocity":
        assert np.exp(first.log_mass) < 0.02
    # What is known stays as it is.
    if unknown == "velocity":
        assert found.guess.log_mass == truth.log_mass
    if unknown == "mass":
        np.testing.assert_array_equal(found.guess.velocity, truth.velocity)


def test_the_program_prints_and_draws(tmp_path, capsys):
    given = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", given)
        for name in ("enum", "integer", "float", "string"):
            define = getattr(flags, f"DEFINE_{name}")

            def into_given(*words, define=define, **more):
                return define(*words, flag_values=given, **more)

            patch.setattr(flags, f"DEFINE_{name}", into_given)
        recover_orbit._define_flags()
        picture = tmp_path / "orbit.png"
        given(["x", "--updates=3", "--sights=5", f"--output={picture}"])
        recover_orbit.main(["x"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["truth", "first", "found"]
    assert "mass 0.03000" in lines[0] and "mass 0.01000" in lines[1]
    with Image.open(picture) as image:
        assert image.size == (1320, 600)
