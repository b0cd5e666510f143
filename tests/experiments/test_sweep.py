"""Sweeps: grids checked against a configuration, members run in turn, what came of them."""

import csv
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import ml_collections
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from experiments import _grid, _sweep_summary, sweep

CONFIG = "experiments/configs/onsets_and_frames.py:smoke"
# Stands in for experiments.train: goes on from the last step in its folder, and fails, hangs or
# stops early where a file of that name says so. Its loss is the rate times ten plus the seed.
PROGRAM = """
import pathlib, signal, sys, time
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(given["workdir"])
seed, rate = int(given.get("config.seed", 0)), float(given.get("config.rate", 0))
def stop(number, frame):
    (folder / "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
path = folder / "metrics.csv"
start = 0
if path.exists():
    start = int(path.read_text().splitlines()[-1].split(",")[0])
with path.open("a") as file:
    if not start:
        file.write("step,name,value\\n")
    for step in range(start + 1, 4):
        file.write(f"{step},loss/total,{10 * rate + seed if step == 3 else 99}\\n")
        file.flush()
        if (folder.parent / f"fail{seed}").exists():
            print("train: the data are bad", file=sys.stderr)
            sys.exit(1)
        if (folder.parent / f"early{seed}").exists():
            break
        while (folder.parent / "hang").exists():
            time.sleep(0.05)
(folder / "calls").open("a").write(f"from {start}\\n")
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.setattr(sweep, "PROGRAM", (sys.executable, str(path)))
    monkeypatch.setattr(sweep, "_LOOK_EVERY", 0.02)
    return path


@pytest.fixture
def config():
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "num_steps": 3,
            "rate": 0.1,
            "data_dir": ml_collections.config_dict.placeholder(str),
            "optimizer": {"pruning": {"sparsity": 0.9, "on": False, "times": (1, 2)}},
            "dsd": {"sparsity": 0.3},
            "nothing": None,
        }
    )


def _run(members, workdir):
    return sweep.run_members(members, workdir, "c.py:smoke", {"data_dir": "corpus"}, num_steps=3)


def _members(*seeds, rates=(0.5,)):
    return _grid.members({"rate": list(rates), "seed": list(seeds)})


def test_a_grid_has_every_combination_once(config):
    specifications = ["config.optimizer.pruning.sparsity=0.5,0.9", "config.seed=0,1,2"]
    members = _grid.members(_grid.parse_grid(specifications, config))
    assert [tuple(member.values.values()) for member in members] == list(
        itertools.product((0.5, 0.9), (0, 1, 2))
    )
    assert members[1].name == "sparsity=0.5,seed=1"
    assert list(members[1].values) == ["optimizer.pruning.sparsity", "seed"]


def test_names_tell_settings_with_the_same_end_apart(config):
    specifications = ["config.optimizer.pruning.sparsity=0.5", "config.dsd.sparsity=0.5"]
    (member,) = _grid.members(_grid.parse_grid(specifications, config))
    assert member.name == "pruning.sparsity=0.5,dsd.sparsity=0.5"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("aA/=.,é ", min_size=1), min_size=1, max_size=3, unique=True))
@example(["a" * 300 + "b", "a" * 300 + "c"])
def test_names_are_folders(values):
    try:
        members = _grid.members({"data_dir": values})
    except ValueError as error:
        assert "share the folder" in str(error)
        return
    names = [member.name.lower() for member in members]
    assert len(set(names)) == len(values)
    assert all("/" not in name and len(name.encode()) < 200 for name in names)


def test_values_have_their_settings_types(config):
    pruning = "config.optimizer.pruning"
    specifications = [
        "config.rate=1,2e-3",
        f"{pruning}.on=true,False",
        f"{pruning}.times=(1, 2),(3,)",
        "config.data_dir=a/b,'c,d'",
    ]
    grid = _grid.parse_grid(specifications, config)
    assert grid == {
        "rate": [1.0, 0.002],
        "optimizer.pruning.on": [True, False],
        "optimizer.pruning.times": [(1, 2), (3,)],
        "data_dir": ["a/b", "c,d"],
    }
    assert isinstance(grid["rate"][0], float)


@pytest.mark.parametrize(
    ("specifications", "message"),
    [
        (
            ["config.optimizer.prunning.sparsity=1"],
            "no such setting optimizer.prunning.sparsity; nearest: optimizer.pruning.sparsity",
        ),
        (["config.seeds=1"], "no such setting seeds; nearest: seed"),
        (["config.seed=0.5"], "seed takes values of type int, not 0.5"),
        (["config.rate=fast"], "rate takes values of type float, not fast"),
        (["config.optimizer.pruning.on=1"], "takes true or false, not 1"),
        (["config.optimizer.pruning.times=3"], r"takes tuples such as \(1, 2\), not 3"),
        (["config.nothing=3"], "of type NoneType, which cannot be swept"),
        (["config.dsd=3"], "dsd is a group; sweep one of dsd.sparsity"),
        (["config.seed=1", "config.seed=2"], "seed is swept already"),
        (["config.seed=1,1"], "a value stands there twice"),
        (["config.seed"], "must be config.SETTING=VALUE"),
        ([], "no grid"),
    ],
)
def test_a_wrong_grid_is_refused(config, specifications, message):
    with pytest.raises(ValueError, match=message):
        _grid.members(_grid.parse_grid(specifications, config))


def test_a_failed_member_does_not_stop_the_others_and_goes_on_later(program, tmp_path):
    workdir, members = tmp_path / "sweep", _members(0, 1, 2)
    workdir.mkdir()
    (workdir / "fail1").touch()
    assert _run(members, workdir) == {"rate=0.5,seed=1": "train: the data are bad"}
    states = {r.name: r.finished for r in _sweep_summary.read_results(workdir)}
    assert states == {"rate=0.5,seed=0": True, "rate=0.5,seed=1": False, "rate=0.5,seed=2": True}

    (workdir / "fail1").unlink()
    assert _run(members, workdir) == {}
    calls = [(workdir / member.name / "calls").read_text() for member in members]
    # The finished ones were not called again; the failed one went on.
    assert calls == ["from 0\n", "from 1\n", "from 0\n"]


def test_a_member_that_ends_early_is_not_finished(program, tmp_path):
    """As one that was told to stop, which saves and exits with 0."""
    (tmp_path / "early0").touch()
    assert _run(_members(0), tmp_path) == {"rate=0.5,seed=0": "stopped at step 1 of 3"}


def test_a_longer_grid_adds_members_and_other_settings_run_again(program, tmp_path):
    _run(_members(0), tmp_path)
    _run(_members(0, 1), tmp_path)
    first, second = (tmp_path / m.name / "calls" for m in _members(0, 1))
    assert (first.read_text(), second.read_text()) == ("from 0\n", "from 0\n")
    sweep.run_members(_members(0), tmp_path, "c.py:small", {"data_dir": "corpus"}, num_steps=3)
    assert first.read_text() == "from 0\nfrom 3\n"


def test_sigterm_ends_the_sweep_and_lets_its_member_save(program, tmp_path, repository):
    workdir = tmp_path / "sweep"
    workdir.mkdir()
    (workdir / "hang").touch()
    driver = f"""
        import pathlib, signal, sys
        from experiments import _grid, sweep
        sweep.PROGRAM = (sys.executable, {str(program)!r})
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        members = _grid.members({{"rate": [0.5], "seed": [0, 1]}})
        sweep.run_members(members, pathlib.Path({str(workdir)!r}), "c.py", {{}}, 3)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(driver)], cwd=repository)
    folder = workdir / "rate=0.5,seed=0"
    deadline = time.monotonic() + 300
    while not (folder / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 128 + signal.SIGTERM
    assert (folder / "saved").exists()
    assert not json.loads((folder / "member.json").read_text())["finished"]
    assert not (workdir / "rate=0.5,seed=1").exists()


def test_summary_has_the_last_values(program, tmp_path, capsys):
    _run(_members(0, 1, rates=(0.5, 0.25)), tmp_path)
    sweep.summarize(tmp_path, ["loss/total"], "values")
    rows = list(csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines()))
    assert [(row["rate"], row["seed"], row["step"], row["finished"]) for row in rows] == [
        (rate, seed, "3", "True") for rate in ("0.25", "0.5") for seed in ("0", "1")
    ]
    assert [float(row["loss/total"]) for row in rows] == [2.5, 3.5, 5.0, 6.0]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "loss/total" in capsys.readouterr().out
    before = (tmp_path / "sweep.png").read_bytes()
    sweep.summarize(tmp_path, ["loss/total"], "curves")
    assert (tmp_path / "sweep.png").read_bytes() != before


