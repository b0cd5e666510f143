"""The claims: what they compare, how they judge, and that runs are kept."""

import functools
import json
import os
import subprocess
import sys

import jax
import ml_collections
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from deepaudio.data import read_maestro
from experiments.claims import (
    _claim,
    _corpora,
    _data_parallel,
    _runs,
    _speech,
    dense_sparse_dense,
    gradual_pruning,
    mixed_precision,
)
from experiments.claims.__main__ import CLAIMS

PAPERS = {
    "1711.10433",
    "1710.11153",
    "1710.03740",
    "1704.05119",
    "1607.04381",
    "1512.02595",
    "1412.5567",
    "0706.3060",
}


@pytest.fixture
def setting(tmp_path):
    return _claim.Setting("smoke", tmp_path / "corpora", tmp_path / "work", (0, 1), 1)


def test_every_paper_has_a_claim():
    assert {claim.paper.removeprefix("arXiv ") for claim in CLAIMS.values()} == PAPERS
    assert all(name == claim.name for name, claim in CLAIMS.items())


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((True, True), True),
        ((True, None), True),
        ((True, False), False),
        ((None, False), False),
        # What could not be measured at all does not hold.
        ((None, None), False),
        ((), False),
    ],
)
def test_a_claim_holds_if_all_that_was_measured_does(answers, expected):
    checks = [_claim.Check("asked", "found", answer) for answer in answers]
    assert _claim.holds(checks) is expected


def test_mean_and_spread():
    assert _claim.spread([0.1, 0.2, 0.3], 100) == "20.0 ± 10.0"
    assert _claim.spread([0.25], 100, digits=2) == "25.00"
    assert _claim.spread([]) == "failed"


def test_an_arm_that_failed_from_every_seed_is_no_better_than_another():
    assert _claim.mean([0.1, 0.3]) == pytest.approx(0.2)
    assert not _claim.mean([]) < 1.0 and not _claim.mean([]) > 1.0


def test_pooled_spread_is_the_root_of_the_mean_variance_within_groups(rng):
    one, other = rng.normal(0, 1, (2, 5))
    expected = np.sqrt((np.var(one, ddof=1) + np.var(other, ddof=1)) / 2)
    assert _claim.pooled_spread(list(one), list(other)) == pytest.approx(expected)
    assert _claim.pooled_spread([1.0], [2.0]) == 0.0


def test_record_and_picture(tmp_path, setting):
    claim = CLAIMS["nbody"]
    outcome = _claim.Outcome(
        [{"arm": "ours", "value": 1.0}],
        [_claim.Check("fast", "3 times", True), _claim.Check("on a GPU", "none here", None)],
        [_claim.Panel("rate", {"ours": [1.0, 1.2], "failing": []}, log=True)],
        "slower",
    )
    path = _claim.write(claim, setting, outcome, tmp_path)
    record = json.loads(path.read_text())
    assert path == tmp_path / "claims" / "nbody.json"
    assert record["holds"] is True
    # A claim that holds does so in this setting; where it does not is told too.
    assert record["tried"] == "slower"
    assert record["measured"] == "fast: 3 times; on a GPU: none here"
    assert [check["holds"] for check in record["checks"]] == [True, None]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def _measured(folder, *, value):
    with (folder / "times.txt").open("a") as file:
        file.write("x")
    return {"value": value}


def _run(folder, seed=0, value=1.0):
    config = ml_collections.ConfigDict({"seed": seed, "num_steps": 3})
    return _runs.Run("arm", folder, config, functools.partial(_measured, value=value))


def test_a_run_is_trained_and_measured_once(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(_runs.train, "train_whole", lambda config, folder: trained.append(folder))
    runs = [_run(tmp_path / "a"), _run(tmp_path / "b", seed=1), _run(tmp_path / "a")]
    rows = _runs.train_all(runs, 1)
    assert [row["seed"] for row in rows] == [0, 1, 0]
    assert rows[0] == {"arm": "arm", "seed": 0, "steps": 3, "value": 1.0}
    assert trained == [tmp_path / "a", tmp_path / "b"]
    assert _runs.train_all(runs, 1) == rows
    assert (tmp_path / "a" / "times.txt").read_text() == "x"


def test_a_run_of_other_settings_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_runs.train, "train_whole", lambda config, folder: None)
    _runs.train_all([_run(tmp_path)], 1)
    for other in (_run(tmp_path, seed=1), _run(tmp_path, value=2.0)):
        with pytest.raises(ValueError, match="other settings"):
            _runs.train_all([other], 1)


