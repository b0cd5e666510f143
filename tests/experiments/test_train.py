"""The launchers on a corpus made for the purpose: train, resume, evaluate, export, transcribe."""

import json
import types

import jax
import numpy as np
import pytest
import soundfile
from jax.sharding import Mesh

from deepaudio import data, optim, training
from deepaudio.models import WeightsError, load_weights
from deepaudio.tasks.transcriber import load_transcriber
from deepaudio.tasks.transcription import Rolls
from experiments import _optimizer, _transcription, evaluate, export, restore, train
from experiments.configs import onsets_and_frames
from experiments.make_piano_corpus import make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(
        folder, hours=0.01, workers=1, scores="generated", instruments="synthetic", max_seconds=12.0
    )
    return folder


@pytest.fixture(autouse=True)
def loose_promotion():
    """optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module", autouse=True)
def two_devices():
    """Sharded, but over two of the eight host devices: compiling for eight takes minutes."""
    with pytest.MonkeyPatch.context() as patch:
        mesh = Mesh(np.array(jax.devices()[:2]).reshape(2, 1), ("data", "model"))
        patch.setattr("deepaudio.training.data_mesh", lambda model: mesh)
        yield


def _config(corpus, num_steps):
    config = onsets_and_frames.get_config("smoke")
    config.data_dir = str(corpus)
    config.model.channels = (2, 2, 4)
    config.model.dense_units = 16
    config.model.lstm_units = 4
    config.model.key_lstm_units = 2
    config.num_frames = 20
    config.num_steps = num_steps
    config.checkpoint_every = 2
    config.evaluate_every = 4
    return config


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A run of four steps, and its last state."""
    workdir = tmp_path_factory.mktemp("run")
    with jax.numpy_dtype_promotion("standard"):
        return workdir, train.train(_config(corpus, 4), workdir)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(corpus, run, tmp_path):
    _, whole = run
    train.train(_config(corpus, 2), tmp_path)
    resumed = train.train(_config(corpus, 4), tmp_path)
    assert int(resumed.step) == 4
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def _everything_on(corpus):
    config = _config(corpus, 6)
    config.precision = "float16"
    config.accumulate = 2
    config.optimizer.loss_scaling.initial_scale = 2.0**22  # overflows at first
    config.optimizer.pruning.update(
        {"on": True, "schedule": "cubic", "sparsity": 0.8, "start": 0.0, "end": 0.6, "frequency": 1}
    )
    config.optimizer.dense_sparse_dense.update({"on": True, "dense": 0.2, "sparse": 0.5})
    return config


def test_half_precision_pruning_and_dsd_together_resume_bit_for_bit(corpus, tmp_path, monkeypatch):
    config = _everything_on(corpus)
    whole = train.train(config, tmp_path / "whole")
    assert int(whole.opt_state.skipped) > 0
    assert float(whole.opt_state.loss_scale) < 2.0**22

    def failing(config, task):
        def evaluate(variables):
            raise RuntimeError("power cut")

        return evaluate

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(_transcription, "make_evaluator", failing)
        train.train(config, tmp_path / "parts")  # at step 4, in the middle of all phases
    resumed = train.train(config, tmp_path / "parts")
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    # Its times are shares of the steps.
    config.num_steps = 8
    with pytest.raises(ValueError, match="other settings of num_steps"):
        train.train(config, tmp_path / "parts")


def test_pruning_thresholds_come_from_a_dense_run(corpus, run, tmp_path):
    config = _config(corpus, 6)
    config.optimizer.pruning.update({"on": True, "start": 0.0, "ramp": 0.2, "end": 0.8})
    config.optimizer.pruning.frequency = 1
    with pytest.raises(ValueError, match="trained dense model"):
        train.train(config, tmp_path)
    config.optimizer.pruning.dense_model = config.init_from = str(run[0])
    config.optimizer.schedule.peak = 1e-6
    state = train.train(config, tmp_path / "sparse")
    # From the dense run's own weights, hardly moved: its 90th percentile prunes nine in ten.
    total = optim.sparsity_report(state.params)["total"]
    assert total == pytest.approx(0.9, abs=0.05)
    variables = restore.restore(tmp_path / "sparse")[1]
    assert optim.sparsity_report(variables["params"])["total"] == pytest.approx(total)
    kept = json.loads((tmp_path / "sparse" / "pruning_thresholds.json").read_text())
    assert kept == optim.estimate_q(run[1].average["params"], 0.9)