def test_a_metric_that_no_member_has_is_named(program, tmp_path):
    _run(_members(0), tmp_path)
    with pytest.raises(ValueError, match="no member has the metric loss/totl; nearest: loss/total"):
        sweep.summarize(tmp_path, ["loss/totl"], "values")
    with pytest.raises(ValueError, match="holds no member of a sweep"):
        sweep.summarize(tmp_path / "elsewhere", ["loss/total"], "values")


def test_metrics_of_a_killed_run_are_read(tmp_path):
    """Steps written twice count once; a row that was cut off is left out."""
    text = "step,name,value\n1,loss,3\n2,loss,2\n2,loss,nan\n2,f1,0.5\n3,lo"
    (tmp_path / "metrics.csv").write_text(text)
    metrics = _sweep_summary.read_metrics(tmp_path)
    assert metrics["f1"] == ([2], [0.5])
    assert metrics["loss"][0] == [1, 2] and math.isnan(metrics["loss"][1][1])


def test_plot_draws_means_over_seeds(monkeypatch):
    drawn = []

    class Axes:
        def plot(self, x, y, *style, **options):
            drawn.append((list(x), list(y), options.get("label")))
            return (type("Line", (), {"get_color": lambda self: "k"})(),)

        def set_xlabel(self, text):
            self.label = text

    def result(rate, sparse, seed, value):
        values = {"seed": seed, "rate": rate, "a.on": sparse}
        return _sweep_summary.Result("", values, True, {"f1": ([1], [value])})

    results = [result(r, s, n, r + n) for r in (1.0, 2.0) for s in (False, True) for n in (0, 1)]
    axes = Axes()
    _sweep_summary._draw_values(axes, results, "f1")
    assert axes.label == "rate"
    means = [line for line in drawn if line[2]]
    assert means == [([1.0, 2.0], [1.5, 2.5], "on=no"), ([1.0, 2.0], [1.5, 2.5], "on=yes")]


