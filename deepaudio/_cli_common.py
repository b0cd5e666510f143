"""What the subcommands share: inputs, names of outputs, messages, progress, exit status."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import numpy as np

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")


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
