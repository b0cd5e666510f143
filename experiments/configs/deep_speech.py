"""Deep Speech (arXiv 1412.5567): speech to text.

    python -m experiments.make_speech_corpus --output CORPUS
    python -m experiments.train --config=experiments/configs/deep_speech.py:small \
        --config.data_dir=CORPUS --workdir=RUN

Variants, after the colon:
    paper            Five layers of 2048 units, context 9, stride 2: days on a GPU, on LibriSpeech
                     with noise added; the paper's own data are not public.
    small            The same kind with 384 units: under an hour on two CPU cores.
    clean            `small` trained without added noise, the paper's comparison.
    smoke            A minute on two cores, to see the loss fall.
"""

import ml_collections

from experiments.configs import common, deep_speech_2


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
    config.model = ml_collections.ConfigDict({"kind": "deep_speech"})
    config.model.context = 9
    config.model.units = 2048
    config.model.dropout = 0.05
    config.model.time_stride = 2
    config.augment.on = True
    config.batch_size = 256
    config.num_steps = 22_000  # 20 epochs of LibriSpeech
    # The paper's optimizer; it gives no rate.
    config.optimizer.momentum = 0.99
    config.optimizer.max_gradient_norm = 400.0
    config.optimizer.schedule.update(
        {"kind": "staircase", "peak": 1e-4, "decay_rate": 1 / 1.1, "decay_every": 1100}
    )
    return config


def _small():
    config = deep_speech_2.get_config("small")
    config.model = ml_collections.ConfigDict({"kind": "deep_speech"})
    config.model.context = 7
    config.model.units = 384
    config.model.dropout = 0.05
    config.model.time_stride = 3
    # Nothing is normalized within this network, so it wants smaller steps.
    config.optimizer.schedule.peak = 5e-4
    config.sorta_grad = True
    return config


def _clean():
    config = _small()
    config.augment.ranges.noise_share = 0.0
    return config


def _smoke():
    config = deep_speech_2.get_config("smoke")
    config.model = _small().model
    config.model.units = 96
    return config


VARIANTS = {"paper": _paper, "small": _small, "clean": _clean, "smoke": _smoke}
