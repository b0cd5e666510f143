"""Checkpoints that were damaged are found out, whatever the damage, and the one before is read."""

import errno
import logging
import os
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from deepaudio import training
from deepaudio.training import _checkpoints


def _state(step):
    rng = np.random.default_rng(step)
    return {
        "weights": jnp.asarray(rng.standard_normal((40, 30)), jnp.float32),
        "half": jnp.asarray(rng.standard_normal(50), jnp.bfloat16),
        "mask": jnp.asarray(rng.random(70) > 0.5),
        "count": jnp.asarray(step, jnp.int32),
    }


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A folder with the checkpoints of steps 5 and 10, not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with training.Checkpoints(folder) as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, _state(step), {"number": step})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(saved, tmp_path / "checkpoints")


def _restore(folder, step=None, **options):
    with training.Checkpoints(folder, **options) as checkpoints:
        return checkpoints.restore(_state(0), step)


def _is(restored, step):
    state, position = restored
    same = jax.tree.map(
        lambda a, b: a.dtype == b.dtype and bool((a == b).all()), state, _state(step)
    )
    return all(jax.tree.leaves(same)) and position == {"number": step}


def _files(folder, step):
    return sorted(path for path in (folder / str(step)).rglob("*") if path.is_file())


def _largest(folder, step):
    return max(_files(folder, step), key=lambda path: path.stat().st_size)


def _flip(path, bit=None):
    data = bytearray(path.read_bytes())
    bit = 4 * len(data) if bit is None else bit
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def test_what_is_saved_comes_back(folder):
    assert _is(_restore(folder), 10)
    assert _is(_restore(folder, 5), 5)


def test_the_restored_lie_where_the_template_does(folder):
    mesh = training.data_mesh()
    template = _state(0)
    split = NamedSharding(mesh, PartitionSpec(("data",)))
    template["weights"] = jax.device_put(template["weights"], split)
    with training.Checkpoints(folder) as checkpoints:
        state, _ = checkpoints.restore(template)
    assert state["weights"].sharding == split
    assert _is((jax.device_get(state), {"number": 10}), 10)


def test_one_flipped_bit_goes_back_a_step_and_says_so(folder, caplog):
    _flip(_largest(folder, 10))
    name = _largest(folder, 10).relative_to(folder / "10")
    assert _is(_restore(folder), 5)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"{folder}: corrupt checkpoint of step 10 ({name} has changed); going back to step 5; "
        "the corrupt is kept as 10.corrupt"
    )
    assert (folder / "10.corrupt" / name).exists()
    # Its step can be saved again, and become corrupt again.
    for kept in ("10.corrupt", "10.corrupt2"):
        with training.Checkpoints(folder) as checkpoints:
            assert checkpoints.latest_step() == 5
            checkpoints.save(10, _state(10), {"number": 10})
        assert _is(_restore(folder), 10)
        assert (folder / kept).exists()
        _flip(_largest(folder, 10))
        assert _is(_restore(folder), 5)


@given(
    data=st.data(),
    damage=st.sampled_from(["flip", "truncate", "empty", "garbage", "remove", "remove item"]),
)
@settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_damage_is_ever_read_as_numbers(saved, tmp_path_factory, data, damage):
    folder = shutil.copytree(saved, tmp_path_factory.mktemp("damaged") / "checkpoints")
    path = data.draw(st.sampled_from(_files(saved, 10)))
    path = folder / path.relative_to(saved)
    length = path.stat().st_size
    if damage == "flip":
        _flip(path, data.draw(st.integers(0, 8 * length - 1)))
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, length - 1))])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "garbage":
        path.write_bytes(data.draw(st.binary(min_size=1, max_size=2 * length)))
    elif damage == "remove":
        path.unlink()
    else:
        shutil.rmtree(data.draw(st.sampled_from([folder / "10" / "state", folder / "10" / "data"])))
    restored = _restore(folder)
    # Some files, such as the time of writing, do not matter.
    assert _is(restored, 5) or _is(restored, 10)
    if damage == "remove item":
        assert _is(restored, 5)


def test_all_corrupt_is_an_error_and_not_a_fresh_start(folder, task, batches):
    for step in (5, 10):
        _flip(_largest(folder, step))
    message = rf"{folder}: no checkpoint is intact: 10 \(.* has changed\), 5 \(.* has changed\)"
    with pytest.raises(training.CheckpointError, match=message):
        _restore(folder)
    with pytest.raises(training.CheckpointError, match=message):
        training.train(
            task,
            optax.sgd(0.1),
            batches(),
            training.TrainConfig(num_steps=1),
            folder.parent,
            show_progress=False,
        )
    assert _files(folder, 5) and _files(folder, 10)


def test_a_corrupt_one_asked_for_is_an_error(folder):
    _flip(_largest(folder, 10))
    with pytest.raises(training.CheckpointError, match="no checkpoint is intact: 10"):
        _restore(folder, 10)
    assert _is(_restore(folder, 5), 5)


def test_without_any_digests_it_is_read_and_said(folder, caplog):
    for step in (5, 10):
        (folder / str(step) / "SHA256SUMS").unlink()
    assert _is(_restore(folder), 10)
    assert "has no SHA256SUMS, so it is read as it is" in caplog.text


