"""The launcher itself as two processes of one run, joined on loopback."""

import os
import socket
import subprocess
import sys

import jax
import numpy as np

from experiments import restore
from experiments.make_piano_corpus import make_corpus

_SETTINGS = {
    "model.channels": "(2,2,4)",
    "model.dense_units": 16,
    "model.lstm_units": 4,
    "model.key_lstm_units": 2,
    "num_frames": 20,
    "checkpoint_every": 2,
    "evaluate_recordings": 1,
    "num_threads": 0,
}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _train(repository, corpus, workdir, num_steps):
    """Trains with two processes to so many steps."""
    settings = [f"--config.{name}={value}" for name, value in _SETTINGS.items()]
    program = [
        sys.executable, "-m", "experiments.train",
        "--config=experiments/configs/onsets_and_frames.py:smoke",
        f"--config.data_dir={corpus}", f"--workdir={workdir}", f"--config.num_steps={num_steps}",
        f"--coordinator_address=127.0.0.1:{_free_port()}", "--num_processes=2", *settings,
    ]  # fmt: skip
    processes = [
        subprocess.Popen(
            [*program, f"--process_id={number}"],
            cwd=repository,
            env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for number in range(2)
    ]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


def test_two_processes_of_the_launcher_train_one_run(tmp_path, repository):
    corpus = tmp_path / "corpus"
    make_corpus(
        corpus, hours=0.01, workers=1, scores="generated", instruments="synthetic", max_seconds=12.0
    )
    _train(repository, corpus, tmp_path / "run", 2)
    rows = [line.split(",") for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()]
    # One process writes for both.
    assert [step for step, name, _ in rows if name == "loss/total"] == ["2"]
    assert any(name.startswith("validation/") for _, name, _ in rows)
    task, variables = restore.restore(tmp_path / "run")
    drawn = jax.device_get(task.init(jax.random.key(0)))
    for before, after in zip(jax.tree.leaves(drawn), jax.tree.leaves(variables), strict=True):
        assert np.isfinite(after).all() and before.shape == after.shape
