"""Deep Speech 1: robustness by synthesis of noise, and training on several devices."""

from experiments import compare_speech
from experiments.claims import _data_parallel, _speech
from experiments.claims._claim import (
    Check,
    Claim,
    Outcome,
    Panel,
    Setting,
    mean,
    spread,
    values_of,
)
from experiments.claims._runs import train_all

_TRAINED, _WITHOUT = "base", "no_noise"
# Of the way that parameters go in some steps: sums in another order.
_TOLERANCE = 1e-3


def _measure(setting: Setting) -> Outcome:
    arms = compare_speech.arms(setting.workdir)
    runs = [
        *_speech.runs(setting, _TRAINED, arms[_TRAINED]),
        *_speech.runs(setting, _WITHOUT, arms[_WITHOUT]),
    ]
    rows = train_all(runs, setting.jobs)
    noisy, without = (values_of(rows, arm, "cer_5_db") for arm in (_TRAINED, _WITHOUT))
    quiet = [values_of(rows, arm, "cer") for arm in (_TRAINED, _WITHOUT)]
    equal = _data_parallel.equality(setting)
    checks = [
        Check(
            "with noise at 5 dB, training with superposed noise makes fewer character errors",
            f"{spread(noisy, 100)} % against {spread(without, 100)} % without "
            f"(in quiet {spread(quiet[0], 100)} against {spread(quiet[1], 100)} %)",
            mean(noisy) < mean(without),
        ),
        Check(
            f"training on {equal['devices']} devices gives what one device gives",
            f"parameters after {equal['steps']} steps differ by {equal['difference']:.1e} of the "
            "way they went",
            equal["difference"] < _TOLERANCE,
        ),
    ]
    panels = [
        Panel(
            f"character errors {name}, %",
            {
                arm: [100 * value for value in values_of(rows, arm, key)]
                for arm in (_TRAINED, _WITHOUT)
            },
        )
        for name, key in (("at 5 dB", "cer_5_db"), ("in quiet", "cer"))
    ]
    return Outcome([*rows, {"arm": "devices", **equal}], checks, panels)


CLAIM = Claim(
    name="deep_speech_1",
    paper="arXiv 1412.5567",
    sentence=(
        "Key to our approach is a well-optimized RNN training system that uses multiple GPUs, as "
        "well as a set of novel data synthesis techniques ... handles challenging noisy "
        "environments better than widely used, state-of-the-art commercial speech systems."
    ),
    instead=(
        "The same recognizer trained with and without superposed noise, on speakers that training "
        "did not hear, in quiet and with noise at 5 dB; and a training step over several devices "
        "beside one device's"
    ),
    measure=_measure,
)