def _command(repository, *words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "experiments.sweep", *words],
        cwd=repository,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_command_lists_members_and_refuses_wrong_usage_in_one_line(repository, tmp_path):
    usual = [f"--config={CONFIG}", f"--workdir={tmp_path}", "--grid", "config.seed=0,1"]
    listed = _command(repository, *usual, "--list")
    assert listed.stdout == "   0  seed=0\n   1  seed=1\n", listed.stderr
    for words, environment, message in [
        (["--grid", "config.sede=1"], {}, "no such setting sede; nearest: seed"),
        (["--member=2"], {}, "--member=2: the grid has members 0 to 1"),
        ([], {"SLURM_ARRAY_TASK_ID": "7"}, "SLURM_ARRAY_TASK_ID=7: the grid has members 0 to 1"),
        (["--config.seed=3"], {}, "--config.seed and --grid config.seed are both given"),
        (["--summarize"], {}, "holds no member of a sweep"),
    ]:
        done = _command(repository, *usual, *words, **environment)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("sweep: ") and message in done.stderr
    assert not any(tmp_path.iterdir())


def test_one_member_of_an_array_runs_experiments_train(repository, tmp_path):
    """The real launcher, which has no data to train on and says so."""
    words = [f"--config={CONFIG}", f"--workdir={tmp_path}", "--grid", "config.seed=0,1"]
    done = _command(repository, *words, SLURM_ARRAY_TASK_ID="1")
    assert done.returncode == 1
    assert "seed=1: failed: train: no data: give --config.data_dir" in " ".join(done.stderr.split())
    assert done.stderr.endswith("sweep: 1 failed: seed=1\n")
    assert [path.name for path in tmp_path.iterdir()] == ["seed=1"]
