"""Voices of free speech synthesizers: espeak-ng, flite, pico and festival, made into more speakers.

A speaker's size stretches the spectrum by resampling, which moves pitch and formants as another
length of the vocal tract would; the tempo is put right by the synthesizer.
"""

import dataclasses
import importlib.util
import io
import re
import shutil
import subprocess
import tempfile
import wave

import numpy as np

SAMPLE_RATE = 16000
_ACCENTS = (
    "en-us",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
)
# Variants of espeak-ng with the voicing, pitch and tempo of people, as measured; the others
# whisper, croak, rush or play robots.
_VARIANTS = (
    "m1 m2 m3 m5 m6 m7 f1 f2 f3 f5 klatt klatt2 klatt4 klatt5 klatt6 Alex Alicia Andrea Andy Denis "
    "Diogo Gene Gene2 Henrique Hugo Jacky Lee Mario Michael Mike Nguyen adam anika antonio aunty "
    "belinda boris caleb david ed gustave iven iven2 iven3 iven4 john kaukovalta marcelo max "
    "michel miguel norbert pablo paul pedro quincy rob robert sandro shelby travis victor"
).split()
# Spoken by nobody in training, with all of their kin.
_UNHEARD_VARIANTS = (
    "m4 m8 f4 klatt3 Annie steph steph2 steph3 edward edward2 benjamin linda".split()
)
# Of all frequencies. Few people's voices must stand for many, pico's women's for men's.
_SIZES = {"espeak": (0.9, 1.12), "flite": (0.86, 1.16), "pico": (0.8, 1.12)}
# Ranges of the mean pitch in Hz; rms has no pitch to set.
_FLITE_PITCH = {"awb": (90.0, 170.0), "rms": None, "slt": (135.0, 235.0), "kal16": (90.0, 150.0)}
_FLITE_VOICES = ("awb", "rms", "slt", "kal16")
_FESTIVAL_VOICES = ("ked_diphone", "kal_diphone", "cmu_us_slt_arctic_hts")
_PICO_VOICES = ("en-US", "en-GB")
_PICO_PITCH = (0.65, 1.15)
# Of training; every person is heard equally often.
_SHARES = {"espeak": 0.4, "flite": 0.4, "pico": 0.2}
_SECONDS_ALLOWED = 60.0
# espeak-ng's usual words a minute.
_ESPEAK_WORDS = 175.0


class SpeechSynthesisError(RuntimeError):
    """A synthesizer is missing or failed."""


@dataclasses.dataclass(frozen=True)
class Voice:
    """A voice and how it speaks.

    Attributes:
        engine: "espeak", "flite", "pico" or "festival".
        name: the engine's name of the voice.
        rate: how fast, 1 being the engine's usual tempo, after the change of size.
        pitch: espeak: 0 to 99; flite: mean in Hz; pico: factor on the voice's own; None for the
            voice's own.
        inflection: flite: standard deviation of the pitch in Hz; None for the voice's own.
        size: factor on all frequencies.
    """

    engine: str
    name: str
    rate: float = 1.0
    pitch: float | None = None
    inflection: float | None = None
    size: float = 1.0

    @property
    def speaker(self) -> str:
        """Name that is the same for the same voice of the same size."""
        return f"{self.engine}-{self.name}-{round(100 * self.size)}"


def draw_voice(rng: np.random.Generator, split: str, language: str = "en") -> Voice:
    """Draw a voice for an utterance.

    Args:
        rng: source of randomness.
        split: "train" or "validation" for the voices of training, "test_speakers" for espeak-ng
            variants that training never hears, "test_engine" for festival. Flite's and pico's
            voices are all needed in training: they alone are made of people's speech.
        language: "en"; "cmn" has espeak-ng alone.

    Returns:
        The voice.
    """
    if split == "test_engine":
        return Voice("festival", _one(rng, _FESTIVAL_VOICES), rate=float(rng.uniform(0.85, 1.2)))
    mixed = language == "en" and split != "test_speakers"
    engine = str(rng.choice([*_SHARES], p=[*_SHARES.values()])) if mixed else "espeak"
    # A fine grid, so that a speaker is more than one utterance.
    size = round(float(rng.uniform(*_SIZES[engine])) / 0.02) * 0.02
    if engine == "espeak":
        return _draw_espeak(rng, size, language, held_out=split == "test_speakers")
    rate = float(rng.uniform(0.75, 1.25))
    if engine == "pico":
        name = _one(rng, _PICO_VOICES)
        return Voice(engine, name, rate, pitch=float(rng.uniform(*_PICO_PITCH)), size=size)
    name = _one(rng, _FLITE_VOICES)
    pitch = _FLITE_PITCH[name]
    return Voice(
        engine,
        name,
        rate,
        pitch=float(rng.uniform(*pitch)) if pitch else None,
        inflection=float(rng.uniform(8.0, 30.0)) if pitch else None,
        size=size,
    )


