"""One of several processes that train together; see test_processes.py.

python _process.py COORDINATOR COUNT NUMBER OUTPUT
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio import optim, training

BATCH = 16


class Task:
    """Fits a matrix."""

    def init(self, key):
        """A matrix, and the mean of what was seen."""
        return {
            "params": {"w": jax.random.normal(key, (128, 130)), "b": jnp.zeros((130,))},
            "batch_stats": {"mean": jnp.zeros(())},
        }

    def loss(self, params, model_state, batch, key):
        """Mean squared error from one, with noise that the step's key decides."""
        noise = 0.01 * jax.random.normal(key, (BATCH, 1))
        y = batch["x"] @ params["w"] / 10.0 + params["b"][None] + noise
        loss = jnp.mean(jnp.square(y - 1.0))
        mean = 0.9 * model_state["batch_stats"]["mean"] + 0.1 * batch["x"].mean()
        return loss, ({"loss/total": loss}, {"batch_stats": {"mean": mean}})


def batch(number):
    """The whole batch of a step, (16, 128) float32."""
    x = np.random.default_rng(number).standard_normal((BATCH, 128)).astype(np.float32)
    if number == 2:
        x[BATCH - 1] = 1e30  # only the last process sees it, and all must skip
    return x


def run(model):
    """Five steps of the whole chain on this process's part of the batches; the last state."""
    prune = optim.gradual_pruning(
        schedule="cubic", sparsity=0.5, start=0, ramp=0, end=4, frequency=1
    )
    chain = optim.make_optimizer(
        0.01, max_gradient_norm=1.0, sparsity=[prune], loss_scaling={"initial_scale": 8.0}
    )
    mesh = training.data_mesh(model)
    step = training.make_train_step(Task(), chain, mesh, average_decay=0.9)
    state = training.place_state(training.init_state(Task(), chain, seed=0), mesh)
    part = BATCH // jax.process_count()
    mine = slice(jax.process_index() * part, (jax.process_index() + 1) * part)
    for number in range(5):
        state, metrics = step(state, {"x": batch(number)[mine]})
    return state, metrics


def main():
    """Joins the others, trains, and has process 0 write what came out."""
    coordinator, count, number, output = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(coordinator, int(count), int(number))
    state, metrics = run(model=2)
    whole = jax.jit(
        lambda state: state,
        out_shardings=jax.sharding.NamedSharding(
            training.data_mesh(2), jax.sharding.PartitionSpec()
        ),
    )(state)
    if jax.process_index() == 0:
        leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(whole))}
        np.savez(output, loss_scale=np.asarray(metrics["loss_scale"]), **leaves)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
