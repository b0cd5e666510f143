"""Onsets and Frames (arXiv 1710.11153): piano recordings to notes.

    python -m experiments.make_piano_corpus --output CORPUS
    python -m experiments.train --config=experiments/configs/onsets_and_frames.py:small \
        --config.data_dir=CORPUS --workdir=RUN

Variants, after the colon:
    paper            The paper's network and schedule, for MAPS: days on one GPU; the paper gives
                     note F1 about 82, with offset 50.22, on MAPS.
    maestro          The follow-up's (arXiv 1810.12247) network, offset head and augmentation, for
                     MAESTRO: days on several GPUs; note F1 95.32, with offset 80.50 on MAESTRO.
    small            One shared acoustic stack and short ways for gradients: over an hour on two CPU
                     cores. The package's weights come from two runs of it, see
                     deepaudio/weights/README.md, and so do their scores, see README.md.
    frames_only      `small` without onsets, the paper's ablation.
    small_bf16       `small` with the network's arithmetic in bfloat16 (arXiv 1710.03740).
    small_fp16       The same in float16, with dynamic loss scaling.
    small_pruned     `small`, 90 % of its matrices' weights pruned gradually (arXiv 1704.05119):
                     needs --config.init_from or --config.optimizer.pruning.dense_model, a trained
                     dense model, whose weights say where the threshold must end.
    small_dsd        `small` trained dense, then sparse, then dense again (arXiv 1607.04381).
    mini             A tenth of `small`, for comparisons of ways to train: minutes.
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
    config = ml_collections.ConfigDict()
    config.task = "transcription"
    config.dataset = "maps"
    config.data_dir = ml_collections.config_dict.placeholder(str)
    config.seed = 0
    # Weights to begin from: shipped ones by name, a file, or another run's folder.
    config.init_from = ml_collections.config_dict.placeholder(str)

    config.front_end = ml_collections.ConfigDict({"n_mels": 229, "htk": False, "amin": 1e-10})
    config.model = ml_collections.ConfigDict()
    config.model.channels = (32, 32, 64)
    config.model.pools = (1, 2, 2)
    config.model.dense_units = 512
    config.model.lstm_units = 128
    config.model.conv_dropout = 0.25
    config.model.dense_dropout = 0.5
    config.model.shared_convolutions = False
    config.model.onset_head = True
    config.model.offset_head = False
    config.model.velocity_head = True
    config.model.stop_gradient = False
    config.model.band_norm = False
    config.model.dense_norm = False
    config.model.key_lstm_units = 0
    config.model.direct = False
    config.weighted_frame_loss = True

    config.batch_size = 8
    config.num_frames = 625  # 20 s
    config.augment = ml_collections.ConfigDict({"on": False, "ranges": {}})
    config.num_threads = 8

    config.num_steps = 50_000
    config.precision = "float32"
    # Parts that a batch is gone through in, one after another.
    config.accumulate = 1
    # Devices that share one copy of parameters and optimizer state.
    config.model_devices = 1
    config.optimizer = common.optimizer()
    config.optimizer.schedule.update(
        {"kind": "staircase", "peak": 6e-4, "decay_rate": 0.98, "decay_every": 10_000}
    )
    config.optimizer.max_gradient_norm = 3.0
    config.average_decay = 0.999

    config.log_every = 20
    config.checkpoint_every = 1000
    config.keep_every = 10_000
    config.evaluate_every = 2500
    config.evaluate_recordings = 8
    return config


def _maestro():
    config = _paper()
    config.dataset = "maestro"
    config.front_end.htk = True
    config.model.channels = (48, 48, 96)
    config.model.dense_units = 768
    config.model.lstm_units = 256
    config.model.offset_head = True
    config.model.stop_gradient = True
    config.weighted_frame_loss = False
    # The follow-up has no gain; its recordings all come from one set-up.
    config.augment.on = True
    config.augment.ranges.gain_db = None
    config.num_steps = 1_000_000
    config.keep_every = 100_000
    config.evaluate_every = 10_000
    return config


def _small():
    config = _maestro()
    # Fainter than -70 dB is silence: what lies below differs from recorder to recorder.
    config.front_end.amin = 1e-7
    config.front_end.htk = False
    config.model.channels = (8, 16, 32)
    config.model.pools = (2, 2, 1)
    config.model.dense_units = 384
    config.model.lstm_units = 128
    config.model.conv_dropout = 0.0
    config.model.dense_dropout = 0.1
    config.model.shared_convolutions = True
    config.model.stop_gradient = False
    config.model.band_norm = True
    config.model.dense_norm = True
    config.model.key_lstm_units = 8
    config.model.direct = True
    # Milder noise and rooms than the follow-up's: the made corpus has its own already.
    config.augment.ranges = ml_collections.ConfigDict(
        {"noise_volume": (0.0, 0.01), "reverberance": (0.0, 50.0), "gain_db": (-15.0, 3.0)}
    )
    config.batch_size = 16
    config.num_frames = 100  # 3.2 s
    config.num_threads = 2
    config.num_steps = 8_000
    config.optimizer.schedule.update(
        {"kind": "stable", "peak": 1.5e-3, "warmup_steps": 200, "decay_share": 0.4}
    )
    config.optimizer.weight_decay = 1e-2
    config.checkpoint_every = 250
    config.keep_every = 1000
    config.evaluate_every = 1000
    return config


def _frames_only():
    config = _small()
    config.model.onset_head = False
    config.model.offset_head = False
    config.model.velocity_head = False
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


def _mini():
    config = _small()
    config.model.channels = (8, 8, 16)
    config.model.dense_units = 96
    config.model.lstm_units = 48
    config.model.key_lstm_units = 4
    config.batch_size = 8
    config.num_steps = 1000
    config.optimizer.schedule.warmup_steps = 100
    return config


def _smoke():
    config = _small()
    config.model.channels = (8, 8, 16)
    config.model.dense_units = 64
    config.model.lstm_units = 32
    config.num_frames = 100
    config.num_steps = 150
    config.optimizer.schedule.warmup_steps = 10
    config.log_every = 10
    config.checkpoint_every = 50
    config.keep_every = None
    config.evaluate_every = 150
    config.evaluate_recordings = 1
    return config


VARIANTS = {
    "paper": _paper,
    "maestro": _maestro,
    "small": _small,
    "frames_only": _frames_only,
    "small_bf16": functools.partial(_precision, "bfloat16"),
    "small_fp16": functools.partial(_precision, "float16"),
    "small_pruned": _pruned,
    "small_dsd": _dense_sparse_dense,
    "mini": _mini,
    "smoke": _smoke,
}
