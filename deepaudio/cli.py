"""The `deepaudio` command; each of its subcommands is a file `_cli_NAME.py`."""

from typing import Annotated

import typer

from deepaudio import __version__
from deepaudio._cli_common import help_of
from deepaudio._cli_info import info
from deepaudio._cli_nbody import nbody
from deepaudio._cli_recognize import recognize
from deepaudio._cli_serve import serve
from deepaudio._cli_transcribe import transcribe
from deepaudio._cli_vocode import vocode

app = typer.Typer(
    name="deepaudio",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (transcribe, recognize, vocode, serve, nbody, info):
    app.command(help=help_of(command))(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deepaudio {__version__}")
        raise typer.Exit()


def deepaudio(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    r"""Deep audio systems: piano recordings to MIDI, speech to text; and N-body simulations.

    \b
    Examples:
      deepaudio transcribe recording.wav           writes recording.mid here
      deepaudio transcribe album/ -o midi          every sound file of a folder
      deepaudio recognize note.wav                 prints the words that are spoken
      deepaudio recognize talk.mp3 --format srt    subtitles, talk.srt
      deepaudio vocode mel.npy -o out              sound from a mel spectrogram
      deepaudio serve                              all of it over HTTP, with a page
      deepaudio nbody -o cluster                   stars that attract each other
      deepaudio transcribe --help                  all the options
      deepaudio info                               versions, devices, models

    Exit status: 0 if all went well, 1 if an input failed (the others are done all the same),
    2 on wrong usage.
    """


app.callback(help=help_of(deepaudio))(deepaudio)


def main() -> None:
    """Runs the command; the entry point of the package."""
    app()


if __name__ == "__main__":
    main()
