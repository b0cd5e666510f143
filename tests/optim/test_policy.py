"""Precision policies: what they cast, and how they are written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaudio import optim

FIELDS = ("param_dtype", "compute_dtype", "output_dtype", "accumulation_dtype")
dtypes = st.sampled_from(["float32", "bfloat16", "float16", "float64", "float8_e4m3fn"])


@given(st.lists(dtypes, min_size=4, max_size=4))
def test_text_round_trips(names):
    policy = optim.Policy(*names)
    assert optim.Policy.parse(str(policy)) == policy
    assert [getattr(policy, field).name for field in FIELDS] == names


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_one_word_is_the_compute_dtype(name):
    policy = optim.Policy.parse(name)
    assert [getattr(policy, field).name for field in FIELDS] == [
        "float32",
        name,
        "float32",
        "float32",
    ]
    assert str(policy) == name
    assert policy.needs_loss_scaling == (name == "float16")


def test_parts_left_out_are_float32_and_come_in_any_order():
    policy = optim.Policy.parse("output=bfloat16, params=float16")
    assert policy == optim.Policy(jnp.float16, jnp.float32, jnp.bfloat16, jnp.float32)
    assert not policy.needs_loss_scaling


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half", "policy 'half' must be one of float32, bfloat16, float16"),
        ("", "policy '' must be one of"),
        ("computes=float16", "policy 'computes=float16' must be"),
        ("compute=float16,compute=float32", "names compute twice"),
        ("compute=int8", "compute_dtype='int8' must be a floating dtype"),
        ("compute=float17", "compute_dtype='float17' must be a floating dtype"),
    ],
)
def test_wrong_text_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        optim.Policy.parse(text)


def test_no_dtype_is_refused():
    with pytest.raises(ValueError, match="compute_dtype=None must be a floating dtype"):
        optim.Policy(compute_dtype=None)


def test_policies_are_values():
    assert optim.Policy(compute_dtype="float16") == optim.Policy(compute_dtype=jnp.float16)
    assert len({optim.Policy(), optim.Policy.parse("float32")}) == 1
    with pytest.raises(AttributeError):
        optim.Policy().compute_dtype = jnp.float16


def test_casts_take_floating_arrays_only():
    tree = {
        "weight": jnp.ones((2, 3), jnp.float32),
        "host": np.ones(2, np.float64),
        "ids": jnp.arange(3),
        "mask": jnp.array([True]),
        "key": jax.random.key(0),
        "nothing": None,
        "number": 0.5,
    }
    policy = optim.Policy("bfloat16", "float16", "float32")
    for cast, dtype in (
        (policy.cast_to_param, jnp.bfloat16),
        (policy.cast_to_compute, jnp.float16),
        (policy.cast_to_output, jnp.float32),
    ):
        done = cast(tree)
        assert done["weight"].dtype == done["host"].dtype == dtype
        for name in ("ids", "mask", "key"):
            assert done[name].dtype == tree[name].dtype
        assert done["nothing"] is None and done["number"] == 0.5


def test_the_gradient_of_a_cast_comes_back_in_the_parameters_dtype():
    policy = optim.Policy.parse("float16")

    @jax.jit
    def loss(params):
        weight = policy.cast_to_compute(params)["w"]
        return policy.cast_to_output((weight * weight).sum())

    grads = jax.grad(loss)({"w": jnp.float32([3.0, 0.1])})
    assert grads["w"].dtype == jnp.float32
    # Two times what float16 makes of 0.1.
    np.testing.assert_array_equal(grads["w"], np.float32([6.0, 2 * np.float16(0.1)]))
