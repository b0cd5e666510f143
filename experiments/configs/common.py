"""What the configurations of all systems share."""

import ml_collections


def optimizer() -> ml_collections.ConfigDict:
    """Clipping and Adam; pruning, dense-sparse-dense and loss scaling are there to be turned on.

    Times of pruning and of dense-sparse-dense are shares of `num_steps`.
    """
    config = ml_collections.ConfigDict()
    config.schedule = ml_collections.ConfigDict(
        {
            "kind": "stable",
            "peak": 6e-4,
            "warmup_steps": 0,
            "decay_rate": 1.0,
            "decay_every": 1,
            "decay_share": 0.3,
        }
    )
    config.max_gradient_norm = 3.0
    config.weight_decay = 0.0
    config.pruning = ml_collections.ConfigDict(
        {
            "on": False,
            # "threshold" is arXiv 1704.05119's rule, "cubic" arXiv 1710.01878's.
            "schedule": "threshold",
            "sparsity": 0.9,
            "start": 0.05,
            "ramp": 0.25,
            "end": 0.5,
            "frequency": 100,
            "regrow": False,
            # For "threshold": shipped weights, a file or a run's folder; else `init_from`.
            "dense_model": ml_collections.config_dict.placeholder(str),
        }
    )
    config.dense_sparse_dense = ml_collections.ConfigDict(
        {"on": False, "sparsity": 0.3, "dense": 0.4, "sparse": 0.3, "redense_scale": 0.1}
    )
    # Read only where the precision is float16.
    config.loss_scaling = ml_collections.ConfigDict(
        {
            "on": True,
            "initial_scale": 2.0**15,
            "growth_interval": 2000,
            "growth_factor": 2.0,
            "backoff_factor": 0.5,
            "min_scale": 1.0,
            "max_scale": 2.0**24,
            "hysteresis": 1,
            "dynamic": True,
        }
    )
    return config
