"""Arguments and trees that gradual pruning refuses."""

import jax
import jax.numpy as jnp
import pytest

from deepaudio import optim

THRESHOLD = {"start": 0, "ramp": 5, "end": 10, "frequency": 2, "q": 0.1}
CUBIC = {"start": 0, "end": 10, "frequency": 2, "schedule": "cubic", "sparsity": 0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (THRESHOLD | {"frequency": 0}, "frequency=0 must be at least 1"),
        (THRESHOLD | {"frequency": 10}, "frequency=10 has no multiple between start=0 and end=10"),
        (THRESHOLD | {"start": -1}, "start=-1 must be at least 0"),
        (THRESHOLD | {"end": 10.5}, "end=10.5 must be a whole number"),
        (THRESHOLD | {"start": 10}, "end=10 must be after start=10"),
        (THRESHOLD | {"ramp": 11}, "ramp=11 must lie between start=0 and end=10"),
        (THRESHOLD | {"start": 6}, "ramp=5 must lie between start=6 and end=10"),
        (THRESHOLD | {"ramp": None}, "ramp=None must be a step"),
        (THRESHOLD | {"q": -0.1}, "q=-0.1 must be finite and at least 0"),
        (THRESHOLD | {"q": float("nan")}, "q=nan must be finite"),
        (THRESHOLD | {"q": {"dense": -1.0}}, r"q\['dense'\]=-1.0 must be finite"),
        (THRESHOLD | {"q": None}, "exactly one of q=None and theta=None must be given"),
        (THRESHOLD | {"theta": 0.1}, "exactly one of q=0.1 and theta=0.1 must be given"),
        (THRESHOLD | {"phi": 0.1}, "phi=0.1 goes with theta"),
        (THRESHOLD | {"sparsity": 0.5}, "sparsity=0.5 is not read with schedule='threshold'"),
        (
            THRESHOLD | {"q": None, "theta": {"a": 0.1}, "phi": {"b": 0.1}},
            r"phi has the layer types \['b'\], and theta \['a'\]",
        ),
        (THRESHOLD | {"schedule": "linear"}, "schedule='linear' must be 'threshold' or 'cubic'"),
        (THRESHOLD | {"structure": (4, 4)}, r"structure=\(4, 4\) must be None, a Block or an NOfM"),
        (CUBIC | {"sparsity": None}, "sparsity=None must be given with schedule='cubic'"),
        (CUBIC | {"sparsity": 1.0}, "sparsity=1.0 must be at least 0 and less than 1"),
        (CUBIC | {"sparsity": -0.5}, "sparsity=-0.5 must be at least 0"),
        (CUBIC | {"q": 0.5}, "q=0.5 is not read with schedule='cubic'"),
        (CUBIC | {"theta": 0.5}, "theta=0.5 is not read"),
        (
            CUBIC | {"structure": optim.NOfM(1, 4)},
            r"sparsity=0.5 must be 0.75 with NOfM\(n=1, m=4\)",
        ),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        optim.gradual_pruning(**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.Block(0, 4), "rows=0 must be at least 1"),
        (lambda: optim.Block(4, -1), "columns=-1 must be at least 1"),
        (lambda: optim.NOfM(4, 4), "n=4 must be at least 1 and less than m=4"),
        (lambda: optim.NOfM(0, 4), "n=0 must be at least 1"),
        (lambda: optim.estimate_q({"kernel": jnp.ones((2, 2))}, 1.0), "sparsity=1.0 must be"),
    ],
)
def test_bad_structures_and_shares(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "params", "message"),
    [
        ({}, {"bias": (3,)}, r"where=matrices selects none of the 1 leaves: \['bias'\]"),
        ({"q": {"dens": 0.1}}, {"kernel": (2, 2)}, "no threshold for layer type 'dense'"),
        (
            {"q": {"dense": 0.1, "gru": 0.1}},
            {"kernel": (2, 2)},
            "no selected leaf is of layer type 'gru'",
        ),
        (
            {"structure": optim.Block(4, 4)},
            {"layer": {"kernel": (8, 6)}},
            r"'layer/kernel' of shape \(8, 6\) does not divide into Block\(rows=4, columns=4\)",
        ),
        (
            {"structure": optim.NOfM(2, 4)},
            {"kernel": (6, 8)},
            r"'kernel' of shape \(6, 8\) does not divide into NOfM",
        ),
        (
            {"structure": optim.NOfM(2, 4), "where": lambda path, leaf: True},
            {"bias": (8,)},
            r"'bias' of shape \(8,\) does not divide",
        ),
    ],
)
def test_bad_trees(options, params, message):
    params = jax.tree.map(jnp.ones, params, is_leaf=lambda node: isinstance(node, tuple))
    with pytest.raises(ValueError, match=message):
        optim.gradual_pruning(**(THRESHOLD | options)).init(params)


def test_integers_and_missing_params():
    optimizer = optim.gradual_pruning(**THRESHOLD, where=lambda path, leaf: True)
    with pytest.raises(ValueError, match="'table' of dtype int32"):
        optimizer.init({"table": jnp.ones((2, 2), jnp.int32)})
    params = {"kernel": jnp.ones((2, 2))}
    with pytest.raises(ValueError, match="gradual_pruning needs params"):
        optimizer.update(params, optimizer.init(params))