def test_training_writes_scalars_a_picture_and_its_configuration(run):
    workdir, _ = run
    metrics = (workdir / "metrics.csv").read_text()
    for name in ("loss/onset", "loss/frame", "loss/offset", "validation/metric/note/f1"):
        assert name in metrics
    events = b"".join(path.read_bytes() for path in workdir.glob("events.*"))
    assert b"validation/roll" in events
    assert json.loads((workdir / "config.json").read_text())["model"]["dense_units"] == 16


def test_a_run_cannot_go_on_as_something_else(corpus, run):
    config = _config(corpus, 4)
    config.optimizer.max_gradient_norm = 1.0
    with pytest.raises(ValueError, match="other settings of optimizer"):
        train.train(config, run[0])


def test_missing_data_is_said(tmp_path):
    with pytest.raises(ValueError, match="--config.data_dir"):
        train.train(_config("", 2), tmp_path / "a")


def test_export_is_what_the_command_transcribes_with(run, corpus, tmp_path):
    workdir, state = run
    path = tmp_path / "model.safetensors"
    decoding = export.export(workdir, path)
    variables, config = load_weights(path)
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(state.average), strict=True):
        np.testing.assert_array_equal(a, b)
    assert config["decoding"] == decoding == _transcription.PAPERS_DECODING

    recording = data.read_maestro(corpus, "test")[0]
    samples = soundfile.read(recording.audio_path, dtype="float32")[0]
    task, restored = restore.restore(workdir)
    rolls = load_transcriber(path).rolls([samples])
    # A window by hand: the margin of silence in front, then the sound.
    window = np.zeros((1, 625 * 512), np.float32)
    window[0, 62 * 512 :][: len(samples)] = samples[: (625 - 62) * 512]
    expected = task.predict(restored, window)
    count = min(len(rolls.frames), 500)
    np.testing.assert_allclose(rolls.frames[:count], expected.frames[0, 62 : 62 + count], atol=1e-3)


def test_half_precision_export_takes_half_the_space(run, tmp_path):
    workdir, state = run
    export.export(workdir, tmp_path / "whole.safetensors")
    export.export(workdir, tmp_path / "half.safetensors", half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.average))
    # But for the padding of the header.
    assert abs(sizes[0] - sizes[1] - 2 * parameters) < 64
    variables, _ = load_weights(tmp_path / "half.safetensors")
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(state.average), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    load_transcriber(tmp_path / "half.safetensors")


def test_several_runs_are_averaged(run, corpus, tmp_path):
    workdir, state = run
    config = _config(corpus, 2)
    config.init_from = str(workdir)
    other = train.train(config, tmp_path / "other")
    export.export([workdir, tmp_path / "other"], tmp_path / "both.safetensors")
    trees = load_weights(tmp_path / "both.safetensors")[0], state.average, other.average
    for mean, a, b in zip(*map(jax.tree.leaves, trees), strict=True):
        np.testing.assert_allclose(mean, (np.asarray(a) + np.asarray(b)) / 2, rtol=1e-6, atol=1e-7)
    config.model.dense_units = 24
    train.train(config, tmp_path / "wider")
    with pytest.raises(ValueError, match="different models"):
        export.export([workdir, tmp_path / "wider"], tmp_path / "none.safetensors")


def test_thresholds_are_those_that_score_best(tmp_path, monkeypatch):
    """A model that says 0.35 for a note that is there and 0.28 for one that is not."""
    notes = data.Notes([0.5, 1.0], [0.9, 1.4], [60, 64], [80, 80])
    rolls = {name: np.zeros((60, 88), np.float32) for name in ("onsets", "frames")}
    for onset, offset, pitch, value in [
        (0.5, 0.9, 60, 0.35),
        (1.0, 1.4, 64, 0.35),
        (0.5, 0.9, 70, 0.28),
    ]:
        first, last = int(onset / 0.032), int(np.ceil(offset / 0.032))
        rolls["onsets"][first : first + 2, pitch - 21] = value
        rolls["frames"][first:last, pitch - 21] = value

    class Model:
        frame_seconds = 0.032

    given = Rolls(**rolls, offsets=None, velocities=np.full((60, 88), 0.5, np.float32))
    monkeypatch.setattr(_transcription, "_rolls", lambda model, recording: given)
    data.write_midi(tmp_path / "a.mid", notes)
    recording = data.Recording(tmp_path / "a.wav", tmp_path / "a.mid", "validation", "", "", "", 2)
    best = _transcription.best_decoding(Model(), [recording], ["metric/note/f1"])
    assert best["onset_threshold"] == 0.3


def test_weights_of_another_shape_are_refused(run, tmp_path):
    from deepaudio.models import save_weights

    task, variables = restore.restore(run[0])
    config = task.config.to_dict()
    config["model"]["dense_units"] = 24
    save_weights(tmp_path / "wrong.safetensors", variables, config)
    with pytest.raises(WeightsError, match="the model wants"):
        load_transcriber(tmp_path / "wrong.safetensors")


