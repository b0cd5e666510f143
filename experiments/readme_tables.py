"""Writes the tables of README and docs from the records, so that no figure is ever typed.

A table stands in README.md, or in a page under docs/, between `<!-- records:NAME -->` and
`<!-- /records -->`; NAME is a record's name. After it `columns=a,b,c` chooses and orders the
columns, and `where=a=x,b=y|z` the rows, those whose column a is x and whose column b is y or z:

    <!-- records:piano_test columns=instrument,note/f1 where=instrument=all -->
    <!-- /records -->

A name ending in `/*` gives a table of those records, one row each, of their own fields (`paper`,
`claim`, `measured`, `holds`). Where there is no such record stands “Not measured yet.”

    python -m experiments.readme_tables            # rewrite README.md and the pages
    python -m experiments.readme_tables --check    # exit with 1 if that would change one of them
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import records

_BLOCK = re.compile(
    r"(<!-- records:(?P<name>[a-z0-9_/*]+)(?: columns=(?P<columns>\S+))?"
    r"(?: where=(?P<where>\S+))? -->\n)"
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
      ValueError: if a block asks for a column or for rows that there are not, or is never closed.
    """
    if text.count("<!-- records:") != len(_BLOCK.findall(text)):
        raise ValueError("a block of records is badly written or not closed by <!-- /records -->")

    def fill(block: re.Match) -> str:
        columns = block["columns"].split(",") if block["columns"] else None
        wanted = dict(w.split("=", 1) for w in block["where"].split(",")) if block["where"] else {}
        body = _body(block["name"], columns, wanted, Path(directory))
        return f"{block[1]}{body}{block[6]}"

    return _BLOCK.sub(fill, text)


def pages(repository: Path = records.REPOSITORY) -> list[Path]:
    """The texts that may hold tables: README.md, and all Markdown under docs/."""
    return [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]


def _body(
    name: str, columns: Sequence[str] | None, wanted: Mapping[str, str], directory: Path
) -> str:
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
    chosen = [
        row for row in rows if all(_text(row.get(k)) in v.split("|") for k, v in wanted.items())
    ]
    if not chosen and name.endswith("/*"):
        return f"{_UNMEASURED}\n"
    if not chosen:
        raise ValueError(f"record {name!r} has no row where {wanted}")
    return _table(chosen, columns, name) + caption


def _text(value: Any) -> str:
    """A value as `where` has it: without spaces and commas, which would end it."""
    return re.sub(r"[ ,]+", "_", str(value))


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
        if 0 < abs(value) < 0.0005:
            return f"{value:.1e}"
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
    """Rewrites README.md and the pages of docs/, or only checks them."""
    parser = argparse.ArgumentParser(description="Write the texts' tables from the records.")
    parser.add_argument("--check", action="store_true", help="only say whether they are current")
    check = parser.parse_args().check
    stale = []
    for path in pages():
        old = path.read_text(encoding="utf-8")
        if (new := render(old)) != old:
            stale.append(str(path.relative_to(records.REPOSITORY)))
            if not check:
                path.write_text(new, encoding="utf-8")
    if not stale:
        print("README.md and docs/ are up to date with the records")
    elif check:
        command = "python -m experiments.readme_tables"
        parser.exit(1, f"older than the records: {', '.join(stale)}; run {command}\n")
    else:
        print(f"brought up to date with the records: {', '.join(stale)}")


if __name__ == "__main__":
    main()