def test_the_digests_are_those_that_sha256sum_checks(folder, require):
    require("sha256sum")
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=folder / "10", check=False).returncode == 0
    _flip(_largest(folder, 10))
    assert subprocess.run(check, cwd=folder / "10", check=False, capture_output=True).returncode


def test_reading_only_changes_nothing(folder, caplog):
    _flip(_largest(folder, 10))
    (folder / "15.orbax-checkpoint-tmp").mkdir()
    before = sorted(folder.rglob("*"))
    assert _is(_restore(folder, read_only=True), 5)
    assert "going back to step 5" in caplog.text
    assert sorted(folder.rglob("*")) == before


def test_reading_only_is_possible_during_a_run(folder):
    with training.Checkpoints(folder):
        assert _is(_restore(folder, read_only=True), 10)


def test_two_writers_are_refused(folder):
    with training.Checkpoints(folder):
        with pytest.raises(BlockingIOError, match=rf"{folder}: another run is using it \(process "):
            training.Checkpoints(folder)
    training.Checkpoints(folder).close()


def test_half_written_ones_are_cleared_away(folder):
    (folder / "12.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    with training.Checkpoints(folder) as checkpoints:
        assert checkpoints.latest_step() == 10
        checkpoints.save(15, _state(15), {"number": 15})
    assert not list(folder.glob("*tmp*"))
    assert _is(_restore(folder), 15)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs the program mount, which is not installed")
    if done.returncode:
        pytest.skip(f"may not mount a disk: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_loses_nothing(small_disk):
    folder = small_disk / "checkpoints"
    message = rf"{folder}: the checkpoint of step (\d+) could not be written: .*No space left[^\n]*"

    def state(step):
        return {"weights": jax.random.normal(jax.random.key(step), (2**17,))}

    with training.Checkpoints(folder, keep=100) as checkpoints:
        with pytest.raises(training.CheckpointError) as caught:
            for step in range(1, 100):
                checkpoints.save(step, state(step), {"number": step})
                checkpoints.wait()
        newest = checkpoints.latest_step()
    assert re.fullmatch(message, str(caught.value))[1] == str(newest + 1)
    assert newest > 1
    with training.Checkpoints(folder, read_only=True) as checkpoints:
        for step in range(1, newest + 1):
            restored, position = checkpoints.restore(state(0), step)
            np.testing.assert_array_equal(restored["weights"], state(step)["weights"])
            assert position == {"number": step}


def test_a_save_that_fails_later_is_an_error_that_loses_nothing(folder, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    message = rf"{folder}: the checkpoint of step 15 could not be written: .*No space left"
    with training.Checkpoints(folder) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(_checkpoints, "_digest", full)
            checkpoints.save(15, _state(15), {"number": 15})
            with pytest.raises(training.CheckpointError, match=message):
                checkpoints.wait()
        assert checkpoints.latest_step() == 10
    assert _is(_restore(folder), 10)
    assert _is(_restore(folder, 5), 5)
    with pytest.raises(training.CheckpointError, match=message):
        with training.Checkpoints(folder) as checkpoints:
            monkeypatch.setattr(_checkpoints, "_digest", full)
            checkpoints.save(15, _state(15), {"number": 15})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"half": jnp.zeros((3, 3))}, r"half is bfloat16\[50\] there and float32\[3, 3\] here"),
        ({"half": jnp.zeros(50)}, r"half is bfloat16\[50\] there and float32\[50\] here"),
        ({"more": jnp.zeros(2)}, r"more is nothing there and float32\[2\] here"),
    ],
)
def test_another_state_is_an_error_and_no_corruption(folder, change, said):
    with training.Checkpoints(folder) as checkpoints:
        with pytest.raises(
            ValueError, match=rf"{folder}/10: does not fit this run's state: {said}"
        ):
            checkpoints.restore({**_state(0), **change})
    assert _is(_restore(folder), 10)


def test_a_run_of_other_processes_is_an_error_but_can_be_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoints, "_gather", lambda position: [position, position])
    with training.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, _state(5), {"number": 5})
    with pytest.raises(ValueError, match=rf"{tmp_path}/5: was written by 2 processes, and 1 can"):
        _restore(tmp_path)
    assert _is(_restore(tmp_path, read_only=True), 5)


def test_a_position_as_it_was_once_written_is_read(tmp_path):
    with training.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, _state(5), {"number": 5})
    path = tmp_path / "5" / "data" / "metadata"
    path.write_text('{"number": 5}')
    (tmp_path / "5" / "SHA256SUMS").unlink()
    assert _is(_restore(tmp_path), 5)


def test_a_step_that_is_not_after_the_newest_is_refused(folder):
    with training.Checkpoints(folder) as checkpoints:
        with pytest.raises(training.CheckpointError, match="step 7 is not after step 10"):
            checkpoints.save(7, _state(7), {"number": 7})


def test_nothing_there_is_said(tmp_path):
    for options in ({}, {"read_only": True}):
        with pytest.raises(FileNotFoundError, match=f"{tmp_path}: no checkpoint"):
            _restore(tmp_path, **options)
