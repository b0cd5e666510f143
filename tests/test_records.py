"""Records and the tables made from them."""

import json
import socket
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import readme_tables, records


def test_record_says_how_it_was_measured(tmp_path):
    path = records.write_record(
        "piano_test",
        "python -m experiments.evaluate",
        [{"corpus": "a", "note": {"f1": np.float32(0.5)}, "files": jnp.int32(3)}],
        description="scores",
        directory=tmp_path,
        paper="1710.11153",
    )
    record = json.loads(path.read_text())
    assert path == tmp_path / "piano_test.json"
    assert record["results"] == [{"corpus": "a", "note": {"f1": 0.5}, "files": 3}]
    assert record["paper"] == "1710.11153"
    assert record["versions"]["jax"] == jax.__version__
    assert record["date"].endswith("+00:00")
    assert record["device"].split(", ")[-1].split()[1] in ("core", "cores")
    assert set(record) >= {"name", "description", "command", "revision"}
    assert [p.name for p in tmp_path.iterdir()] == ["piano_test.json"]
    assert records.read_record("piano_test", tmp_path) == record
    assert records.read_record("missing", tmp_path) is None


def test_command_loses_folders_of_this_machine(tmp_path):
    path = records.write_record(
        "claims/x",
        f"python -m p --config={records.REPOSITORY}/experiments/a.py:small --workdir=/mnt/b/runs/c "
        "--url=https://example.org/a/b --data runs/d",
        [],
        directory=tmp_path,
    )
    assert json.loads(path.read_text())["command"] == (
        "python -m p --config=experiments/a.py:small --workdir=c "
        "--url=https://example.org/a/b --data runs/d"
    )


def test_record_does_not_name_the_host(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: pytest.fail("asked for the host's name"))
    records.write_record("x", None, [], directory=tmp_path)


def test_numbers_that_measure_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'x' holds the number nan"):
        records.write_record("x", "c", [{"f1": float("nan")}], directory=tmp_path)
    with pytest.raises(ValueError, match="not 'X y'"):
        records.write_record("X y", "c", [], directory=tmp_path)
    with pytest.raises(ValueError, match="device"):
        records.write_record("x", "c", [], directory=tmp_path, device="mine")
    assert not list(tmp_path.iterdir())


def test_revision_tells_changed_files(tmp_path):
    def git(*words):
        settings = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *settings, *words], cwd=tmp_path, check=True, capture_output=True)

    assert records.revision(tmp_path) == "unknown"
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    clean = records.revision(tmp_path)
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert records.revision(tmp_path) == f"{clean}-dirty"


def test_table_from_a_record(tmp_path):
    records.write_record(
        "speed",
        "python -m p",
        [{"file": "a|b", "note": {"f1": 0.91234}, "n": 1200}, {"file": "c", "n": 7}],
        description="Speed.",
        directory=tmp_path,
    )
    text = "before\n<!-- records:speed columns=file,n,note/f1 -->\nold\n<!-- /records -->\nafter\n"
    lines = readme_tables.render(text, tmp_path).splitlines()
    assert lines[2:6] == [
        "| file | n | note f1 |",
        "| --- | ---: | ---: |",
        "| a\\|b | 1,200 | 0.912 |",
        "| c | 7 | – |",
    ]
    assert lines[7].startswith("Speed. Measured by `python -m p` (")
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    again = readme_tables.render("\n".join(lines) + "\n", tmp_path)
    assert again.splitlines() == lines


def test_numbers_are_as_long_as_they_say_something(tmp_path):
    rows = [{"a": number} for number in (0.0, -3.14e-7, 0.0005, 9.9994, 12345.67, 12345)]
    records.write_record("x", "c", rows, directory=tmp_path)
    lines = readme_tables.render("<!-- records:x -->\n<!-- /records -->\n", tmp_path).splitlines()
    cells = [line.strip("| ") for line in lines[3:9]]
    assert cells == ["0.000", "-3.1e-07", "0.001", "9.999", "12,345.7", "12,345"]


