"""`deepaudio transcribe`: piano recordings to MIDI."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepaudio._cli_common import (
    Place,
    Reporter,
    SoundWatch,
    checked_formats,
    naming,
    run_files,
    sound_blocks,
    sound_seconds,
    wanted_formats,
)

if TYPE_CHECKING:
    from deepaudio.data.notes import Notes
    from deepaudio.tasks.transcriber import Transcriber

FORMATS = ("mid", "csv", "json", "png")
_BLOCK_SECONDS = 10


def _formats(value: str | None) -> str | None:
    return checked_formats(value, FORMATS)


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
        formats=wanted_formats(formats, "mid", write=not as_json or output is not None),
        model=model,
        onset_threshold=onset_threshold,
        frame_threshold=frame_threshold,
        sonify=sonify,
    )
    results = run_files(
        inputs,
        reporter=reporter,
        folder=job.folder if job.formats or sonify else None,
        load=job.load,
        do=job.do,
    )
    if as_json:
        typer.echo(json.dumps(results))
    reporter.exit()


@dataclasses.dataclass(frozen=True)
class _Job:
    reporter: Reporter
    folder: Path
    formats: list[str]
    model: str | None
    onset_threshold: float | None
    frame_threshold: float | None
    sonify: bool

    def load(self) -> "Transcriber | None":
        # JAX and the model take seconds to load, which --help and wrong usage should not pay.
        with self.reporter.guard(self.model or "model"):
            from deepaudio.tasks import transcriber

            return transcriber.load_transcriber(self.model)
        return None

    def do(self, transcriber: "Transcriber", file: Path, place: Place) -> dict:
        from deepaudio import _outputs

        watch = SoundWatch()
        blocks = sound_blocks(
            file,
            sample_rate=transcriber.sample_rate,
            block_samples=_BLOCK_SECONDS * transcriber.sample_rate,
        )
        with self.reporter.progress(file.name, sound_seconds(file)) as progress:
            notes = transcriber.notes(
                watch.listen(blocks),
                progress,
                onset_threshold=self.onset_threshold,
                frame_threshold=self.frame_threshold,
            )
        written = []
        for name in self.formats:
            path = place(name)
            with naming(path):
                _outputs.WRITERS[name](path, notes, file)
            written.append(path)
        if self.sonify:
            path = place("notes.wav")
            with naming(path):
                _outputs.write_sound(path, notes, file, transcriber.sample_rate)
            written.append(path)
        watch.tell(self.reporter, file, _count(notes, watch), written)
        return {"file": str(file), "notes": _outputs.note_rows(notes)}


def _count(notes: "Notes", watch: SoundWatch) -> str:
    if watch.silent:
        return "silence, no notes"
    if len(notes) == 0:
        return "no notes found"
    return f"{len(notes)} notes" if len(notes) != 1 else "1 note"
