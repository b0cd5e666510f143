"""Command lines of the launchers: wrong usage is one line on stderr and exit code 2.

`ml_collections` answers an unknown setting, `--config.sede=1`, with a traceback, and a missing
configuration file not at all until the configuration is read. `run` stands in for `absl.app.run`
and says both in one line, with the nearest setting there is.
"""

import difflib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging

# The flag of every launcher that reads a configuration.
_CONFIG = "config"


def run(main: Callable[[list[str]], Any], define_flags: Callable[[], None]) -> NoReturn:
    """Defines the flags, reads the command line, and calls `main` with what is left of it.

    Args:
        main: Called with the program's name and the arguments that are no flags.
        define_flags: Defines the program's flags.
    """
    define_flags()
    # Orbax tells of every file it reads and writes; that would tear progress bars.
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_parse)


def fail(message: str) -> NoReturn:
    """Says what is wrong with the command line, in one line, and exits with 2."""
    print(f"{Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
    sys.exit(2)


def settings(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    """A configuration's groups and values by dotted name: {"optimizer": …, "optimizer.peak": …}."""
    found = {}
    for name in config:
        value = config[name]
        found[f"{prefix}{name}"] = value
        if isinstance(value, ml_collections.ConfigDict):
            found |= settings(value, f"{prefix}{name}.")
    return found


def unknown_setting(name: str, known: Iterable[str]) -> str:
    """Says that there is no setting `name`, and which one comes nearest to it.

    Args:
        name: Dotted, as in "optimizer.prunning.sparsity".
        known: Dotted names of the settings there are; not empty.
    """
    return f"no such setting {name}; nearest: {nearest(name, known)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`; a like last part counts nearly as much as a like whole."""

    def likeness(other):
        whole = difflib.SequenceMatcher(None, name, other).ratio()
        ends = name.rpartition(".")[2], other.rpartition(".")[2]
        return max(whole, 0.9 * difflib.SequenceMatcher(None, *ends).ratio()), whole

    return max(known, key=likeness)


def _parse(arguments: list[str]) -> list[str]:
    """Reads the flags; wrong ones end the program."""
    config = _given(arguments, _CONFIG) if _CONFIG in flags.FLAGS else None
    if config and not Path(file := config.partition(":")[0]).is_file():
        fail(f"--{_CONFIG}={config}: there is no file {file}")
    try:
        return flags.FLAGS(arguments)
    except (KeyError, AttributeError):
        # What `ml_collections` raises for an override of a setting that is not there.
        if config:
            known = settings(flags.FLAGS[_CONFIG].parser.parse(config))
            for setting in _overridden(arguments):
                if setting not in known:
                    fail(unknown_setting(setting, known))
        raise
    except SystemExit:
        # --help, which absl ends with 1; who asks for help has done nothing wrong.
        sys.exit(0)
    except flags.Error as error:
        fail(_last_line(str(error)))


def _given(arguments: list[str], name: str) -> str | None:
    """The value of `--name=value` or `--name value`, or None."""
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        flag, equals, value = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            return value if equals else following
    return None


def _overridden(arguments: list[str]) -> list[str]:
    """The dotted settings that `--config.setting=value` and `--noconfig.setting` set."""
    found = [re.match(rf"--?(?:no)?{_CONFIG}\.([^=]+)", argument) for argument in arguments]
    return [match[1] for match in found if match]


def _last_line(text: str) -> str:
    """What an error says, without the traceback that comes before it."""
    if missing := re.search(r"Flag --(\w+) must have a value other than None", text):
        return f"--{missing[1]} is missing"
    last = [line.strip() for line in text.splitlines() if line.strip()][-1]
    return re.sub(r"^\w+Error: ", "", last)