def test_table_of_many_records(tmp_path):
    for name, holds in (("b", False), ("a", True)):
        records.write_record(
            f"claims/{name}", "c", [], directory=tmp_path, claim=name, measured=1.5, holds=holds
        )
    text = "<!-- records:claims/* -->\n<!-- /records -->\n"
    assert readme_tables.render(text, tmp_path).splitlines()[3:5] == [
        "| a | 1.500 | yes |",
        "| b | 1.500 | no |",
    ]
    one = text.replace(" -->", " where=claim=b -->", 1)
    assert readme_tables.render(one, tmp_path).splitlines()[3:] == [
        "| b | 1.500 | no |",
        "<!-- /records -->",
    ]
    assert "Not measured yet." in readme_tables.render(one.replace("=b", "=c"), tmp_path)


def test_missing_record_is_said(tmp_path):
    text = "<!-- records:no -->\n| made up | 1 |\n<!-- /records -->\n"
    assert "Not measured yet." in readme_tables.render(text, tmp_path)
    assert "made up" not in readme_tables.render(text, tmp_path)


def test_wrong_blocks_are_refused(tmp_path):
    records.write_record("x", "c", [{"a": 1}], directory=tmp_path)
    with pytest.raises(ValueError, match="no column 'b'"):
        readme_tables.render("<!-- records:x columns=b -->\n<!-- /records -->\n", tmp_path)
    with pytest.raises(ValueError, match="not closed"):
        readme_tables.render("<!-- records:x -->\n", tmp_path)


def test_rows_are_chosen_by_what_stands_in_them(tmp_path):
    rows = [{"name": "a, b", "batch": 1}, {"name": "a, b", "batch": 2}, {"name": "c", "batch": 1}]
    records.write_record("x", "c", rows, directory=tmp_path)
    text = "<!-- records:x columns=batch where=name=a_b,batch=2 -->\n<!-- /records -->\n"
    assert readme_tables.render(text, tmp_path).splitlines()[3:5] == ["| 2 |", ""]
    either = text.replace("batch=2", "batch=1|2")
    assert readme_tables.render(either, tmp_path).splitlines()[3:5] == ["| 1 |", "| 2 |"]
    with pytest.raises(ValueError, match="no row where"):
        readme_tables.render(text.replace("a_b", "d"), tmp_path)


@pytest.mark.parametrize("page", readme_tables.pages(), ids=lambda page: page.name)
def test_texts_are_up_to_date(page):
    text = page.read_text(encoding="utf-8")
    assert readme_tables.render(text) == text, "run python -m experiments.readme_tables"


def test_every_page_under_docs_may_hold_tables(tmp_path):
    for name in ("README.md", "docs/a.md", "docs/b/c.md", "docs/d.txt", "other/e.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(page.relative_to(tmp_path)) for page in readme_tables.pages(tmp_path)]
    assert found == ["README.md", "docs/a.md", "docs/b/c.md"]


def test_check_names_the_stale_pages(tmp_path, monkeypatch, capsys):
    (tmp_path / "README.md").write_text("<!-- records:no -->\n1\n<!-- /records -->\n")
    monkeypatch.setattr(readme_tables.records, "REPOSITORY", tmp_path)
    monkeypatch.setattr(readme_tables, "pages", lambda: [tmp_path / "README.md"])
    monkeypatch.setattr("sys.argv", ["readme_tables", "--check"])
    with pytest.raises(SystemExit) as ended:
        readme_tables.main()
    assert ended.value.code == 1
    assert "older than the records: README.md" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["readme_tables"])
    readme_tables.main()
    assert "brought up to date with the records: README.md" in capsys.readouterr().out
    readme_tables.main()
    assert "are up to date" in capsys.readouterr().out


def test_a_record_of_changed_files_says_so(tmp_path):
    path = records.write_record("x", "c", [{"a": 1}], directory=tmp_path)
    record = json.loads(path.read_text())
    text = "<!-- records:x -->\n<!-- /records -->\n"
    for revision, said in (("0123456789abcdef", "9ab)."), ("0123456789abcdef-dirty", "changes).")):
        path.write_text(json.dumps({**record, "revision": revision}))
        assert readme_tables.render(text, tmp_path).splitlines()[-2].endswith(said)
