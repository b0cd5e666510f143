"""`deepaudio transcribe`: piano recordings to MIDI."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepaudio._cli_common import (
    Reporter,
    find_inputs,
    output_stems,
    sound_blocks,
    sound_seconds,
)

if TYPE_CHECKING:
    import numpy as np

    from deepaudio.data.notes import Notes
    from deepaudio.tasks.transcriber import Transcriber

FORMATS = ("mid", "csv", "json", "png")
_SILENCE = 1e-4  # full scale is 1; below this, 80 dB down, nothing can be heard
_CLIPPED_SHARE = 1e-3
_BLOCK_SECONDS = 10


def _formats(value: str | None) -> str | None:
    for name in (value or "mid").split(","):
        if name not in FORMATS:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(FORMATS)}")
    return value


def _threshold(value: float | None) -> float | None:
    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"{value} is not between 0 and 1")
    return value


def transcribe(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN...", help="Sound files, or folders of them.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="OUT", help="Folder to write to.  [default: this folder]"
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="LIST",
            callback=_formats,
            help="What to write, of mid,csv,json,png, with commas between.  [default: mid]",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A weights file, or the name of an installed model (see info)."),
    ] = None,
    onset_threshold: Annotated[
        float | None,
        typer.Option(
            callback=_threshold, help="Probability above which a note begins; higher finds fewer."
        ),
    ] = None,
    frame_threshold: Annotated[
        float | None,
        typer.Option(
            callback=_threshold, help="Probability above which a key sounds; higher ends earlier."
        ),
    ] = None,
    sonify: Annotated[
        bool,
        typer.Option("--sonify", help="Also write STEM.notes.wav: recording left, notes right."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the notes as one JSON list on stdout. Writes files only if -o, --format "
            "or --sonify asks for them.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print errors with a traceback.")] = False,
) -> None:
    r"""Turn piano recordings into MIDI: each IN becomes OUT/STEM.mid.

    Takes wav, flac, ogg, mp3 and aiff files of any rate, bit depth and number of channels, and
    folders, searched with their subfolders. A file that exists is replaced only when the new one
    is whole.

    \b
    Examples:
      deepaudio transcribe sonata.wav                    writes sonata.mid here
      deepaudio transcribe sonata.wav --format mid,png   and a picture, sonata.png
      deepaudio transcribe album/ more.mp3 -o midi       many files, into midi/
      deepaudio transcribe sonata.wav --sonify           and sonata.notes.wav to listen to
      deepaudio transcribe sonata.wav --json | jq '.[0].notes[0]'

    Exit status: 0 if all went well, 1 if an input failed (the others are done all the same),
    2 on wrong usage.
    """
    reporter = Reporter(quiet=quiet, debug=debug)
    job = _Job(
        reporter=reporter,
        folder=output or Path(),
        formats=_wanted_formats(formats, write=not as_json or output is not None),
        model=model,
        onset_threshold=onset_threshold,
        frame_threshold=frame_threshold,
        sonify=sonify,
    )
    results = job.run(inputs)
    if as_json:
        typer.echo(json.dumps(results))
    reporter.exit()


def _wanted_formats(formats: str | None, *, write: bool) -> list[str]:
    if formats is None:
        return ["mid"] if write else []
    return list(dict.fromkeys(formats.split(",")))


@dataclasses.dataclass(frozen=True)
class _Job:
    reporter: Reporter
    folder: Path
    formats: list[str]
    model: str | None
    onset_threshold: float | None
    frame_threshold: float | None
    sonify: bool

    def run(self, names: list[Path]) -> list[dict]:
        """Does all inputs; returns an object for each, with its notes or its error."""
        files = find_inputs(names, self.reporter)
        results = [{"file": name, "error": reason} for name, reason in self.reporter.errors]
        if not files or not self._folder_is_writable():
            return results
        transcriber = self._load()
        if transcriber is None:
            return results
        stems = output_stems(files)
        taken = {file.resolve() for file in files}
        for file in files:
            try:
                results.append(self._do(transcriber, file, stems[file], taken))
            except Exception as error:  # whatever is wrong with one, the others are done
                reason = self.reporter.error(file, error)
                results.append({"file": str(file), "error": reason})
        return results

    def _folder_is_writable(self) -> bool:
        if not (self.formats or self.sonify):
            return True
        with self.reporter.guard(self.folder):
            if self.folder.exists() and not self.folder.is_dir():
                raise OSError("not a folder")
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise OSError("no permission to write here")
            return True
        return False

    def _load(self) -> "Transcriber | None":
        # JAX and the model take seconds to load, which --help and wrong usage should not pay.
        with self.reporter.guard(self.model or "model"):
            from deepaudio.tasks import transcriber

            return transcriber.load_transcriber(self.model)
        return None

    def _do(self, transcriber: "Transcriber", file: Path, stem: str, taken: set[Path]) -> dict:
        from deepaudio import _outputs

        listener = _Listener()
        blocks = sound_blocks(
            file,
            sample_rate=transcriber.sample_rate,
            block_samples=_BLOCK_SECONDS * transcriber.sample_rate,
        )
        with self.reporter.progress(file.name, sound_seconds(file)) as progress:
            notes = transcriber.notes(
                listener.listen(blocks),
                progress,
                onset_threshold=self.onset_threshold,
                frame_threshold=self.frame_threshold,
            )
        written = []
        for name in self.formats:
            path = self._place(f"{stem}.{name}", taken)
            with _naming(path):
                _outputs.WRITERS[name](path, notes, file)
            written.append(path)
        if self.sonify:
            path = self._place(f"{stem}.notes.wav", taken)
            with _naming(path):
                _outputs.write_sound(path, notes, file, transcriber.sample_rate)
            written.append(path)
        self._tell(file, notes, listener, written)
        return {"file": str(file), "notes": _outputs.note_rows(notes)}

    def _place(self, name: str, taken: set[Path]) -> Path:
        path = self.folder / name
        if path.resolve() in taken:
            raise ValueError(f"would be overwritten by the output {path}")
        return path

    def _tell(self, file: Path, notes: "Notes", listener: "_Listener", written: list[Path]) -> None:
        count = f"{len(notes)} notes" if len(notes) != 1 else "1 note"
        if listener.peak < _SILENCE:
            count = "silence, no notes"
        elif len(notes) == 0:
            count = "no notes found"
        places = f" -> {', '.join(map(str, written))}" if written else ""
        self.reporter.say(f"{file}{places} ({count})")
        if listener.clipped > _CLIPPED_SHARE * listener.total:
            share = 100 * listener.clipped / listener.total
            self.reporter.say(f"warning: {file}: clipped ({share:.1f} % of samples at full scale)")


class _Listener:
    """What can be told of the sound while it goes by."""

    def __init__(self):
        self.total = 0
        self.clipped = 0
        self.peak = 0.0

    def listen(self, blocks: "Iterator[np.ndarray]") -> "Iterator[np.ndarray]":
        for block in blocks:
            loudness = abs(block)
            self.total += len(block)
            self.clipped += int((loudness >= 0.999).sum())
            self.peak = max(self.peak, float(loudness.max(initial=0.0)))
            yield block


class _naming:
    """Adds the name of the output to an error met in writing it."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, OSError):
            raise OSError(f"cannot write {self._path}: {error.strerror or error}") from error