def test_evaluate_averages_pieces_by_instrument(run, corpus):
    task, variables = restore.restore(run[0])
    recordings = data.read_maestro(corpus, "test")
    transcriber = _transcription.make_transcriber(task.config, lambda x: task.predict(variables, x))
    scores = evaluate.score_recordings(transcriber, recordings)
    rows = evaluate.by_instrument(recordings, scores)
    assert (
        rows["all"]["recordings"]
        == len(recordings)
        == sum(row["recordings"] for name, row in rows.items() if name != "all")
    )
    key = "metric/frame/f1"
    np.testing.assert_allclose(rows["all"][key], np.mean([score[key] for score in scores]))


def test_frames_only_gives_notes(corpus):
    """The ablation has neither onsets nor velocities, and is scored all the same."""
    config = onsets_and_frames.get_config("frames_only")
    config.model.channels, config.model.dense_units, config.model.lstm_units = (2, 2, 2), 8, 4
    config.model.key_lstm_units = 2
    config.data_dir, config.evaluate_recordings = str(corpus), 1
    task = _transcription.make_task(config)
    evaluate_variables = _transcription.make_evaluator(config, task)
    results = dict(evaluate_variables(task.init(jax.random.key(0))))
    assert 0 <= results["validation/metric/note/f1"] <= 1


def _batch_shapes(config):
    batch, frames = config.batch_size, config.num_frames
    labels = ("onsets", "frames", "offsets", "velocities", "frame_weights")
    shapes = {name: jax.ShapeDtypeStruct((batch, frames, 88), "float32") for name in labels}
    shapes["samples"] = jax.ShapeDtypeStruct((batch, frames * 512), "float32")
    shapes["paddings"] = jax.ShapeDtypeStruct((batch, frames), "float32")
    return shapes


@pytest.mark.parametrize(("variant", "gibibytes"), [("paper", 6), ("maestro", 12)])
def test_published_sizes_compile_and_fit(variant, gibibytes):
    """Loss and gradients of a whole batch are compiled, not run; 8 x 20 s fit in a usual GPU."""
    config = onsets_and_frames.get_config(variant)
    task = _transcription.make_task(config)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    gradient = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    compiled = gradient.lower(
        variables["params"],
        {"batch_stats": variables["batch_stats"]},
        _batch_shapes(config),
        jax.random.key(0),
    ).compile()
    used = compiled.memory_analysis().temp_size_in_bytes
    assert 1 < used / 2**30 < gibibytes


@pytest.mark.parametrize("variant", onsets_and_frames.VARIANTS)
def test_every_variant_builds_and_takes_a_batch(variant):
    """Shapes only: nothing of this size runs here."""
    config = onsets_and_frames.get_config(variant)
    task = _transcription.make_task(config)
    optimizer = _optimizer.make_optimizer(config, lambda: 0.05)
    state = jax.eval_shape(lambda: training.init_state(task, optimizer, 0))
    shape = _batch_shapes(config)
    loss, (metrics, model_state) = jax.eval_shape(
        task.loss, state.params, state.model_state, shape, jax.random.key(0)
    )
    assert loss.shape == () and loss.dtype == "float32"
    assert jax.tree.structure(model_state) == jax.tree.structure(state.model_state)
    heads = {"loss/total", "loss/frame"}
    if variant != "frames_only":
        heads |= {"loss/onset", "loss/velocity"}
    if variant not in ("paper", "frames_only"):
        heads |= {"loss/offset"}
    assert set(metrics) == heads


def test_a_run_can_begin_from_another_runs_weights(run, corpus, tmp_path):
    workdir, state = run
    config = _config(corpus, 2)
    config.init_from = str(workdir)
    config.optimizer.schedule.peak = 0.0
    started = train.train(config, tmp_path)
    for a, b in zip(
        jax.tree.leaves(started.params), jax.tree.leaves(state.average["params"]), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_unknown_variant_is_said():
    with pytest.raises(ValueError, match="'huge' must be one of paper, maestro"):
        onsets_and_frames.get_config("huge")


def test_programs_that_go_on_hear_of_a_run_that_did_not_end(monkeypatch, tmp_path):
    """A comparison must not score half a run that a signal has stopped."""
    config = _config("", 5)
    stopped = types.SimpleNamespace(step=3)
    monkeypatch.setattr(train, "train", lambda config, workdir: stopped)
    with pytest.raises(InterruptedError, match="stopped at step 3 of 5"):
        train.train_whole(config, tmp_path)
    stopped.step = 5
    assert train.train_whole(config, tmp_path) is stopped