def test_an_arm_that_diverges_is_a_result(tmp_path, monkeypatch):
    def diverge(config, folder):
        raise FloatingPointError("the loss is NaN at step 2")

    monkeypatch.setattr(_runs.train, "train_whole", diverge)
    (row,) = _runs.train_all([_run(tmp_path)], 1)
    assert row["failed"] == "the loss is NaN at step 2"
    assert "value" not in row


def test_a_thinned_corpus_has_fewer_training_recordings_and_all_others(setting):
    whole = read_maestro(_corpora.corpus(setting, "piano"))
    thinned = read_maestro(_corpora.thinned(setting, "piano", 2))
    of = {
        split: [[each.piece for each in corpus if each.split == split] for corpus in corpora]
        for corpora in ((whole, thinned),)
        for split in ("train", "validation", "test")
    }
    assert of["train"][1] == of["train"][0][::2] and len(of["train"][0]) > 1
    assert of["validation"][1] == of["validation"][0] and of["test"][1] == of["test"][0]
    assert all(each.audio_path.is_file() and each.midi_path.is_file() for each in thinned)


def test_a_voice_is_scored_on_prompts_that_it_did_not_train_on(setting):
    (run, _) = _speech.runs(setting, "base", {}, heard="prompts")
    assert run.config.splits.train == "prompts_train"
    assert run.measure.keywords["split"] == "prompts_test"
    (other, _) = _speech.runs(setting, "base", {})
    assert other.measure.keywords["split"] == "test_speakers"
    assert other.folder != run.folder


def test_a_missing_corpus_is_named_with_how_to_make_it(tmp_path):
    setting = _claim.Setting("small", tmp_path, tmp_path, (0,), 1)
    with pytest.raises(FileNotFoundError, match=r"make_speech_corpus --language cmn"):
        _corpora.corpus(setting, "mandarin")
    with pytest.raises(FileNotFoundError, match="MAPS"):
        _corpora.corpus(_claim.Setting("paper", tmp_path, tmp_path, (0,), 1), "piano")


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_the_larger_sparse_network_keeps_as_many_weights_as_the_dense_one_has(scale, tmp_path):
    setting = _claim.Setting(scale, tmp_path, tmp_path, (0,), 1)
    large = gradual_pruning.arms(setting)["larger sparse"]
    share = 1.0 - large["optimizer.pruning.sparsity"]
    weights = _speech.num_weights(large, setting)
    assert share * weights == pytest.approx(_speech.num_weights({}, setting), rel=1e-6)
    assert weights > 2 * _speech.num_weights({}, setting)


def test_arms_differ_only_in_what_they_compare(setting):
    base, noise = (
        _speech.runs(setting, arm, changes)
        for arm, changes in (("base", {}), ("no_noise", {"augment.ranges": {"noise_share": 0.0}}))
    )
    assert [run.config.seed for run in base] == [0, 1]
    for one, other in zip(base, noise, strict=True):
        other.config.augment.ranges = one.config.augment.ranges
        assert one.config.to_dict() == other.config.to_dict()


def test_bytes_of_sums_over_devices():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def gradient(weights, inputs):
        return jax.grad(lambda w: (inputs @ w).sum())(weights)

    arguments = jax.ShapeDtypeStruct((3, 5), "float32"), jax.ShapeDtypeStruct((8, 3), "float32")
    jitted = jax.jit(gradient, in_shardings=(everywhere, split), out_shardings=everywhere)
    found = _data_parallel.collective_bytes(jitted.lower(*arguments).compile().as_text())
    # Every column of the gradient is the same, so that XLA may sum fewer than 3 x 5 numbers.
    assert found in (3 * 4, 3 * 5 * 4)
    alone = jax.jit(gradient).lower(*arguments).compile().as_text()
    assert _data_parallel.collective_bytes(alone) == 0


def test_sums_over_devices_in_a_loop_are_refused():
    """Their bytes would be counted once."""
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec()
    )
    def looped(x):
        def add(total, row):
            return jax.lax.psum(total * row, "data"), None

        return jax.lax.scan(add, jax.lax.psum(x[0], "data"), x)[0]

    text = jax.jit(looped).lower(jax.ShapeDtypeStruct((12, 2), "float32")).compile().as_text()
    with pytest.raises(ValueError, match="outside the entry"):
        _data_parallel.collective_bytes(text)


