"""Deep Speech 2 (arXiv 1512.02595): speech to text.

    python -m experiments.make_speech_corpus --output CORPUS
    python -m experiments.train --config=experiments/configs/deep_speech_2.py:small \
        --config.data_dir=CORPUS --workdir=RUN

Variants, after the colon:
    paper            Two 2-D convolutions, seven bidirectional simple recurrent layers of 1760,
                     67.7 million parameters, for LibriSpeech: days on several GPUs. The paper's
                     models were trained on 12,000 hours.
    paper_gru        Two 2-D convolutions, three forward GRU layers of 2560 and a row convolution,
                     115.5 million parameters: the paper's system for deployment.
    small            The same kind with three GRU layers of 384: over two hours on two idle CPU
                     cores. The package's English weights come from a shorter run of it, see
                     deepaudio/weights/README.md.
    small_bf16       `small` with the network's arithmetic in bfloat16 (arXiv 1710.03740).
    small_fp16       The same in float16, with dynamic loss scaling.
    small_pruned     `small`, 90 % of its matrices' weights pruned gradually (arXiv 1704.05119):
                     needs --config.init_from or --config.optimizer.pruning.dense_model, a trained
                     dense model, whose weights say where the threshold must end.
    small_dsd        `small` trained dense, then sparse, then dense again (arXiv 1607.04381).
    mandarin         `small` with the characters of its corpus as outputs.
    mini             A fifth of `small`, for comparisons of ways to train: minutes.
    smoke            A minute on two cores, to see the loss fall.
"""

import functools

import ml_collections

from experiments.configs import common


def get_config(variant: str = "small") -> ml_collections.ConfigDict:
    """Returns the configuration of one variant.

    Raises:
        ValueError: There is no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"{variant=} must be one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]()


def _paper():
    config = common.recognition()
    config.front_end = ml_collections.ConfigDict({"kind": "log_spectrogram"})
    config.model = ml_collections.ConfigDict({"kind": "deep_speech_2"})
    # Channels, frames and bands of a filter, strides over frames and bands.
    config.model.convolutions = ((32, 11, 41, 2, 2), (32, 11, 21, 1, 2))
    config.model.cell = "rnn"
    config.model.layers = 7
    config.model.units = 1760
    config.model.bidirectional = True
    config.model.lookahead = 0
    config.model.batch_norm = True
    config.model.dense_units = 1760
    config.model.dropout = 0.0
    config.sorta_grad = True
    config.batch_size = 512
    config.num_steps = 11_000  # 20 epochs of LibriSpeech
    # The paper's optimizer, the rate divided by 1.2 an epoch.
    config.optimizer.momentum = 0.99
    config.optimizer.max_gradient_norm = 400.0
    config.optimizer.schedule.update(
        {"kind": "staircase", "peak": 5e-4, "decay_rate": 1 / 1.2, "decay_every": 550}
    )
    return config


def _paper_gru():
    config = _paper()
    config.model.cell = "gru"
    config.model.layers = 3
    config.model.units = 2560
    config.model.bidirectional = False
    config.model.lookahead = 80
    config.model.dense_units = 2560
    return config


def _small():
    config = _paper_gru()
    config.dataset = "manifest"
    config.splits = ml_collections.ConfigDict({"train": "train", "validation": "validation"})
    config.front_end = ml_collections.ConfigDict(
        {
            "kind": "log_mel",
            "hop_length": 160,
            "n_fft": 480,
            "n_mels": 64,
            "f_min": 50.0,
            "f_max": 7600.0,
            "amin": 1e-7,
        }
    )
    # Cheap filters: 30 ms an output frame, and no more arithmetic than the recurrent layers need.
    config.model.convolutions = ((16, 11, 11, 3, 2), (32, 5, 7, 1, 2))
    config.model.units = 384
    config.model.lookahead = 20
    config.model.dense_units = 384
    config.model.dropout = 0.1
    config.spec_augment.on = True
    config.spec_augment.policy = ml_collections.ConfigDict(
        {"frequency_width": 12, "frequency_masks": 2, "time_width": 25, "time_masks": 2}
    )
    config.augment.on = True
    config.buckets = (2.0, 2.75, 4.0, 6.0, 12.5)
    config.batch_size = 32
    config.num_threads = 2
    config.num_steps = 8_000
    config.optimizer.momentum = None
    config.optimizer.max_gradient_norm = 3.0
    config.optimizer.weight_decay = 1e-2
    config.optimizer.schedule.update(
        {"kind": "stable", "peak": 1.5e-3, "warmup_steps": 300, "decay_share": 0.4}
    )
    config.checkpoint_every = 250
    config.keep_every = 1000
    config.evaluate_every = 500
    return config


def _precision(name):
    config = _small()
    config.precision = name
    return config


def _pruned():
    config = _small()
    config.optimizer.pruning.on = True
    return config


def _dense_sparse_dense():
    config = _small()
    config.optimizer.dense_sparse_dense.on = True
    return config


def _mandarin():
    config = _small()
    config.alphabet.kind = "characters"
    config.num_steps = 1500
    return config


def _mini():
    config = _small()
    config.model.units = 160
    config.model.dense_units = 160
    config.num_steps = 1500
    config.optimizer.schedule.warmup_steps = 100
    return config


def _smoke():
    config = _small()
    config.model.convolutions = ((8, 11, 11, 3, 4), (16, 5, 5, 1, 2))
    config.model.layers = 1
    config.model.units = 96
    config.model.dense_units = 0
    config.batch_size = 16
    config.num_steps = 150
    config.optimizer.schedule.warmup_steps = 20
    config.log_every = 10
    config.checkpoint_every = 50
    config.keep_every = None
    config.evaluate_every = 150
    config.evaluate_utterances = 16
    return config


VARIANTS = {
    "paper": _paper,
    "paper_gru": _paper_gru,
    "small": _small,
    "small_bf16": functools.partial(_precision, "bfloat16"),
    "small_fp16": functools.partial(_precision, "float16"),
    "small_pruned": _pruned,
    "small_dsd": _dense_sparse_dense,
    "mandarin": _mandarin,
    "mini": _mini,
    "smoke": _smoke,
}
