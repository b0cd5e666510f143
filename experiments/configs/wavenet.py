"""WaveNet (arXiv 1609.03499), the teacher of Parallel WaveNet (arXiv 1711.10433).

    python -m experiments.make_speech_corpus --output CORPUS     # its recorded prompts: one voice
    python -m experiments.train --config=experiments/configs/wavenet.py:small \
        --config.data_dir=CORPUS --workdir=TEACHER

Variants, after the colon:
    paper            The paper's teacher, 30 layers, 512 channels, 24 kHz: a week on eight GPUs.
    small            18 layers of 32 channels, 16 kHz: hours on two CPU cores.
    predicted        `small` on the errors of linear prediction, by filters that follow from the mel
                     frames.
    medium           20 layers of 64 channels, 16 kHz: minutes on a GPU.
    small_gaussian   The same with a Gaussian output, for a Gaussian student (ClariNet).
    small_mu_law     The same with 8-bit codes, as in the first WaveNet.
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
    config = common.vocoding()
    config.convention = "parallel_wavegan"
    config.model = ml_collections.ConfigDict(
        {
            "kind": "wavenet",
            "layers": 30,
            "cycle": 10,
            "filter_width": 3,
            "residual": 512,
            "gate": 256,
            "skip": 256,
            "output": "mixture_of_logistics",
            "mixtures": 10,
            "mels": 80,
            "conditioning": 80,
            "upsample": (10, 30),
            "context": 2,
            "speakers": 0,
            "prediction": 0,
        }
    )
    config.batch_size = 32
    config.num_frames = 26  # 7,800 samples; the paper has 7,680.
    config.num_steps = 1_000_000
    config.optimizer.schedule.update({"kind": "staircase", "peak": 2e-4})
    config.average_decay = 0.9999
    config.checkpoint_every = 1000
    config.keep_every = 100_000
    config.evaluate_every = 10_000
    return config


def _small(output="mixture_of_logistics"):
    config = _paper()
    config.dataset = "manifest"
    config.splits = ml_collections.ConfigDict(
        {"train": "prompts_train+prompts_test", "validation": "prompts_validation"}
    )
    config.convention = "hifigan_16k"
    config.model.update(
        {
            "layers": 18,
            "cycle": 9,
            "filter_width": 2,
            "residual": 32,
            "gate": 32,
            "skip": 64,
            "output": output,
            "conditioning": 32,
            "upsample": (16, 16),
        }
    )
    config.batch_size = 8
    config.num_frames = 20  # 5,120 samples
    config.num_threads = 2
    config.num_steps = 10_000
    config.optimizer.schedule.update(
        {"kind": "stable", "peak": 2e-3, "warmup_steps": 200, "decay_share": 0.4}
    )
    config.average_decay = 0.999
    config.checkpoint_every = 250
    config.keep_every = 2000
    config.evaluate_every = 1000
    return config


def _predicted():
    config = _small()
    config.model.prediction = 24
    # At `small`'s 2e-3 the loss rose after 300 steps.
    config.optimizer.schedule.peak = 6e-4
    return config


def _medium():
    config = _small()
    config.model.update(
        {"layers": 20, "cycle": 10, "residual": 64, "gate": 64, "skip": 256, "conditioning": 64}
    )
    config.batch_size = 16
    config.num_frames = 32  # 8,192 samples
    config.num_threads = 4
    config.num_steps = 25_000
    config.optimizer.schedule.update({"peak": 1e-3, "decay_share": 0.3})
    config.average_decay = 0.9995
    config.checkpoint_every = 2000
    config.keep_every = None
    config.evaluate_every = 5000
    return config


def _smoke():
    config = _small()
    config.model.update({"layers": 6, "cycle": 6, "residual": 16, "gate": 16, "skip": 16})
    config.batch_size = 4
    config.num_frames = 16
    config.num_steps = 150
    config.optimizer.schedule.warmup_steps = 20
    config.log_every = 10
    config.checkpoint_every = 50
    config.keep_every = None
    config.evaluate_every = 150
    config.evaluate_utterances = 4
    return config


VARIANTS = {
    "paper": _paper,
    "small": _small,
    "predicted": _predicted,
    "medium": _medium,
    "small_gaussian": functools.partial(_small, "gaussian"),
    "small_mu_law": functools.partial(_small, "mu_law"),
    "smoke": _smoke,
}
