"""Grids of settings: what `--grid` says, checked against a configuration, and its members."""

import ast
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from experiments import _arguments

_LONGEST_NAME = 150
_BOOLEANS = {"true": True, "false": False}


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        name: Of its folder, readable: "sparsity=0.9,seed=1".
        values: The swept settings by dotted name, without "config.".
    """

    name: str
    values: dict[str, Any]


def parse_grid(
    specifications: Sequence[str], config: ml_collections.ConfigDict
) -> dict[str, list[Any]]:
    """Reads a grid and checks it against the configuration it is swept over.

    Args:
        specifications: Each "config.SETTING=VALUE,VALUE,…"; a tuple is written (1, 2).
        config: Whose settings have the types that values must have.

    Returns:
        The values of every setting, in the order given.

    Raises:
        ValueError: A setting does not exist, is a group or is named twice; a value has the wrong
            type or stands there twice.
    """
    known = _arguments.settings(config)
    grid = {}
    for specification in specifications:
        name, equals, texts = specification.partition("=")
        name = name.strip().removeprefix("config.")
        if not equals or not texts:
            raise ValueError(f"--grid {specification}: must be config.SETTING=VALUE,VALUE,...")
        if name not in known:
            raise ValueError(f"--grid {specification}: {_arguments.unknown_setting(name, known)}")
        if name in grid:
            raise ValueError(f"--grid {specification}: {name} is swept already")
        if isinstance(known[name], ml_collections.ConfigDict):
            group = ", ".join(f"{name}.{key}" for key in known[name])
            raise ValueError(f"--grid {specification}: {name} is a group; sweep one of {group}")
        kind = _kind(config, name)
        try:
            values = [_parse_value(text, kind) for text in _split(texts)]
        except ValueError as error:
            raise ValueError(f"--grid {specification}: {name} takes {error}") from None
        if len(set(values)) < len(values):
            raise ValueError(f"--grid {specification}: a value stands there twice")
        grid[name] = values
    return grid


def members(grid: Mapping[str, Sequence[Any]]) -> list[Member]:
    """Every combination of a grid's values; the last setting changes fastest.

    Args:
        grid: Values of every swept setting.

    Raises:
        ValueError: The grid is empty, or two members would share a folder.
    """
    if not grid:
        raise ValueError("no grid: give --grid config.SETTING=VALUE,VALUE,...")
    short = _short_names(list(grid))
    found = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        found.append(Member(_folder_name({short[k]: v for k, v in chosen.items()}), chosen))
    names = [member.name for member in found]
    for name in names:
        # Where case does not count, as on macOS, such folders would be the same.
        if sum(other.lower() == name.lower() for other in names) > 1:
            raise ValueError(f"two members would share the folder {name}")
    return found


def _kind(config, name):
    group, _, last = name.rpartition(".")
    for part in group.split(".") if group else []:
        config = config[part]
    return config.get_type(last)


def _split(texts: str) -> list[str]:
    """Splits at the commas that are not within brackets or quotes."""
    return [part.strip() for part in re.findall(r"(?:\([^()]*\)|'[^']*'|\"[^\"]*\"|[^,])+", texts)]


def _parse_value(text: str, kind: type) -> Any:
    """Reads one value of a setting's type; the ValueError says what the setting takes."""
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"true or false, not {text}")
        return _BOOLEANS[text.lower()]
    if kind is str:
        return text.strip("'\"")
    if kind is tuple:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = None
        if not isinstance(value, tuple):
            raise ValueError(f"tuples such as (1, 2), not {text}")
        return value
    if kind not in (int, float):
        raise ValueError(f"values of type {kind.__name__}, which cannot be swept")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"values of type {kind.__name__}, not {text}") from None


def _short_names(names: list[str]) -> dict[str, str]:
    """The shortest ends of dotted names that tell them apart."""

    def short(name):
        parts = name.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        return next(
            end
            for end in ends
            if sum(other == end or other.endswith(f".{end}") for other in names) == 1 or end == name
        )

    return {name: short(name) for name in names}


def _folder_name(values: Mapping[str, Any]) -> str:
    text = ",".join(f"{name}={_plain(value)}" for name, value in values.items())
    name = re.sub(r"[^A-Za-z0-9._=,+-]+", "_", text)
    if len(name) <= _LONGEST_NAME:
        return name
    # File systems allow 255 bytes; the digest keeps long names apart.
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
