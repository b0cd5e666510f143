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
    # Of stochastic gradient descent with Nesterov's momentum; without a value, Adam.
    config.momentum = ml_collections.config_dict.placeholder(float)
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


def recognition() -> ml_collections.ConfigDict:
    """What the recognizers share; front end and model are each system's own."""
    config = ml_collections.ConfigDict()
    config.task = "recognition"
    # librispeech, common_voice, or manifest: JSON lines, SPLIT.jsonl in the data folder.
    config.dataset = "librispeech"
    # The dataset's own names of the splits, several joined by "+".
    config.splits = ml_collections.ConfigDict(
        {"train": "train-clean-100+train-clean-360+train-other-500", "validation": "dev-clean"}
    )
    config.data_dir = ml_collections.config_dict.placeholder(str)
    config.seed = 0
    # Weights to begin from: shipped ones by name, a file, or another run's folder.
    config.init_from = ml_collections.config_dict.placeholder(str)

    # english, english_bigrams, or characters: those of the training data, the `limit` most
    # frequent; a run keeps them in `characters`.
    config.alphabet = ml_collections.ConfigDict(
        {
            "kind": "english",
            "limit": 6000,
            "characters": ml_collections.config_dict.placeholder(str),
        }
    )
    config.spec_augment = ml_collections.ConfigDict({"on": False, "policy": {}})
    config.augment = ml_collections.ConfigDict({"on": False, "ranges": {}})
    # The first epoch in order of length (arXiv 1512.02595, section 3.3).
    config.sorta_grad = False
    # Seconds; each utterance is padded to the next, and what is longer than the last is left out.
    config.buckets = (4.0, 8.0, 12.0, 16.5)
    config.batch_size = 64
    config.num_threads = 8
    # Processes that prepare batches, each with so many threads; 0 for none beside the trainer.
    config.num_workers = 0

    config.num_steps = 10_000
    config.precision = "float32"
    # Parts that a batch is gone through in, one after another.
    config.accumulate = 1
    # Devices that share one copy of parameters and optimizer state.
    config.model_devices = 1
    config.optimizer = optimizer()
    config.average_decay = 0.999

    config.log_every = 20
    config.checkpoint_every = 500
    config.keep_every = 5000
    config.evaluate_every = 1000
    config.evaluate_utterances = 64
    return config


def vocoding() -> ml_collections.ConfigDict:
    """What teachers and students share; the model is each system's own."""
    config = ml_collections.ConfigDict()
    config.task = "vocoding"
    # ljspeech, vctk, or manifest: JSON lines, SPLIT.jsonl in the data folder.
    config.dataset = "ljspeech"
    # The dataset's own names of the splits, several of a manifest's joined by "+".
    config.splits = ml_collections.ConfigDict({"train": "train", "validation": "validation"})
    config.data_dir = ml_collections.config_dict.placeholder(str)
    config.seed = 0
    # Weights to begin from: shipped ones by name, a file, or another run's folder.
    config.init_from = ml_collections.config_dict.placeholder(str)
    # Name of the mel convention, as `deepaudio.audio.mel_convention` knows it.
    config.convention = "hifigan"
    config.batch_size = 32
    # Mel frames of a crop that is learned.
    config.num_frames = 32
    config.num_threads = 8

    config.num_steps = 100_000
    config.precision = "float32"
    # Parts that a batch is gone through in, one after another.
    config.accumulate = 1
    # Devices that share one copy of parameters and optimizer state.
    config.model_devices = 1
    config.optimizer = optimizer()
    config.average_decay = 0.999

    config.log_every = 20
    config.checkpoint_every = 500
    config.keep_every = 5000
    config.evaluate_every = 1000
    config.evaluate_utterances = 16
    return config


def distillation() -> ml_collections.ConfigDict:
    """What a student's loss is made of; see `deepaudio.tasks.vocoding.DistillationConfig`."""
    return ml_collections.ConfigDict(
        {
            "kl": 1.0,
            "draws": 10,
            "power": 100.0,
            "spectral": 0.0,
            "style": 1.0,
            "contrastive": 0.3,
            "regularization": 4.0,
            "pitch": 1.0,
        }
    )
