"""`deepaudio vocode`: mel spectrograms, or sounds by way of them, to sound."""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepaudio._cli_common import (
    Place,
    Reporter,
    SoundWatch,
    naming,
    replacing,
    run_files,
    sound_blocks,
    sound_seconds,
)

if TYPE_CHECKING:
    import numpy as np

    from deepaudio.tasks.vocoder import Vocoder

_BLOCK_SECONDS = 10


def vocode(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN...",
            help="Sound files, mel spectrograms (.npy), or folders of sound files.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Folder to write to.")
    ] = Path(),
    model: Annotated[
        str | None,
        typer.Option(help="A weights file, or the name of an installed model (see info)."),
    ] = None,
    teacher: Annotated[
        bool,
        typer.Option(
            "--teacher", help="Use the sequential model, which the fast one has learned from."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the noise; the same gives the same sound.")] = 0,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Factor of the noise: below 1 is calmer and duller.")
    ] = 1.0,
    speaker: Annotated[
        int, typer.Option(min=0, help="Whose voice, by number, of a model of several.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as one JSON list on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print errors with a traceback.")] = False,
) -> None:
    r"""Make sound from mel spectrograms with a neural vocoder.

    A sound file is turned into a mel spectrogram and back (copy synthesis), which shows how well
    the vocoder does. An array saved by numpy, frames by bands, is taken as a log-mel spectrogram
    of the model's convention, and checked. Writes OUT/STEM.wav, 16 bits. Long inputs are done in
    pieces, without seams.

    \b
    Examples:
      deepaudio vocode speech.wav -o out            copy synthesis
      deepaudio vocode mel.npy -o out               what an acoustic model predicted
      deepaudio vocode mel.npy --seed 1 --temperature 0.8
      deepaudio vocode speech.wav --teacher -o slow
      deepaudio vocode mel.npy --model mine.safetensors

    Exit status: 0 if all went well, 1 if an input failed (the others are done all the same),
    2 on wrong usage.
    """
    if model and teacher:
        raise typer.BadParameter("--model and --teacher exclude each other")
    reporter = Reporter(quiet=quiet, debug=debug)
    settings = {"seed": seed, "temperature": temperature, "speaker": speaker}
    job = _Job(reporter, model, teacher, settings)
    results = run_files(inputs, reporter=reporter, folder=output, load=job.load, do=job.do)
    if as_json:
        typer.echo(json.dumps(results))
    reporter.exit()


@dataclasses.dataclass(frozen=True)
class _Job:
    reporter: Reporter
    model: str | None
    teacher: bool
    settings: dict

    def load(self) -> "Vocoder | None":
        # JAX and the model take seconds to load, which --help and wrong usage should not pay.
        from deepaudio.tasks import vocoder

        default = vocoder.DEFAULT_TEACHER if self.teacher else vocoder.DEFAULT_MODEL
        with self.reporter.guard("model"):
            return vocoder.load_vocoder(self.model or default)
        return None

    def do(self, vocoder: "Vocoder", file: Path, place: Place) -> dict:
        import soundfile

        convention = vocoder.convention
        path = place("wav")
        watch = SoundWatch()
        seconds = None if file.suffix == ".npy" else sound_seconds(file)
        with self.reporter.progress(file.name, seconds) as progress:
            pieces = vocoder.stream(self._mel(vocoder, file), **self.settings)
            with naming(path), replacing(path) as beside:
                # Nothing is written for an input that turns out to be unfit.
                first = next(pieces, None)
                if first is None:
                    raise ValueError("holds no sound")
                with soundfile.SoundFile(
                    beside, "w", convention.sample_rate, 1, subtype="PCM_16"
                ) as sound:
                    for piece in watch.listen(itertools.chain([first], pieces)):
                        sound.write(piece)
                        progress(watch.total / convention.sample_rate)
        length = watch.total / convention.sample_rate
        watch.tell(self.reporter, file, f"{length:.2f} s", [path])
        return {
            "file": str(file),
            "output": str(path),
            "seconds": round(length, 4),
            "sample_rate": convention.sample_rate,
        }

    def _mel(self, vocoder: "Vocoder", file: Path) -> "Iterator[np.ndarray]":
        if file.suffix == ".npy":
            return iter([_read_mel(file, vocoder)])
        rate = vocoder.convention.sample_rate
        blocks = sound_blocks(file, sample_rate=rate, block_samples=_BLOCK_SECONDS * rate)
        return vocoder.mel_blocks(blocks)


def _read_mel(file: Path, vocoder: "Vocoder") -> "np.ndarray":
    """A saved mel spectrogram, checked.

    Raises:
        ValueError: It is no array, or no log-mel of the model's convention.
    """
    import numpy as np

    from deepaudio import audio

    try:
        mel = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"not an array that numpy saved: {error}") from error
    if not isinstance(mel, np.ndarray):
        raise ValueError("holds several arrays; save one as .npy")
    return audio.check_mel(mel, vocoder.convention)
