import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.models._recurrent import RecurrentLayer, RowConvolution


def initialized(layer, inputs, paddings):
    return jax.jit(layer.init)(jax.random.key(0), inputs, paddings)


def run(layer, *args):
    """`layer.apply`, compiled: op by op it takes seconds."""
    return jax.jit(layer.apply)(*args)


def lengths_to_paddings(lengths, frames):
    return jnp.asarray(np.arange(frames) >= np.asarray(lengths)[:, None], jnp.float32)


def numpy_layer(cell, inputs, kernel, bias, recurrent):
    """The recurrence as the papers write it, one sequence, one direction, in float64."""
    hidden, outputs = np.zeros(recurrent.shape[0]), []
    for x in np.asarray(inputs, np.float64):
        p, u = x @ kernel + bias, hidden @ recurrent
        if cell == "rnn":
            hidden = np.clip(p + u, 0, 20)
        else:
            (pz, pr, pn), (uz, ur, un) = np.split(p, 3), np.split(u, 3)
            z, r = 1 / (1 + np.exp(-pz - uz)), 1 / (1 + np.exp(-pr - ur))
            hidden = (1 - z) * hidden + z * np.tanh(pn + r * un)
        outputs.append(hidden)
    return np.array(outputs)


@pytest.mark.parametrize("cell", ["rnn", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_the_papers_equations(cell, bidirectional, rng):
    inputs = jnp.asarray(rng.normal(0, 1, (2, 7, 5)), jnp.float32)
    lengths = [7, 4]
    layer = RecurrentLayer(6, cell, bidirectional, batch_norm=False)
    paddings = lengths_to_paddings(lengths, 7)
    variables = initialized(layer, inputs, paddings)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    outputs, _ = run(layer, variables, inputs, paddings)
    for row, length in enumerate(lengths):
        args = params["input"]["kernel"], params["input"]["bias"]
        valid = inputs[row, :length]
        expected = numpy_layer(cell, valid, *args, params["recurrent_kernel"][0])
        if bidirectional:
            back = numpy_layer(cell, valid[::-1], *args, params["recurrent_kernel"][1])
            expected = expected + back[::-1]
        np.testing.assert_allclose(outputs[row, :length], expected, atol=1e-5)
        assert (outputs[row, length:] == 0).all()


def plain_layer(cell, params, inputs, paddings, carry):
    """The equations frame by frame, in both directions, to be differentiated by JAX."""
    projected = inputs @ params["input"]["kernel"] + params["input"]["bias"]
    total = 0.0
    for direction, recurrent in enumerate(params["recurrent_kernel"]):
        hidden, outputs = carry[direction], []
        for t in range(inputs.shape[1])[:: -1 if direction else 1]:
            p, u = projected[:, t], hidden @ recurrent
            if cell == "rnn":
                after = jnp.clip(p + u, 0, 20)
            else:
                (pz, pr, pn), (uz, ur, un) = jnp.split(p, 3, 1), jnp.split(u, 3, 1)
                z, r = jax.nn.sigmoid(pz + uz), jax.nn.sigmoid(pr + ur)
                after = (1 - z) * hidden + z * jnp.tanh(pn + r * un)
            hidden = jnp.where(paddings[:, t, None] > 0, 0, after)
            outputs.append(hidden)
        total = total + jnp.stack(outputs[:: -1 if direction else 1], 1)
    return total, hidden


@pytest.mark.parametrize("cell", ["rnn", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_are_those_of_the_equations(cell, bidirectional, rng):
    """Of the weights, the inputs and the first state, through all outputs and the last state."""
    inputs = jnp.asarray(rng.normal(0, 1, (3, 7, 5)), jnp.float32)
    paddings = lengths_to_paddings([7, 4, 1], 7)
    layer = RecurrentLayer(6, cell, bidirectional, batch_norm=False)
    variables = initialized(layer, inputs, paddings)
    carry = jnp.asarray(rng.normal(0, 1, (1 + bidirectional, 3, 6)), jnp.float32)
    weights = jnp.asarray(rng.normal(0, 1, (3, 7, 6)), jnp.float32)

    def total(outputs, last):
        return (weights * outputs).sum() + (weights[:, 0] * last).sum()

    def ours(params, inputs, carry):
        outputs, last = layer.apply({"params": params}, inputs, paddings, carry)
        return total(outputs, last[-1])

    def plain(params, inputs, carry):
        # Broadcast as numpy does.
        with jax.numpy_rank_promotion("allow"):
            outputs, last = plain_layer(cell, params, inputs, paddings, carry)
        return total(outputs, last)

    arguments = variables["params"], inputs, carry
    found, expected = (jax.jit(jax.grad(f, (0, 1, 2)))(*arguments) for f in (ours, plain))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_gradients_in_half_precision_are_near_those_in_full(cell, rng):
    inputs = jnp.asarray(rng.normal(0, 1, (4, 30, 8)), jnp.float32)
    paddings = lengths_to_paddings([30, 22, 9, 30], 30)
    layers = [
        RecurrentLayer(12, cell, batch_norm=False, dtype=dtype)
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    variables = initialized(layers[0], inputs, paddings)

    def gradient(layer):
        def loss(variables):
            return (layer.apply(variables, inputs, paddings)[0].astype(jnp.float32) ** 2).sum()

        return jax.jit(jax.grad(loss))(variables)["params"]

    def check(whole, half):
        assert half.dtype == jnp.float32
        assert jnp.linalg.norm(whole - half) < 0.03 * jnp.linalg.norm(whole)

    jax.tree.map(check, *(gradient(layer) for layer in layers))


def test_devices_that_share_a_batch_exchange_the_gradient_once(rng):
    """Not at every frame: no loop of the compiled gradient holds a collective."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("batch",))
    layer = RecurrentLayer(8, "gru")
    inputs = jnp.asarray(rng.normal(0, 1, (4, 50, 6)), jnp.float32)
    paddings = jnp.zeros((4, 50))
    variables = initialized(layer, inputs, paddings)
    shared = jax.NamedSharding(mesh, jax.P("batch"))

    def loss(variables, inputs, paddings):
        outputs, _ = layer.apply(variables, inputs, paddings)
        return (outputs**2).mean()

    arguments = variables, *jax.device_put((inputs, paddings), shared)
    text = jax.jit(jax.grad(loss)).lower(*arguments).compile().as_text()
    blocks = re.split(r"^}", text, flags=re.M)
    exchanging = [block for block in blocks if " all-reduce(" in block]
    assert exchanging and all("ENTRY" in block for block in exchanging)


def test_gru_has_the_numbers_of_flax(rng):
    """Flax's update gate keeps where ours changes, so its weights change sign."""
    features, units = 5, 4
    cell = nn.GRUCell(units)
    inputs = jnp.asarray(rng.normal(0, 1, (3, 9, features)), jnp.float32)
    theirs = nn.RNN(cell)
    with jax.numpy_rank_promotion("allow"):
        variables = jax.jit(theirs.init)(jax.random.key(0), inputs)
        expected = jax.jit(theirs.apply)(variables, inputs)
    of = variables["params"]["cell"]
    kernel = jnp.concatenate([-of["iz"]["kernel"], of["ir"]["kernel"], of["in"]["kernel"]], -1)
    bias = jnp.concatenate([-of["iz"]["bias"], of["ir"]["bias"], of["in"]["bias"]])
    recurrent = jnp.concatenate([-of["hz"]["kernel"], of["hr"]["kernel"], of["hn"]["kernel"]], -1)
    layer = RecurrentLayer(units, "gru", batch_norm=False)
    params = {"input": {"kernel": kernel, "bias": bias}, "recurrent_kernel": recurrent[None]}
    outputs, _ = run(layer, {"params": params}, inputs, jnp.zeros((3, 9)))
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


def test_gru_has_the_numbers_of_torch(rng):
    torch = pytest.importorskip("torch")
    inputs = rng.normal(0, 1, (2, 8, 5)).astype(np.float32)
    theirs = torch.nn.GRU(5, 4, batch_first=True)
    with torch.no_grad():
        theirs.bias_hh_l0.zero_()
        expected = theirs(torch.from_numpy(inputs))[0].numpy()
    reset, update, candidate = np.split(theirs.weight_ih_l0.detach().numpy().T, 3, axis=1)
    of_reset, of_update, of_candidate = np.split(theirs.weight_hh_l0.detach().numpy().T, 3, axis=1)
    b_reset, b_update, b_candidate = np.split(theirs.bias_ih_l0.detach().numpy(), 3)
    params = {
        "input": {
            "kernel": jnp.concatenate([-update, reset, candidate], -1),
            "bias": jnp.concatenate([-b_update, b_reset, b_candidate]),
        },
        "recurrent_kernel": jnp.concatenate([-of_update, of_reset, of_candidate], -1)[None],
    }
    layer = RecurrentLayer(4, "gru", batch_norm=False)
    outputs, _ = run(layer, {"params": params}, jnp.asarray(inputs), jnp.zeros((2, 8)))
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_a_sequence_may_be_cut_in_pieces(cell, rng):
    inputs = jnp.asarray(rng.normal(0, 1, (2, 10, 3)), jnp.float32)
    paddings = jnp.zeros((2, 10))
    layer = RecurrentLayer(5, cell)
    variables = initialized(layer, inputs, paddings)
    whole, last = run(layer, variables, inputs, paddings)
    first, carry = run(layer, variables, inputs[:, :4], paddings[:, :4])
    second, carry = run(layer, variables, inputs[:, 4:], paddings[:, 4:], carry)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
    np.testing.assert_allclose(carry, last, atol=1e-6)


def test_batch_norm_is_over_valid_frames_of_the_batch(rng):
    """The first layer's projections have mean 0 and variance 1 over all valid frames."""
    inputs = jnp.asarray(rng.normal(3, 2, (4, 12, 6)), jnp.float32)
    lengths = np.array([12, 9, 5, 1])
    paddings = lengths_to_paddings(lengths, 12)
    # What lies in padding must not matter, be it ever so large.
    inputs = jnp.where(paddings[..., None] > 0, 1e4, inputs)
    layer = RecurrentLayer(8, "rnn")
    variables = initialized(layer, inputs, paddings)
    update = functools.partial(layer.apply, train=True, mutable=["batch_stats"])
    _, updated = jax.jit(update)(variables, inputs, paddings)
    projected = inputs @ variables["params"]["input"]["kernel"]
    valid = projected[np.asarray(paddings) == 0]
    stats = updated["batch_stats"]["norm"]
    np.testing.assert_allclose(stats["mean"], 0.01 * valid.mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.99 + 0.01 * valid.var(0), rtol=1e-3)


def test_batch_norm_leaves_the_recurrent_path_alone(rng):
    """h = f(BN(W x) + U h): with W = 0 normalized inputs are 0, and the state never leaves 0."""
    inputs = jnp.asarray(rng.normal(0, 1, (2, 6, 3)), jnp.float32)
    layer = RecurrentLayer(4, "rnn")
    variables = initialized(layer, inputs, jnp.zeros((2, 6)))
    kernel = variables["params"]["recurrent_kernel"]
    carry = jnp.ones((1, 2, 4))
    variables["params"]["input"]["kernel"] = jnp.zeros((3, 4))
    outputs, _ = layer.apply(variables, inputs, jnp.zeros((2, 6)), carry)
    np.testing.assert_allclose(outputs[:, 0], jnp.clip(carry[0] @ kernel[0], 0, 20), atol=1e-6)


def test_row_convolution_is_its_definition(rng):
    inputs = rng.normal(0, 1, (2, 9, 3)).astype(np.float32)
    layer = RowConvolution(4)
    variables = layer.init(jax.random.key(0), jnp.asarray(inputs))
    kernel = np.asarray(variables["params"]["kernel"])
    assert kernel.shape == (5, 3)
    expected = np.zeros_like(inputs)
    for t in range(9):
        for j in range(5):
            if t + j < 9:
                expected[:, t] += kernel[j] * inputs[:, t + j]
    np.testing.assert_allclose(
        layer.apply(variables, jnp.asarray(inputs)), expected, rtol=1e-4, atol=1e-5
    )


def test_states_are_summed_in_float32_in_half_precision(rng):
    """A state that grows by less than half precision can tell still grows."""
    inputs = jnp.full((1, 400, 1), 1.0)
    layer = RecurrentLayer(1, "gru", batch_norm=False, dtype=jnp.bfloat16)
    params = {
        # An update gate of about 0.0025, and a candidate of nearly 1.
        "input": {"kernel": jnp.asarray([[0.0, 0.0, 0.0]]), "bias": jnp.asarray([-6.0, 0.0, 5.0])},
        "recurrent_kernel": jnp.zeros((1, 1, 3)),
    }
    outputs, carry = run(layer, {"params": params}, inputs, jnp.zeros((1, 400)))
    assert outputs.dtype == jnp.bfloat16
    np.testing.assert_allclose(carry[0, 0, 0], 1 - (1 - 0.00247) ** 400, rtol=0.02)
