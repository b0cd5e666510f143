"""The student of Parallel WaveNet (arXiv 1711.10433): sound from noise in one pass.

    python -m experiments.train --config=experiments/configs/parallel_wavenet.py:small \
        --config.data_dir=CORPUS --config.teacher=TEACHER --workdir=STUDENT

A student learns from a trained teacher, see experiments/configs/wavenet.py, and for the perceptual
loss from a recognizer, the package's own if no other is named.

Variants, after the colon:
    paper            The paper's student, flows of 10, 10, 10 and 30 layers, 64 channels, 24 kHz.
    small            The same flows with 32 channels, filters of two samples, 16 kHz, for two CPU
                     cores.
    small_gaussian   The same from Gaussian noise, with ClariNet's divergence in closed form
                     (arXiv 1807.07281); its teacher is wavenet.py:small_gaussian.
    kl_alone         `small` with the divergence alone, the first row of the paper's ablation;
    kl_power         with the power loss as well;
    kl_power_style   and with the perceptual loss. `small` has the contrastive loss on top.
    source           A filtered source alone, by spectra frame by frame and the recording's pitch:
                     no teacher, half an hour on two CPU cores.
    voice            Goes on from `source` (init_from) with two flows of 10 layers and the teacher's
                     divergence; what the shipped weights are.
    smoke            A minute on two cores.
"""

import functools

import ml_collections

from experiments.configs import common, wavenet

# Of which a tenth of the divergence, nats a sample, does not pull the spectra away again: with all
# of it the spectral loss rose from 0.80 to 1.02 in 40 steps.
SPECTRAL = 4.0


def get_config(variant: str = "small") -> ml_collections.ConfigDict:
    """Returns the configuration of one variant.

    Raises:
        ValueError: There is no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"{variant=} must be one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]()


def _student(config):
    """Makes a teacher's configuration a student's: the same data and mel frames."""
    of_teacher = config.model
    config.model = ml_collections.ConfigDict(
        {
            "kind": "parallel_wavenet",
            "flows": (10, 10, 10, 30),
            "cycle": 10,
            "filter_width": 3,
            "residual": 64,
            "gate": 64,
            "noise": "logistic",
            "initial_scale": 0.05,
            "source": 0,
            "source_layers": 6,
            "periods": (32.0, 230.0),
            **{
                name: of_teacher[name]
                for name in ("mels", "conditioning", "upsample", "context", "speakers")
            },
        }
    )
    # The teacher's run or weights, and what hears for the perceptual loss.
    config.teacher = ml_collections.config_dict.placeholder(str)
    config.listener = "deep_speech_2_small"
    config.distillation = common.distillation()
    return config


def _paper():
    config = _student(wavenet.get_config("paper"))
    config.distillation.draws = 100
    config.batch_size = 8
    return config


def _small(**distillation):
    config = _student(wavenet.get_config("small"))
    config.model.update({"filter_width": 2, "residual": 32, "gate": 32})
    config.batch_size = 4
    config.optimizer.schedule.update({"peak": 1e-3})
    config.distillation.update(distillation)
    return config


def _voice():
    config = _source()
    config.model.flows = (10, 10)
    config.distillation.update({"kl": 0.1, "draws": 4, "spectral": SPECTRAL, "pitch": SPECTRAL})
    config.batch_size = 8
    config.num_frames = 32
    config.optimizer.schedule.update({"peak": 3e-4, "warmup_steps": 50})
    return config


def _source():
    config = _small(kl=0.0, power=0.0, spectral=1.0, style=0.0, contrastive=0.0)
    config.model.update({"flows": (), "source": 256, "initial_scale": 0.005})
    config.batch_size = 16
    config.num_frames = 48
    config.optimizer.schedule.update({"peak": 1e-3, "warmup_steps": 100})
    return config


def _small_gaussian():
    config = _small()
    config.model.noise = "gaussian"
    return config


def _smoke():
    config = _student(wavenet.get_config("smoke"))
    config.model.update({"flows": (4, 4), "cycle": 4, "residual": 8, "gate": 8})
    config.distillation.update({"draws": 2})
    return config


VARIANTS = {
    "paper": _paper,
    "small": _small,
    "small_gaussian": _small_gaussian,
    "kl_alone": functools.partial(_small, power=0.0, style=0.0, contrastive=0.0),
    "kl_power": functools.partial(_small, style=0.0, contrastive=0.0),
    "kl_power_style": functools.partial(_small, contrastive=0.0),
    "voice": _voice,
    "source": _source,
    "smoke": _smoke,
}
