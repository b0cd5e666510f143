"""What the subcommands share: inputs, names of outputs, messages, progress, exit status."""

import contextlib
import functools
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import numpy as np

# From a suffix to the path of an input's output.
Place = Callable[[str], Path]

_SILENCE = 1e-4  # full scale is 1; below this, 80 dB down, nothing can be heard
_CLIPPED_SHARE = 1e-3

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")


def help_of(command: Callable) -> str:
    r"""A command's docstring for `--help`: the paragraph after a line `\b` keeps its lines."""
    return inspect.cleandoc(command.__doc__).replace("\\b\n", "\b\n")


class Reporter:
    """Messages on stderr, and the exit status they amount to.

    Attributes:
        errors: Subject and reason of each error so far.
    """

    def __init__(self, *, quiet: bool, debug: bool):
        """Prepares for one run of a command.

        Args:
            quiet: Only errors are printed.
            debug: An error comes with its traceback.
        """
        self.errors: list[tuple[str, str]] = []
        self._quiet = quiet
        self._debug = debug

    def say(self, message: str) -> None:
        """Prints a line, unless the user asked for quiet."""
        if not self._quiet:
            typer.echo(message, err=True)

    def error(self, subject: object, reason: object) -> str:
        """Prints `SUBJECT: REASON` as one line, remembers it and returns the reason."""
        words = " ".join(describe(reason).split())
        self.errors.append((str(subject), words))
        typer.echo(f"error: {subject}: {words}", err=True)
        if self._debug and isinstance(reason, BaseException):
            traceback.print_exception(reason, file=sys.stderr)
        return words

    @contextlib.contextmanager
    def guard(self, subject: object) -> Iterator[None]:
        """Turns what goes wrong within into one error line about the subject.

        A fault of the input or of the disk is told by its own words. Anything else is a fault of
        the program, told with its type, so that one input cannot stop the others.
        """
        try:
            yield
        except Exception as error:
            self.error(subject, error)

    @contextlib.contextmanager
    def tell_warnings(self) -> Iterator[None]:
        """Prints what is warned of within as lines of the command's own."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield
        for warning in caught:
            self.say(f"warning: {warning.message}")

    @contextlib.contextmanager
    def progress(self, name: str, total: float | None) -> Iterator[Callable[[float], None]]:
        """A progress bar over seconds of sound, on stderr, if that is a terminal.

        Args:
            name: What is being done.
            total: Seconds in all; None if unknown.

        Yields:
            A function to call with the seconds done.
        """
        if self._quiet or not sys.stderr.isatty():
            yield lambda seconds: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        of_total = " of {task.total:.0f}" if total else ""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}" + of_total + " s"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=total)
            yield lambda seconds: bar.update(task, completed=seconds)

    def exit(self) -> None:
        """Leaves the command, with status 1 if anything has failed."""
        raise typer.Exit(1 if self.errors else 0)


def describe(reason: object) -> str:
    """An error in words a user can act on, without a file's name or a number of errno."""
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    if isinstance(reason, MemoryError):
        return "not enough memory"
    if isinstance(reason, BaseException) and not isinstance(reason, ValueError | OSError):
        return f"{type(reason).__name__}: {reason}"
    return str(reason) or type(reason).__name__


def find_inputs(names: Sequence[Path], reporter: Reporter) -> list[Path]:
    """The files to work on: those named, and the sound files of the folders named.

    Args:
        names: Files and folders. A folder is searched with its subfolders, in order of names,
            leaving out hidden files and what `--sonify` wrote.
        reporter: Is told of names that do not exist and of folders without sound.

    Returns:
        The files, each once.
    """
    found: dict[Path, Path] = {}
    for name in names:
        if name.is_dir():
            files = [file for file in sorted(name.rglob("*")) if _is_sound(file, name)]
            if not files:
                reporter.error(name, "no sound files in this folder")
        elif name.exists():
            files = [name]
        else:
            reporter.error(name, "no such file")
            continue
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _is_sound(file: Path, folder: Path) -> bool:
    if any(part.startswith(".") for part in file.relative_to(folder).parts):
        return False
    if file.name.lower().endswith(".notes.wav"):
        return False
    return file.suffix.lower() in SOUND_SUFFIXES and file.is_file()


def output_stems(inputs: Sequence[Path]) -> dict[Path, str]:
    """A name without suffix for the outputs of each input, no two the same.

    That is the input's own stem; where two inputs share it, the later ones get `STEM-2` and so
    on. Case is ignored, as some file systems do.
    """
    taken = {file.stem.casefold() for file in inputs}
    given: set[str] = set()
    stems = {}
    for file in inputs:
        stem, number = file.stem, 1
        if stem.casefold() in given:
            while stem.casefold() in taken:
                number += 1
                stem = f"{file.stem}-{number}"
        taken.add(stem.casefold())
        given.add(stem.casefold())
        stems[file] = stem
    return stems


