"""How sparse parameters are."""

from typing import Any

import jax
import jax.numpy as jnp

from deepaudio.optim._selection import Where, matrices, selected


def sparsity_report(params: Any, *, where: Where = matrices) -> dict[str, float]:
    """The share of weights that are exactly zero, for logs and pictures.

    Args:
        params: A tree of arrays.
        where: Selects the leaves that count.

    Returns:
        From a leaf's path to its share in [0, 1], and "total": the share over all these leaves'
        weights together.

    Raises:
        ValueError: Nothing, or a leaf that is not floating-point, is selected.

    >>> kernel = jnp.array([[0.0, 1.0], [2.0, 3.0]])
    >>> sparsity_report({"head": {"bias": jnp.zeros(2), "kernel": kernel}})
    {'head/kernel': 0.25, 'total': 0.25}
    """
    chosen = selected(params, where)
    # One transfer for all leaves.
    zeros = jax.device_get({path: jnp.sum(leaf == 0) for path, leaf in chosen.items()})
    report = {path: int(zeros[path]) / leaf.size for path, leaf in chosen.items()}
    size = sum(leaf.size for leaf in chosen.values())
    return {**report, "total": sum(int(count) for count in zeros.values()) / size}