def _draw_espeak(rng, size, language, *, held_out):
    accent = _one(rng, _ACCENTS if language == "en" else (language,))
    variant = _one(rng, _UNHEARD_VARIANTS if held_out else _VARIANTS)
    return Voice(
        "espeak",
        f"{accent}+{variant}",
        rate=float(rng.uniform(110.0, 200.0)) / _ESPEAK_WORDS,
        pitch=float(rng.integers(25, 76)),
        size=size,
    )


def _one(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def speak(spoken: str, voice: Voice) -> np.ndarray:
    """Synthesize a sentence.

    Args:
        spoken: words and punctuation.
        voice: who says it.

    Returns:
        (n,) float32 at 16 kHz, without silence at either end.

    Raises:
        SpeechSynthesisError: if the engine is missing, fails or says nothing.
    """
    import soxr

    engines = {"espeak": _espeak, "flite": _flite, "pico": _pico, "festival": _festival}
    samples, rate = engines[voice.engine](spoken, voice)
    samples = soxr.resample(samples, rate * voice.size, SAMPLE_RATE)
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max(initial=0.0))
    if len(loud) < 100:
        raise SpeechSynthesisError(f"{voice.engine} says nothing for {spoken!r} as {voice.name}")
    return samples[loud[0] : loud[-1] + 1].astype(np.float32)


def require_engines(engines: tuple[str, ...]) -> None:
    """Check that synthesizers are installed.

    Args:
        engines: of "espeak", "flite", "pico" and "festival".

    Raises:
        SpeechSynthesisError: if one or a voice of it is missing; names it.
    """
    for engine in engines:
        if engine == "pico":
            if importlib.util.find_spec("py_nanotts") is None:
                raise SpeechSynthesisError("needs py-nanotts: install deepaudio[speech]")
            continue
        program = {"espeak": "espeak-ng"}.get(engine, engine)
        if shutil.which(program) is None:
            raise SpeechSynthesisError(f"needs {program}: install Debian's package {program}")
    if "festival" in engines:
        known = _run(["festival", "--pipe"], "(print (voice.list))").decode()
        missing = [name for name in _FESTIVAL_VOICES if not re.search(rf"\b{name}\b", known)]
        if missing:
            raise SpeechSynthesisError(
                f"festival lacks the voice {missing[0]}: install Debian's festvox-kallpc16k, "
                "festvox-kdlpc16k and festvox-us-slt-hts"
            )


def _espeak(spoken: str, voice: Voice) -> tuple[np.ndarray, int]:
    words = round(_ESPEAK_WORDS * voice.rate / voice.size)
    command = ["espeak-ng", "--stdin", "--stdout", "-b", "1", "-v", voice.name, "-s", str(words)]
    # At the usual amplitude of 100 some variants clip.
    pitch = [] if voice.pitch is None else ["-p", str(int(voice.pitch))]
    return _decode(_run([*command, *pitch, "-a", "50"], spoken))


def _flite(spoken: str, voice: Voice) -> tuple[np.ndarray, int]:
    settings = {
        "duration_stretch": voice.size / voice.rate,
        "int_f0_target_mean": voice.pitch,
        "int_f0_target_stddev": voice.inflection,
    }
    options = [f"{name}={value:.3f}" for name, value in settings.items() if value]
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", voice.name, "-t", spoken, "-o", file.name]
        for option in options:
            command += ["--setf", option]
        _run(command, "")
        return _decode(file.read())


def _pico(spoken: str, voice: Voice) -> tuple[np.ndarray, int]:
    import py_nanotts

    tempo = voice.rate / voice.size
    # At the usual volume loud sounds clip.
    sound = py_nanotts.NanoTTS().speak(spoken, voice.name, tempo, voice.pitch, volume=0.5)
    return np.frombuffer(sound, "<i2").astype(np.float32) / np.float32(32768.0), SAMPLE_RATE


def _festival(spoken: str, voice: Voice) -> tuple[np.ndarray, int]:
    # Its lexicon lacks this letter's name, and knows the letter.
    spoken = re.sub(r"\baitch\b", "h", spoken)
    stretch = voice.size / voice.rate
    setting = f"(begin (voice_{voice.name}) (Parameter.set 'Duration_Stretch {stretch:.3f}))"
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        _run(["text2wave", "-eval", setting, "-o", file.name], spoken)
        return _decode(file.read())


def _run(command: list[str], text: str) -> bytes:
    try:
        run = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=_SECONDS_ALLOWED, check=True
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()
        raise SpeechSynthesisError(
            f"{command[0]} failed: {reason[-1] if reason else error.returncode}"
        ) from None
    except subprocess.TimeoutExpired:
        raise SpeechSynthesisError(f"{command[0]} gave no answer to {text!r}") from None
    return run.stdout


def _decode(data: bytes) -> tuple[np.ndarray, int]:
    """Return the samples, at -1..1, and their rate; a stream's length in its header is no truth."""
    with wave.open(io.BytesIO(data)) as file:
        rate = file.getframerate()
    sound = data[data.index(b"data") + 8 :]
    samples = np.frombuffer(sound[: len(sound) // 2 * 2], "<i2")
    return samples.astype(np.float32) / np.float32(32768.0), rate
