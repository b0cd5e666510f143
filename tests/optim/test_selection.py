"""Paths, and which leaves are matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from deepaudio import optim
from deepaudio.optim._selection import recurrent_or_dense, selected


def test_path_names_join_keys_attributes_and_indices():
    tree = {"encoder": [jnp.zeros(1), {"kernel": jnp.zeros(1)}], "state": optax.EmptyState()}
    tree["adam"] = optax.ScaleByAdamState(count=jnp.zeros(()), mu=jnp.zeros(1), nu=None)
    names = optim.path_names(tree)
    assert jax.tree.structure(names) == jax.tree.structure(tree)
    assert jax.tree.leaves(names) == [
        "adam/count",
        "adam/mu",
        "encoder/0",
        "encoder/1/kernel",
    ]


@pytest.mark.parametrize(
    ("path", "shape", "dtype", "expected"),
    [
        ("dense/kernel", (3, 4), jnp.float32, True),
        ("dense/kernel", (3, 4), jnp.bfloat16, True),
        ("lstm/recurrent_kernel", (2, 3, 12), jnp.float32, True),
        ("dense/bias", (4,), jnp.float32, False),
        ("lstm/bias", (2, 12), jnp.float32, False),  # stacked over directions
        ("layers/norm/scale", (7, 12), jnp.float32, False),  # stacked over layers
        ("temperature", (), jnp.float32, False),
        ("Conv_0/kernel", (5, 3, 4), jnp.float32, False),
        ("Conv_0/kernel", (3, 3, 1, 4), jnp.float32, False),
        ("front/kernel", (3, 3, 1, 4), jnp.float32, False),
        ("table/kernel", (3, 4), jnp.int32, False),
        ("fourier/kernel", (3, 4), jnp.complex64, False),
    ],
)
def test_matrices(path, shape, dtype, expected):
    assert optim.matrices(path, jnp.zeros(shape, dtype)) is expected


@pytest.mark.parametrize(
    ("cell", "recurrent"),
    [
        (nn.OptimizedLSTMCell(3), {"hi", "hf", "hg", "ho"}),
        (nn.LSTMCell(3), {"hi", "hf", "hg", "ho"}),
        (nn.GRUCell(3), {"hr", "hz", "hn"}),
        (nn.SimpleCell(3), {"h"}),
    ],
)
def test_layer_type_knows_the_cells_of_flax(cell, recurrent):
    carry = cell.initialize_carry(jax.random.key(0), (1, 2))
    params = cell.init(jax.random.key(0), carry, jnp.zeros((1, 2)))["params"]
    kernels = selected(params, optim.matrices)
    found = {path for path, leaf in kernels.items() if recurrent_or_dense(path, leaf) != "dense"}
    assert found == {f"{name}/kernel" for name in recurrent}
    assert len(kernels) > len(found)


def test_layer_type_goes_by_path():
    leaf = jnp.zeros((2, 2))
    assert recurrent_or_dense("encoder/lstm/recurrent_kernel", leaf) == "recurrent"
    assert recurrent_or_dense("Recurrent_0/kernel", leaf) == "recurrent"
    assert recurrent_or_dense("encoder/lstm/input_kernel", leaf) == "dense"


def test_selected_takes_any_tree():
    tree = (np.ones((2, 2), np.float32), None, {"w": jnp.ones((2, 3))})
    assert list(selected(tree, optim.matrices)) == ["0", "2/w"]


def test_nothing_selected_is_an_error():
    with pytest.raises(ValueError, match=r"where=matrices selects none of the 1 leaves: \['bias'"):
        selected({"bias": jnp.ones(3)}, optim.matrices)


def test_an_integer_leaf_is_an_error():
    with pytest.raises(ValueError, match="'table' of dtype int32"):
        selected({"table": jnp.ones((2, 2), jnp.int32)}, lambda path, leaf: True)
