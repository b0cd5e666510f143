"""`deepaudio recognize`: speech to text."""

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
    from deepaudio.tasks.recognizer import Recognition, Recognizer

FORMATS = ("txt", "json", "srt", "vtt", "ctm")
_BLOCK_SECONDS = 10
_HOT_WORD_BONUS = 8.0


def _formats(value: str | None) -> str | None:
    return checked_formats(value, FORMATS)


def _hot_words(values: list[str] | None) -> list[str] | None:
    _parse_hot_words(values or [])
    return values


def _parse_hot_words(values: list[str]) -> dict[str, float]:
    """From "word" or "word:bonus" to bonuses.

    Raises:
        BadParameter: There is no word, or the bonus is no number.
    """
    found = {}
    for value in values:
        word, colon, bonus = value.partition(":")
        try:
            number = float(bonus) if colon else _HOT_WORD_BONUS
        except ValueError:
            raise typer.BadParameter(f"{value!r}: {bonus!r} is no number") from None
        if not word.strip():
            raise typer.BadParameter(f"{value!r} has no word")
        found[word.strip().lower()] = number
    return found


def recognize(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN...", help="Sound files, or folders of them.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder to write to.  [default: print the text, or this folder with --format]",
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="LIST",
            callback=_formats,
            help="What to write, of txt,json,srt,vtt,ctm, with commas between.  "
            "[default: txt, with -o]",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A weights file, or the name of an installed model (see info); several with "
            "commas between are an ensemble."
        ),
    ] = None,
    language_model: Annotated[
        Path | None,
        typer.Option(
            "--lm",
            metavar="FILE",
            help="An n-gram language model, .arpa or .arpa.gz.  [default: the model's own]",
        ),
    ] = None,
    no_language_model: Annotated[
        bool, typer.Option("--no-lm", help="Trust the ear alone: no language model.")
    ] = False,
    alpha: Annotated[
        float | None, typer.Option(min=0.0, help="Weight of the language model.")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Bonus for each word.")] = None,
    beam: Annotated[
        int | None,
        typer.Option(min=1, help="Candidates kept while searching; more is better and slower."),
    ] = None,
    nbest: Annotated[int, typer.Option(min=1, help="Alternatives for each segment, in JSON.")] = 1,
    hot_words: Annotated[
        list[str] | None,
        typer.Option(
            "--hotword",
            metavar="WORD[:BONUS]",
            callback=_hot_words,
            help="A word or phrase to listen for; may be given often. The bonus is about 5 to 15.",
        ),
    ] = None,
    jitter: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="MS",
            help="Average over the sound shifted by so many milliseconds to either side.",
        ),
    ] = 0.0,
    packed: Annotated[
        bool,
        typer.Option(
            "--packed",
            help="Keep the recurrent matrices of a pruned model packed: less memory, and faster if "
            "they are large.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print text, words, times and confidences as one JSON list on stdout. Writes "
            "files only if -o or --format asks for them.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print errors with a traceback.")] = False,
) -> None:
    r"""Turn speech into text, with the time and confidence of every word.

    Takes wav, flac, ogg, mp3 and aiff files of any rate, bit depth and number of channels, and
    folders, searched with their subfolders. Without -o, --format or --json the text goes to
    standard output. A file that exists is replaced only when the new one is whole.

    \b
    Examples:
      deepaudio recognize note.wav                     prints the words
      deepaudio recognize talk.mp3 --format srt        writes subtitles, talk.srt
      deepaudio recognize memos/ -o texts              many files, into texts/
      deepaudio recognize call.wav --hotword alice     listens for a name
      deepaudio recognize note.wav --json | jq '.[0].words[0]'

    Exit status: 0 if all went well, 1 if an input failed (the others are done all the same),
    2 on wrong usage.
    """
    if language_model and no_language_model:
        raise typer.BadParameter("--lm and --no-lm exclude each other")
    reporter = Reporter(quiet=quiet, debug=debug)
    wanted = wanted_formats(formats, "txt", write=output is not None)
    job = _Job(
        reporter=reporter,
        formats=wanted,
        models=model.split(",") if model else None,
        settings={
            "language_model": language_model,
            "use_language_model": not no_language_model,
            "alpha": alpha,
            "beta": beta,
            "beam_width": beam,
            "n_best": nbest,
            "hot_words": _parse_hot_words(hot_words or []),
            "jitter_seconds": jitter / 1000,
            "packed": packed,
        },
        prints=not wanted and not as_json,
        several=len(inputs) > 1 or any(name.is_dir() for name in inputs),
    )
    results = run_files(
        inputs,
        reporter=reporter,
        folder=(output or Path()) if wanted else None,
        load=job.load,
        do=job.do,
    )
    if as_json:
        typer.echo(json.dumps(results, ensure_ascii=False))
    reporter.exit()


@dataclasses.dataclass(frozen=True)
class _Job:
    reporter: Reporter
    formats: list[str]
    models: list[str] | None
    settings: dict
    prints: bool
    several: bool

    def load(self) -> "Recognizer | None":
        # JAX and the model take seconds to load, which --help and wrong usage should not pay.
        with self.reporter.guard(",".join(self.models or ["model"])):
            from deepaudio.tasks import recognizer

            with self.reporter.tell_warnings():
                return recognizer.load_recognizer(self.models, **self.settings)
        return None

    def do(self, recognizer: "Recognizer", file: Path, place: Place) -> dict:
        from deepaudio import _recognition_outputs as outputs

        watch = SoundWatch()
        blocks = sound_blocks(
            file,
            sample_rate=recognizer.sample_rate,
            block_samples=_BLOCK_SECONDS * recognizer.sample_rate,
        )
        with self.reporter.progress(file.name, sound_seconds(file)) as progress:
            found = recognizer.recognize(watch.listen(blocks), progress)
        written = []
        for name in self.formats:
            path = place(name)
            with naming(path):
                outputs.WRITERS[name](path, found, file)
            written.append(path)
        if self.prints:
            typer.echo(f"{file}: {found.text}" if self.several else found.text)
        if not self.prints or not found.segments:
            watch.tell(self.reporter, file, _count(found, watch), written)
        return {"file": str(file), **outputs.as_row(found)}


def _count(found: "Recognition", watch: SoundWatch) -> str:
    if watch.silent:
        return "silence, no words"
    count = len(found.words)
    if count == 0:
        return "no words found"
    return f"{count} words" if count != 1 else "1 word"