def sound_blocks(path: Path, *, sample_rate: int, block_samples: int) -> "Iterator[np.ndarray]":
    """`deepaudio.audio.iter_blocks`, without what its decoders print.

    Args:
        path: A sound file.
        sample_rate: The rate wanted, in Hz.
        block_samples: Samples a block.

    Yields:
        (block_samples,) float32; the last block may be shorter.
    """
    from deepaudio import audio

    blocks = audio.iter_blocks(path, sample_rate=sample_rate, block_samples=block_samples)
    while True:
        with _decoders_silenced():
            block = next(blocks, None)
        if block is None:
            return
        yield block


def sound_seconds(path: Path) -> float | None:
    """Length of a sound file in seconds, for a progress bar; None if the file does not tell."""
    import soundfile

    try:
        with _decoders_silenced():
            return soundfile.info(path).duration
    except Exception:
        return None


@contextlib.contextmanager
def _decoders_silenced() -> Iterator[None]:
    """Sends to nowhere what the MP3 decoder prints, which goes past Python to descriptor 2."""
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stderr.flush()
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lets a file be written beside its place and then renamed, so that it is whole or not there.

    Args:
        path: Where the file shall stand; its folder exists.

    Yields:
        Another path in the same folder, with the same suffix, to write to.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds the name of an output to an error met in writing it."""
    try:
        yield
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error


def checked_formats(value: str | None, known: Sequence[str]) -> str | None:
    """The value of `--format`, a list with commas.

    Raises:
        BadParameter: One of them is not known.
    """
    for name in value.split(",") if value is not None else ():
        if name not in known:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(known)}")
    return value


def wanted_formats(value: str | None, default: str, *, write: bool) -> list[str]:
    """The formats to write: those named, each once; else the default, if anything is written."""
    if value is None:
        return [default] if write else []
    return list(dict.fromkeys(value.split(",")))


def run_files[Model](
    names: Sequence[Path],
    *,
    reporter: Reporter,
    folder: Path | None,
    load: Callable[[], Model | None],
    do: Callable[[Model, Path, Place], dict],
) -> list[dict]:
    """Does one thing with every input; what is wrong with one does not stop the others.

    Args:
        names: Files and folders, as the user gave them.
        reporter: Is told of what fails.
        folder: Where outputs go, made if need be; None if nothing is written.
        load: Loads what all inputs need; None if that failed.
        do: Does one input, with a function from a suffix to the output's path, and returns its
            row of the results.

    Returns:
        A row for each input: what `do` returned, or its `file` and `error`.
    """
    files = find_inputs(names, reporter)
    results = [{"file": name, "error": reason} for name, reason in reporter.errors]
    if not files or not (folder is None or _is_writable(folder, reporter)):
        return results
    model = load()
    if model is None:
        return results
    stems = output_stems(files)
    taken = {file.resolve() for file in files}

    def place(stem: str, suffix: str) -> Path:
        path = (folder or Path()) / f"{stem}.{suffix}"
        if path.resolve() in taken:
            raise ValueError(f"would be overwritten by the output {path}")
        return path

    for file in files:
        try:
            results.append(do(model, file, functools.partial(place, stems[file])))
        except Exception as error:
            reason = reporter.error(file, error)
            results.append({"file": str(file), "error": reason})
    return results


def _is_writable(folder: Path, reporter: Reporter) -> bool:
    with reporter.guard(folder):
        if folder.exists() and not folder.is_dir():
            raise OSError("not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError("no permission to write here")
        return True
    return False


class SoundWatch:
    """What can be told of a sound while it goes by.

    Attributes:
        total: Samples so far.
        clipped: How many of them are at full scale.
        peak: The largest of them.
    """

    def __init__(self):
        """Nothing has been heard yet."""
        self.total = 0
        self.clipped = 0
        self.peak = 0.0

    @property
    def silent(self) -> bool:
        """Whether nothing could be heard."""
        return self.peak < _SILENCE

    def listen(self, blocks: "Iterator[np.ndarray]") -> "Iterator[np.ndarray]":
        """The same blocks, watched."""
        for block in blocks:
            loudness = abs(block)
            self.total += len(block)
            self.clipped += int((loudness >= 0.999).sum())
            self.peak = max(self.peak, float(loudness.max(initial=0.0)))
            yield block

    def tell(self, reporter: Reporter, file: Path, found: str, written: Sequence[Path]) -> None:
        """Says what was found in a file and where it was written, and whether it was clipped."""
        places = f" -> {', '.join(map(str, written))}" if written else ""
        reporter.say(f"{file}{places} ({found})")
        if self.clipped > _CLIPPED_SHARE * self.total:
            share = 100 * self.clipped / self.total
            reporter.say(f"warning: {file}: clipped ({share:.1f} % of samples at full scale)")
