"""Writes README's tables from the records, so that no figure is ever typed.

A table stands in README.md between `<!-- records:NAME -->` and `<!-- /records -->`; NAME is a
record's name, and `columns=a,b,c` after it chooses and orders the columns:

    <!-- records:piano_test columns=corpus,note/f1 -->
    <!-- /records -->

A name ending in `/*` gives a table of those records, one row each, of their own fields (`paper`,
`claim`, `measured`, `holds`). A record that is missing gives the line “Not measured yet.”

    python -m experiments.readme_tables            # rewrite README.md
    python -m experiments.readme_tables --check    # exit with 1 if that would change it
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import records

_BLOCK = re.compile(
    r"(<!-- records:(?P<name>[a-z0-9_/*]+)(?: columns=(?P<columns>\S+))? -->\n)"
    r"(?P<body>.*?)"
    r"(<!-- /records -->)",
    re.DOTALL,
)
_UNMEASURED = "Not measured yet."


def render(text: str, directory: Path | str = records.RECORDS) -> str:
    """Returns a Markdown text with every block of records made anew.

    Args:
      text: Markdown with blocks as in this module's description.
      directory: where the records stand.

    Raises:
      ValueError: if a block asks for a column that no row has, or is never closed.
    """
    if text.count("<!-- records:") != len(_BLOCK.findall(text)):
        raise ValueError("a block of records is badly written or not closed by <!-- /records -->")

    def fill(block: re.Match) -> str:
        columns = block["columns"].split(",") if block["columns"] else None
        return f"{block[1]}{_body(block['name'], columns, Path(directory))}{block[5]}"

    return _BLOCK.sub(fill, text)


def _body(name: str, columns: Sequence[str] | None, directory: Path) -> str:
    if name.endswith("/*"):
        paths = sorted((directory / name.removesuffix("/*")).glob("*.json"))
        found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        rows = [_flat({k: r[k] for k in r if k not in records.COMMON}) for r in found]
        caption = ""
    else:
        record = records.read_record(name, directory)
        rows = [_flat(result) for result in record["results"]] if record else []
        caption = f"\n{_caption(record)}\n" if record else ""
    if not rows:
        return f"{_UNMEASURED}\n"
    return _table(rows, columns, name) + caption


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Joins the names of nested mappings: {"note": {"f1": 1}} gives {"note/f1": 1}."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None, name: str) -> str:
    known = list(dict.fromkeys(key for row in rows for key in row))
    columns = columns or known
    if missing := [column for column in columns if column not in known]:
        raise ValueError(f"record {name!r} has no column {missing[0]!r}; it has {known}")
    lines = [[column.replace("_", " ").replace("/", " ") for column in columns], []]
    lines[1] = [
        "---:" if all(is_number(row.get(column, 0)) for row in rows) else "---"
        for column in columns
    ]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _caption(record: Mapping[str, Any]) -> str:
    what = f"{record['description'].rstrip('.')}. " if record["description"] else ""
    place = f"{record['date'][:10]}, {record['device']}, jax {record['versions']['jax']}"
    commit, _, changed = record["revision"].partition("-")
    revision = f"revision {commit[:12]}{' with changes' if changed else ''}"
    return f"{what}Measured by `{record['command']}` ({place}, {revision})."


def main() -> None:
    """Rewrites README.md, or only checks it."""
    parser = argparse.ArgumentParser(description="Write README's tables from the records.")
    parser.add_argument("--check", action="store_true", help="only say whether README is current")
    check = parser.parse_args().check
    path = records.REPOSITORY / "README.md"
    old = path.read_text(encoding="utf-8")
    new = render(old)
    if new == old:
        print("README.md is up to date with the records")
    elif check:
        parser.exit(1, "README.md is older than the records: python -m experiments.readme_tables\n")
    else:
        path.write_text(new, encoding="utf-8")
        print("README.md was brought up to date with the records")


if __name__ == "__main__":
    main()
