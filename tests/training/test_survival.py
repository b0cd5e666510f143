"""Runs that survive: real processes are ended in every way, and go on as if they had not been."""

import fcntl
import multiprocessing
import os
import re
import signal
import socket
import time

import jax
import numpy as np
import pytest

from deepaudio import training
from tests.training._line_run import HeavyTask, Run, main, make_optimizer

# A process that has imported everything is forked for each run: importing takes longest.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.training._line_run"])
# Seconds after which a run hangs; a busy machine must not reach it.
_DEADLINE = 300


class Started:
    """A run in its own process, and what it says."""

    def __init__(self, run, output):
        self._output = output
        self._process = _PROCESSES.Process(target=main, args=(run, str(output)), daemon=True)
        self._process.start()

    def wait(self):
        """The exit status; negative for a signal."""
        self._process.join(_DEADLINE)
        assert self._process.exitcode is not None, "the run does not end"
        return self._process.exitcode

    def wait_for(self, line):
        """Returns when the run has written a line on stdout."""
        end = time.monotonic() + _DEADLINE
        while line not in self.lines("out"):
            assert time.monotonic() < end and self._process.is_alive(), self.lines("err")
            time.sleep(0.01)

    def send(self, number):
        os.kill(self._process.pid, number)

    def lines(self, name):
        path = self._output / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def start(tmp_path):
    """`start(workdir, num_steps, …)` starts a run; none is left behind."""
    started = []

    def start(workdir, num_steps, **options):
        run = Run(str(tmp_path / workdir), num_steps, **options)
        started.append(Started(run, tmp_path / f"output{len(started)}"))
        return started[-1]

    yield start
    for run in started:
        if run._process.is_alive():
            run._process.kill()
        run._process.join()


def _restore(workdir, step=None):
    template = training.init_state(HeavyTask(), make_optimizer(), 0)
    with training.Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore(template, step)


def _steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def _half_written(workdir):
    return list((workdir / "checkpoints").glob("*tmp*"))


def _assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_killed_at_any_moment_a_run_goes_on_bit_for_bit(start, tmp_path, rng):
    whole = start("whole", 24)
    parts = tmp_path / "parts"
    # Before the first checkpoint is complete, and before the second is.
    assert start("parts", 24, die_at=("os.rename", 3)).wait() == -signal.SIGKILL
    assert not _steps(parts) and _half_written(parts)
    assert start("parts", 24, die_at=("os.rename", 6)).wait() == -signal.SIGKILL
    assert _steps(parts) == [4] and _half_written(parts)
    # Anywhere: while files are read back, written, or their digests taken.
    count = int(rng.integers(2, 60))
    assert start("parts", 24, die_at=("open", count)).wait() == -signal.SIGKILL
    # While an old checkpoint is deleted; and from outside, a save having just begun.
    assert start("parts", 24, die_at=("os.rmdir", 1)).wait() == -signal.SIGKILL
    outside = start("parts", 24, checkpoint_every=1, pause_at=18)
    outside.wait_for("batch 18")
    outside.send(signal.SIGKILL)
    assert outside.wait() == -signal.SIGKILL
    assert start("parts", 24).wait() == 0
    assert whole.wait() == 0
    assert not _half_written(parts)
    state, position = _restore(parts, 24)
    _assert_same((state, position), _restore(tmp_path / "whole", 24))
    assert position == {"number": 24}
    # What the chain carries has moved: the scale has grown, and weights are pruned.
    assert float(state.opt_state.loss_scale) > 2.0**15
    assert 0 in np.asarray(state.params["w"])


def test_sigterm_saves_and_a_second_run_on_the_workdir_is_refused(start, tmp_path):
    first = start("run", 10**6, checkpoint_every=10**6)
    first.wait_for("batch 5")
    second = start("run", 10)
    assert second.wait() == 1
    (line,) = second.lines("err")
    folder = re.escape(str(tmp_path / "run" / "checkpoints"))
    assert re.fullmatch(rf"train: {folder}: another run is using it \(process \d+ on .+\)", line)
    assert not _steps(tmp_path / "run")
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    (step,) = _steps(tmp_path / "run")
    told = f"stopped by SIGTERM at step {step}; run the same command to go on"
    assert first.lines("err") == [told]
    assert first.lines("out")[-1] == f"batch {step - 1}"
    state, position = _restore(tmp_path / "run")
    assert int(state.step) == step
    assert position == {"number": step}


def test_two_processes_stop_together_and_go_on(start, tmp_path):
    def both(num_steps):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        options = {"processes": 2, "port": port, "checkpoint_every": 10**6}
        return [start("run", num_steps, index=index, **options) for index in range(2)]

    first = both(10**6)
    first[0].wait_for("batch 5")
    first[1].send(signal.SIGTERM)
    assert [run.wait() for run in first] == [0, 0]
    (step,) = _steps(tmp_path / "run")
    assert any(
        line.startswith(f"stopped by SIGTERM at step {step};") for line in first[0].lines("err")
    )
    assert step % 2 == 0  # They look at the metrics, and at each other, every 2 steps.

    again = both(step + 3)
    assert [run.wait() for run in again] == [0, 0]
    for run in again:
        taken = [line for line in run.lines("out") if line.startswith("batch ")]
        assert taken == [f"batch {number}" for number in range(step, step + 3)]
    state, _ = _restore(tmp_path / "run")
    assert int(state.step) == step + 3


def test_files_that_cannot_be_written_are_an_error_that_loses_no_checkpoint(start, tmp_path):
    assert start("run", 8).wait() == 0
    before = _restore(tmp_path / "run")
    # Files may be of 64 KiB, and those of the arrays are larger.
    full = start("run", 10**6, largest_file=2**16)
    assert full.wait() == 1
    # Orbax's threads may write to stderr as well, even into the middle of this line's start.
    told = "\n".join(full.lines("err"))
    assert re.search(
        rf"train: {re.escape(str(tmp_path / 'run' / 'checkpoints'))}: the checkpoint of step 12 "
        r"could not be written: .*File too large.*; those before it are as they were",
        told,
    ), told
    assert _steps(tmp_path / "run") == [4, 8]
    _assert_same(_restore(tmp_path / "run"), before)
    assert start("run", 16).wait() == 0
    assert _steps(tmp_path / "run") == [12, 16]


def test_the_lock_is_the_kernels(tmp_path):
    # So that it is gone with the process, however that ends.
    with training.Checkpoints(tmp_path), (tmp_path / "lock").open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
