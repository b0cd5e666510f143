"""Rendering through SoundFonts by the fluidsynth command."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
import soundfile
import soxr

from deepaudio.data import piano_performance

_SYSTEM_FOLDERS = (
    "/usr/share/sounds/sf2",
    "/usr/share/soundfonts",
    "/usr/local/share/soundfonts",
    "/opt/homebrew/share/soundfonts",
)


class SoundFontError(RuntimeError):
    """FluidSynth or a SoundFont is missing or failed, with the reason in one line."""


def require_fluidsynth() -> str:
    """Finds the fluidsynth command.

    Returns:
        Its path.

    Raises:
        SoundFontError: it is not installed.
    """
    command = shutil.which("fluidsynth")
    if command is None:
        raise SoundFontError(
            "the fluidsynth command is missing: apt-get install fluidsynth fluid-soundfont-gm, "
            "or use --instruments synthetic"
        )
    return command


def find_soundfont(name: str, folder: str | os.PathLike | None = None) -> pathlib.Path:
    """Finds a SoundFont file.

    Args:
        name: file name, such as "FluidR3_GM.sf2".
        folder: looked into first; then pretty_midi's package folder (it ships TimGM6mb.sf2) and
            the usual system folders.

    Returns:
        Path of the file.

    Raises:
        SoundFontError: it is in none of them.
    """
    folders = [] if folder is None else [pathlib.Path(folder)]
    package = importlib.util.find_spec("pretty_midi")
    if package is not None and package.submodule_search_locations:
        folders.append(pathlib.Path(package.submodule_search_locations[0]))
    folders.extend(map(pathlib.Path, _SYSTEM_FOLDERS))
    for candidate in folders:
        if (candidate / name).is_file():
            return candidate / name
    raise SoundFontError(
        f"SoundFont {name!r} not found: apt-get install fluid-soundfont-gm, give its folder with "
        "--soundfont_dir, or use --instruments synthetic"
    )


def render(
    performance: piano_performance.Performance,
    soundfont: str | os.PathLike,
    *,
    bank: int = 0,
    program: int = 0,
    sample_rate: int = 16000,
    tuning_cents: float = 0.0,
    reverb: bool = False,
    chorus: bool = False,
    tail: float = 1.5,
) -> np.ndarray:
    """Plays a performance through one preset of a SoundFont.

    Args:
        performance: cleaned performance.
        soundfont: path of the .sf2 file.
        bank: bank of the preset.
        program: program of the preset.
        sample_rate: Hz of the result; FluidSynth itself runs at 44.1 kHz.
        tuning_cents: shift of the whole instrument, cents.
        reverb: FluidSynth's own reverberation.
        chorus: FluidSynth's own chorus.
        tail: seconds kept after the last note's end.

    Returns:
        (samples,) float32 mono, not normalized and never clipped.

    Raises:
        SoundFontError: fluidsynth is missing or fails.
    """
    command = require_fluidsynth()
    ends = piano_performance.sounding_offsets(performance)
    last = float(ends.max()) if len(ends) else 0.0
    with tempfile.TemporaryDirectory(prefix="deepaudio-") as folder:
        midi_path, wav_path = os.path.join(folder, "in.mid"), os.path.join(folder, "out.wav")
        piano_performance.write_performance(
            midi_path,
            performance,
            bank=bank,
            program=program,
            tuning_cents=tuning_cents,
            tail=last - float(performance.offsets.max()) + tail + 1.0 if len(ends) else tail,
        )
        settings = {
            "synth.reverb.active": int(reverb),
            "synth.chorus.active": int(chorus),
            "synth.polyphony": 1024,
            "synth.dynamic-sample-loading": 1,
            "audio.file.format": "float",
        }
        options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        arguments = [command, "-niq", "-g", "0.3", "-r", "44100", *options]
        result = subprocess.run(
            [*arguments, "-T", "wav", "-F", wav_path, str(soundfont), midi_path],
            capture_output=True,
            text=True,
            check=False,
        )
        # fluidsynth exits 0 and plays silence when it cannot load the SoundFont.
        errors = [line for line in result.stderr.splitlines() if "error:" in line]
        if result.returncode != 0 or errors or not os.path.exists(wav_path):
            reason = (errors or [f"exit status {result.returncode}"])[-1]
            raise SoundFontError(f"fluidsynth failed on {soundfont}: {reason}")
        samples, rate = soundfile.read(wav_path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate, sample_rate)
    wanted = round((last + tail) * sample_rate)
    return np.pad(mono[:wanted], (0, max(wanted - len(mono), 0))).astype(np.float32)
