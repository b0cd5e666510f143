"""Wrong command lines end in one clear line; right ones reach the launcher."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import _arguments

CONFIG = """
import ml_collections

def get_config(variant="good"):
    if variant != "good":
        raise ValueError(f"{variant=} must be good")
    return ml_collections.ConfigDict(
        {"seed": 0, "optimizer": {"pruning": {"sparsity": 0.9, "on": False}, "peak": 1e-3}}
    )
"""
PROGRAM = """
from absl import flags
from ml_collections import config_flags
from experiments import _arguments

def define_flags():
    config_flags.DEFINE_config_file("config", None, "Settings.")
    flags.DEFINE_string("workdir", None, "A folder.")
    flags.mark_flag_as_required("workdir")

def main(argv):
    config = flags.FLAGS.config
    print(config.seed, config.optimizer.pruning.sparsity, config.optimizer.pruning.on, argv[1:])

_arguments.run(main, define_flags)
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp("command")
    (folder / "settings.py").write_text(CONFIG)
    (folder / "train.py").write_text(PROGRAM)

    def run(*words):
        return subprocess.run(
            [sys.executable, folder / "train.py", *words],
            cwd=folder,
            env={"PYTHONPATH": str(repository), "PATH": ""},
            capture_output=True,
            text=True,
        )

    return run


def test_a_right_command_line_reaches_the_program(command):
    words = ["--config", "settings.py:good", "--workdir=a", "--config.seed=3", "rest"]
    done = command(
        *words, "--config.optimizer.pruning.sparsity=0.5", "--config.optimizer.pruning.on"
    )
    assert done.stdout == "3 0.5 True ['rest']\n", done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--config.optimizer.prunning.sparsity=0.5"],
            "no such setting optimizer.prunning.sparsity; nearest: optimizer.pruning.sparsity",
        ),
        (
            ["--config.sparsity=0.5"],
            "no such setting sparsity; nearest: optimizer.pruning.sparsity",
        ),
        (["--noconfig.optimizer.pruning.of"], "nearest: optimizer.pruning.on"),
        (["--config.seed.first=1"], "no such setting seed.first; nearest: seed"),
        (["--config.seed=few"], "flag --config.seed=few: invalid literal for int"),
        (["--config=settings.py:bad"], "variant='bad' must be good"),
        (["--config=setings.py:good"], "--config=setings.py:good: there is no file setings.py"),
        (["--workdirr=b"], "Unknown command line flag 'workdirr'. Did you mean: workdir"),
    ],
)
def test_a_wrong_command_line_ends_in_one_line(command, words, message):
    if not any(word.startswith("--config=") for word in words):
        words = ["--config=settings.py:good", *words]
    done = command("--workdir=a", *words)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("train: ") and message in done.stderr


def test_help_is_no_error(command):
    done = command("--help")
    assert done.returncode == 0 and "--workdir: A folder." in done.stdout


def test_a_missing_flag_is_named(command):
    done = command("--config=settings.py")
    assert (done.returncode, done.stderr) == (2, "train: --workdir is missing\n")


def test_train_refuses_an_unknown_setting(repository):
    words = ["--config=experiments/configs/onsets_and_frames.py:smoke", "--workdir=unused"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", *words, "--config.optimizer.prunning.on=true"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    message = "train: no such setting optimizer.prunning.on; nearest: optimizer.pruning.on\n"
    assert (done.returncode, done.stderr) == (2, message)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab.", min_size=1, max_size=6), min_size=1, max_size=5), st.data())
def test_a_known_name_is_nearest_to_itself(known, data):
    name = data.draw(st.sampled_from(known))
    assert _arguments.nearest(name, known) == name
