import csv
import json
import math
import subprocess
import sys

import jax
import pytest
from PIL import Image
from typer.testing import CliRunner

from deepaudio.cli import app

SMALL = ("--n", 16, "--t-end", 0.1, "--snapshot-every", 0.02, "--animation", "none")


def run(*arguments):
    return CliRunner().invoke(app, ["nbody", *map(str, arguments)])


def test_a_run_writes_its_folder(tmp_path):
    folder = tmp_path / "new" / "run"
    result = run("-o", folder, *SMALL[:-1], "gif")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert f"{folder} (16 bodies, " in result.stderr and "t = 0.1" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        "animation.gif",
        "config.json",
        "diagnostics.csv",
        "snapshots",
        "summary.png",
    ]
    with Image.open(folder / "animation.gif") as film:
        assert film.n_frames == 6
    with Image.open(folder / "summary.png") as picture:
        assert picture.size == (1200, 700)
    assert len(list((folder / "snapshots").iterdir())) == 6
    config = json.loads((folder / "config.json").read_text())
    assert config["model"] == "plummer" and config["integrator"]["name"] == "hermite"
    assert (config["num_bodies"], config["seed"], config["precision"]) == (16, 0, "float32")


@pytest.mark.parametrize(
    ("arguments", "bodies", "precision"),
    [
        (("--model", "plummer", "--integrator", "leapfrog", "--dt", 0.001), 16, "float32"),
        (("--model", "uniform", "--precision", "float64"), 16, "float64"),
        (("--model", "kepler", "--n", 2), 2, "float64"),
        (("--model", "figure-eight", "--n", 3, "--integrator", "leapfrog"), 3, "float64"),
        (("--model", "lennard-jones", "--eta", 0.03), 16, "float32"),
        (("--model", "ionic", "--n", 8, "--dielectric", "sigmoidal"), 8, "float32"),
    ],
)
def test_every_model_prints_its_figures(tmp_path, arguments, bodies, precision):
    result = run("-o", tmp_path, *SMALL, *arguments, "--json", "--quiet")
    assert result.exit_code == 0 and result.stderr == "", result.output
    (row,) = json.loads(result.stdout)
    assert next(iter(row)) == "file" and row["file"] == str(tmp_path)
    assert row["model"] == arguments[1]
    assert [name.removeprefix(f"{tmp_path}/") for name in row["files"]] == [
        "config.json",
        "diagnostics.csv",
        "summary.png",
    ]
    assert 0 < abs(row["energy_error"]) < 1e-3
    assert row["diagnostics"]["time"] == pytest.approx(0.1)
    molecular = arguments[1] in ("lennard-jones", "ionic")
    assert (row["diagnostics"]["temperature"] is None) != molecular
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["num_bodies"], config["precision"]) == (bodies, precision)
    assert not jax.config.jax_enable_x64
    with (tmp_path / "diagnostics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["energy_error"]) == row["energy_error"]


def test_the_seed_tells_runs_apart(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("-o", tmp_path / name, *SMALL, "--seed", seed).exit_code == 0
    ends = [(tmp_path / name / "snapshots/000005.npz").read_bytes() for name in "abc"]
    assert ends[0] == ends[1] != ends[2]


def test_the_same_command_goes_on_and_another_is_refused(tmp_path):
    assert run("-o", tmp_path, *SMALL).exit_code == 0
    whole = (tmp_path / "snapshots/000005.npz").read_bytes()
    (tmp_path / "snapshots/000005.npz").unlink()
    (tmp_path / "snapshots/000004.npz").write_bytes(b"damaged")
    result = run("-o", tmp_path, *SMALL)
    assert result.exit_code == 0
    assert "warning: " in result.stderr and "000004.npz is no whole snapshot" in result.stderr
    assert (tmp_path / "snapshots/000005.npz").read_bytes() == whole

    result = run("-o", tmp_path, *SMALL, "--eta", 0.01, "--json")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}: ") and "eta 0.02, not 0.01" in line
    (row,) = json.loads(result.stdout)
    assert row == {"file": str(tmp_path), "error": line.split(": ", 2)[2]}


def test_a_run_whose_energy_runs_away_fails_and_keeps_its_snapshots(tmp_path):
    arguments = ("--model", "kepler", "--integrator", "leapfrog", "--dt", 0.2, "--t-end", 10)
    result = run("-o", tmp_path, *arguments, "--snapshot-every", 1)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "energy error is" in line and "at t = " in line and "Traceback" not in line
    assert len(list((tmp_path / "snapshots").iterdir())) > 1
    assert (
        "RunawayError" in run("-o", tmp_path, *arguments, "--snapshot-every", 1, "--debug").stderr
    )


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("-o", tmp_path / "file", *SMALL)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'file'}: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--n", 0), "not 0"),
        (("--n", 1), "must be at least 2, not 1"),
        (("--softening", -0.5), "must not be negative, as -0.5 is"),
        (("--softening", math.nan), "as nan is"),
        (("--dt", -0.1), "must be above 0, not -0.1"),
        (("--dt", 0), "must be above 0, not 0"),
        (("--eta", math.nan), "must be above 0, not nan"),
        (("--t-end", 0), "must be above 0, not 0"),
        (("--t-end", -2), "must be above 0, not -2"),
        (("--t-end", "inf"), "must be above 0, not inf"),
        (("--snapshot-every", 0), "must be above 0, not 0"),
        (("--energy-limit", 0), "must be above 0, not 0"),
        (("--dt", 0.1, "--eta", 0.1), "--dt and --eta exclude each other"),
        (("--model", "galaxy"), "'galaxy' is not one of"),
        (("--integrator", "euler"), "'euler' is not one of"),
        (("--precision", "float16"), "'float16' is not one of"),
        (("--model", "ionic", "--integrator", "hermite"), "Hermite needs the jerk"),
        (("--model", "ionic", "--n", 500), "not 500; try 512"),
        (("--model", "kepler", "--n", 3), "kepler has 2 bodies, not 3"),
        (("--model", "figure-eight", "--n", 4), "figure-eight has 3 bodies, not 4"),
        (("--model", "lennard-jones", "--softening", 0.1), "--softening 0.1 means nothing to"),
        (("--dielectric", "linear"), "--dielectric linear means nothing to plummer"),
        (("--integrator", "leapfrog", "--softening", 0, "--eta", 0.1), "softening is 0"),
    ],
)
def test_wrong_usage_exits_with_2(tmp_path, arguments, message):
    result = run("-o", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split()) and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_the_folder_must_be_named():
    result = run()
    assert result.exit_code == 2 and "'--output' / '-o'" in result.stderr


def test_help_teaches_and_is_quick():
    program = (
        "import sys\n"
        "from deepaudio.cli import app\n"
        "try:\n"
        "    app(['nbody', '--help'])\n"
        "finally:\n"
        "    assert 'jax' not in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in ("--integrator", "--softening", "figure-eight", "Exit status", "Examples:"):
        assert words in done.stdout