def test_float16_is_judged_by_chance():
    def rows(arm, values):
        return [{"model": "speech", "arm": arm, "cer": value} for value in values]

    base = rows("base", [0.50, 0.52, 0.54])
    assert mixed_precision._kept("speech", base + rows("float16", [0.51, 0.53, 0.55])).holds
    assert not mixed_precision._kept("speech", base + rows("float16", [0.61, 0.63, 0.65])).holds
    # One seed tells nothing of chance.
    assert mixed_precision._kept("speech", base[:1] + rows("float16", [0.5])).holds is None


def test_scaling_is_needed_where_the_loss_stays_higher_without_it_by_more_than_chance():
    lost = [{"model": "piano", "lost_unscaled": 0.5, "lost_scaled": 0.0}]

    def rows(losses):
        return [
            {"model": "piano", "arm": arm, "seed": seed, "training_loss": loss, "note/f1": 0.5}
            for arm, values in losses.items()
            for seed, loss in enumerate(values)
        ]

    # Seeds differ by more than what scaling does, on the same batches.
    both = {"float32": [1.0, 2.0, 3.0], "float16": [1.001, 1.999, 3.0]}
    behind = rows({**both, "float16 unscaled": [1.05, 2.11, 3.14]})
    check = mixed_precision._needed(behind, lost)
    assert check.holds and "piano 5.0" in check.found
    level = rows({**both, "float16 unscaled": [1.0, 2.0, 3.002]})
    assert not mixed_precision._needed(level, lost).holds
    noisy = rows({**both, "float16 unscaled": [0.9, 2.3, 3.1]})
    assert not mixed_precision._needed(noisy, lost).holds
    ended = rows(both) + [
        {"model": "piano", "arm": "float16 unscaled", "seed": 0, "failed": "NaN"},
        {"model": "speech", "arm": "float32", "seed": 0},
    ]
    assert mixed_precision._lag("piano", ended)[0] == float("inf")


def test_the_training_loss_is_the_mean_over_the_second_half(tmp_path):
    run = _run(tmp_path)
    lines = ["1,loss/total,9", "2,loss/total,1", "2,loss/frame,7", "3,loss/total,2"]
    (tmp_path / "metrics.csv").write_text("\n".join(["step,name,value", *lines]))
    assert mixed_precision._training_loss(run) == {"training_loss": 1.5}


def _claims(*words, cwd):
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=1"}
    command = [sys.executable, "-m", "experiments.claims", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("lower", "same", "sparse", "less", "expected"),
    [
        (3, 2, 1, True, True),
        (3, 1, 2, True, False),
        (1, 3, 2, True, False),
        (1, 2, 3, False, True),
        (1, 3, 2, False, False),
        (3, None, 1, True, False),
        (None, 2, 3, False, False),
    ],
)
def test_dense_sparse_dense_has_to_beat_both_controls(lower, same, sparse, less, expected):
    values = zip(dense_sparse_dense._ARMS, (lower, same, sparse), strict=True)
    rows = [{"arm": arm, "cer": value} for arm, value in values if value is not None]
    check = dense_sparse_dense._better("speech", "character errors", rows, "cer", less=less)
    assert check.holds == expected


def test_an_unknown_claim_is_wrong_usage(repository):
    done = _claims("nbodies", cwd=repository)
    assert done.returncode == 2
    assert "no such claim: nbodies; there are parallel_wavenet" in done.stderr


def test_a_claim_is_measured_from_the_command_line(repository, tmp_path):
    words = ("onsets_and_frames", "nbody", "--scale=smoke", f"--workdir={tmp_path}")
    done = _claims(*words, cwd=repository)
    assert done.returncode == 0, done.stderr
    for name in ("onsets_and_frames", "nbody"):
        record = json.loads((tmp_path / "records" / "claims" / f"{name}.json").read_text())
        assert record["scale"] == "smoke"
        assert record["claim"] == CLAIMS[name].sentence
        assert record["results"]
    runs = sorted(path.parent.name for path in tmp_path.glob("smoke/piano/*/0"))
    assert runs == ["frames_alone", "onsets_and_frames"]
