"""The memory benchmark on tiny nets: what half precision keeps for the backward pass."""

import importlib.util
import math
import re

import jax
import jax.numpy as jnp
import optax
import pytest

from experiments import _h200, benchmark_memory

TINY = {"layers": 2, "units": 16, "batch": 4, "frames": 12, "features": 8, "characters": 3}


@pytest.fixture(autouse=True)
def loose_promotion():
    """optax's Adam and flax's batch norm mix dtypes, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def _kept_bytes(case):
    """Bytes that a gradient keeps from the forward pass, whatever the device."""
    variables = dict(jax.eval_shape(case.init, jax.random.key(0)))
    params = variables.pop("params")

    def forward(params, batch):
        _, pullback = jax.vjp(
            lambda p: case.loss(p, variables_zeros, batch, jax.random.key(0))[0], params
        )
        return pullback

    variables_zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    kept = jax.tree.leaves(jax.eval_shape(forward, params, case.batch))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in kept)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_keeps_less_for_the_backward_pass(precision):
    """Batch norm's float32 intermediates, which a compiler makes anew, are counted here."""
    sizes = {**TINY, "units": 64, "characters": 1}
    whole = _kept_bytes(benchmark_memory.speech_case("float32", **sizes))
    half = _kept_bytes(benchmark_memory.speech_case(precision, **sizes))
    assert half < 0.8 * whole


def test_rows_name_model_precision_and_share():
    def build(precision):
        dtype = jnp.dtype(precision)

        def loss(params, model_state, batch, key):
            x = batch.astype(dtype)
            for _ in range(8):
                x = jnp.sin(x @ params["w"].astype(dtype))
            return x.astype(jnp.float32).sum(), ({}, model_state)

        return benchmark_memory.Case(
            init=lambda key: {"params": {"w": jax.random.normal(key, (16, 16))}},
            loss=loss,
            optimizer=optax.sgd(0.1),
            batch=jax.ShapeDtypeStruct((4096, 16), jnp.float32),
        )

    rows = benchmark_memory.measure([("tiny", build)], "this")
    assert [row["precision"] for row in rows] == list(benchmark_memory.PRECISIONS)
    assert rows[0]["of_float32"] == 1.0
    # The parameters and the batch.
    assert rows[0]["state_mib"] * 2**20 == pytest.approx(4 * 16 * (16 + 4096), rel=0.01)
    for row in rows:
        assert row["model"] == "tiny" and row["temporary_mib"] > 0.25
        share = row["temporary_mib"] / rows[0]["temporary_mib"]
        assert row["of_float32"] == pytest.approx(share, rel=0.01)


def test_a_step_gives_back_what_it_takes():
    case = benchmark_memory.speech_case("float16", **TINY)
    step, arguments = benchmark_memory.training_step(case)
    results = jax.eval_shape(step, *arguments)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), results) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), arguments[:3]
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(results[0])} == {"float32"}
    assert optax.tree.get(results[2], "loss_scale").shape == ()


def test_all_matrix_products_of_the_net_are_in_half_precision():
    net = benchmark_memory.RecurrentNet(2, 16, jnp.dtype("float16"))
    inputs = jnp.zeros((4, 12, 8))
    text = str(jax.make_jaxpr(lambda: net.init(jax.random.key(0), inputs))())
    products = re.findall(r":(\w+)\[[\d,]*\] = dot_general", text)
    # Two a layer, and the logits; the weights' own draw has none.
    assert products == ["f16"] * 5


def test_the_piano_case_is_the_papers_own_batch():
    case = benchmark_memory.piano_case("bfloat16")
    assert case.batch["frames"].shape == (8, 625, 88)
    assert case.batch["samples"].shape == (8, 625 * 512)
    step, arguments = benchmark_memory.training_step(case)
    results = jax.eval_shape(step, *arguments)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(results[0])} == {"float32"}


@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is not None, reason="CUDA's libraries are here"
)
def test_an_h200_without_cudas_libraries_is_one_line():
    with pytest.raises(RuntimeError, match="needs the extra gpu") as caught:
        _h200.compile_for_h200(lambda x: x, [jax.ShapeDtypeStruct((2,), "float32")])
    assert "\n" not in str(caught.value)


def test_every_case_is_a_training_step():
    """Shapes only: batches are what the tasks' losses take."""
    builds = [
        lambda: benchmark_memory.piano_case("float16", "smoke"),
        lambda: benchmark_memory.speech_case("float16", **TINY),
        lambda: benchmark_memory.vocoder_case("float16", "smoke", batch=2),
    ]
    assert len(builds) == len(benchmark_memory.CASES)
    for build in builds:
        step, arguments = benchmark_memory.training_step(build())
        params, model_state, opt_state = jax.eval_shape(step, *arguments)
        for new, old in ((params, arguments[0]), (opt_state, arguments[2])):
            assert jax.tree.structure(new) == jax.tree.structure(old)
        assert jax.tree.structure(model_state) == jax.tree.structure(arguments[1])
