"""A tiny two-layer model, its gradients and four optimizers, written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.05, momentum=0.9),
    "adam": optax.adam(0.02),
    "adamw": optax.adamw(0.02, weight_decay=0.3),
}


def start(seed=0):
    """Weights: (6, 5) dense with a bias, and (5, 4) recurrent."""
    rng = np.random.default_rng(seed)
    return {
        "dense/bias": rng.standard_normal(5),
        "dense/kernel": rng.standard_normal((6, 5)),
        "recurrent/kernel": rng.standard_normal((5, 4)),
    }


def batch(step):
    """Inputs and targets of a step."""
    rng = np.random.default_rng(1000 + step)
    x = rng.standard_normal((16, 6))
    return x, np.sin(x[:, :4]) + 0.1 * rng.standard_normal((16, 4))


def gradients(weights, step):
    """Of the mean squared error, by the chain rule."""
    x, y = batch(step)
    hidden = x @ weights["dense/kernel"] + weights["dense/bias"]
    error = 2 * (hidden @ weights["recurrent/kernel"] - y) / y.size
    back = error @ weights["recurrent/kernel"].T
    return {
        "dense/bias": back.sum(axis=0),
        "dense/kernel": x.T @ back,
        "recurrent/kernel": hidden.T @ error,
    }


class Updates:
    """The update that each optimizer of `OPTIMIZERS` adds to a weight."""

    def __init__(self, name):
        self._name, self._steps, self._first, self._second = name, 0, {}, {}

    def __call__(self, grads, weights):
        self._steps += 1
        return {path: self._one(path, g, weights[path]) for path, g in grads.items()}

    def _one(self, path, g, w):
        if self._name == "sgd":
            return -0.1 * g
        if self._name == "momentum":
            self._first[path] = 0.9 * self._first.get(path, 0) + g
            return -0.05 * self._first[path]
        self._first[path] = 0.9 * self._first.get(path, 0) + 0.1 * g
        self._second[path] = 0.999 * self._second.get(path, 0) + 0.001 * g**2
        mean = self._first[path] / (1 - 0.9**self._steps)
        power = self._second[path] / (1 - 0.999**self._steps)
        decay = 0.3 * w if self._name == "adamw" else 0
        return -0.02 * (mean / (np.sqrt(power) + 1e-8) + decay)


def train(transform, name, num_steps):
    """Trains the same model with jax; yields the weights after each step, as numpy float32."""
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.chain(OPTIMIZERS[name], transform)
        params = {path: jnp.asarray(w, jnp.float32) for path, w in start().items()}
        state = optimizer.init(params)

        def loss(params, x, y):
            hidden = x @ params["dense/kernel"] + params["dense/bias"][None]
            return jnp.mean((hidden @ params["recurrent/kernel"] - y) ** 2)

        def step(params, state, x, y):
            updates, state = optimizer.update(jax.grad(loss)(params, x, y), state, params)
            return optax.apply_updates(params, updates), state

        step = jax.jit(step, donate_argnums=(0, 1))
        for t in range(num_steps):
            params, state = step(params, state, *(jnp.asarray(a, jnp.float32) for a in batch(t)))
            yield {path: np.array(w) for path, w in params.items()}


def step_over_devices(transform):
    """A compiled step of all devices: gradients are split over them, all else is on each."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    everywhere = PartitionSpec()

    def step(grads, state, params):
        mean = {"kernel": jax.lax.pmean(grads[0], "data")}
        updates, state = transform.update(mean, state, params)
        return optax.apply_updates(params, updates), state

    sharded = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(PartitionSpec("data"), everywhere, everywhere),
        out_specs=everywhere,
    )
    return jax.jit(sharded, donate_argnums=(1, 2))


def smallest(weights, count):
    """Marks `count` of the smallest magnitudes, the first of equal ones, by sorting pairs."""
    order = sorted(range(weights.size), key=lambda i: (abs(weights.flat[i]), i))
    marked = np.zeros(weights.size, bool)
    marked[order[:count]] = True
    return marked.reshape(weights.shape)


def is_positive_zero(array):
    """Where an array is +0.0 to the bit."""
    return (array == 0) & ~np.signbit(array)
