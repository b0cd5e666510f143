"""A teacher is trained, a student learns from it, and the command uses what was exported."""

import json

import jax
import numpy as np
import pytest
import soundfile

from deepaudio.models import load_weights
from deepaudio.tasks.vocoder import load_vocoder
from deepaudio.tasks.vocoding import StudentTask, TeacherTask
from experiments import _vocoding, compare_vocoders, export, restore, train
from experiments.configs import parallel_wavenet, wavenet

STEPS = 3


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A manifest of a few buzzing sounds by one speaker, for all splits."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(6):
        time = np.arange(16000) / 16000
        samples = 0.2 * np.sign(np.sin(2 * np.pi * (100 + 20 * number) * time))
        samples += rng.normal(0, 0.01, len(time))
        soundfile.write(folder / f"{number}.flac", samples, 16000)
        rows.append({"audio_filepath": f"{number}.flac", "duration": 1.0, "text": "a"})
    for split in ("prompts_train", "prompts_test", "prompts_validation"):
        lines = [json.dumps(row) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def shrunk(config, corpus):
    config.data_dir = str(corpus)
    config.num_steps = config.evaluate_every = STEPS
    config.num_threads = 0
    config.batch_size = 8  # one for each of the tests' devices
    config.optimizer.schedule.warmup_steps = 1
    return config


@pytest.fixture(scope="module")
def teacher(corpus, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("teacher")
    with jax.numpy_dtype_promotion("standard"):
        train.train(shrunk(wavenet.get_config("smoke"), corpus), workdir)
    return workdir


def metrics(workdir):
    rows = [line.split(",") for line in (workdir / "metrics.csv").read_text().splitlines()[1:]]
    return {name: float(value) for step, name, value in rows if int(step) == STEPS}


def test_a_teacher_s_bits_are_counted(teacher):
    found = metrics(teacher)
    assert 5 < found["validation/metric/bits"] < 20
    bits = found["validation/loss/total"] / np.log(2)
    np.testing.assert_allclose(bits, found["validation/metric/bits"], rtol=1e-4)


def test_a_student_learns_from_a_run_or_from_a_file(corpus, teacher, tmp_path):
    weights = tmp_path / "teacher.safetensors"
    export.export(teacher, weights)
    config = shrunk(parallel_wavenet.get_config("smoke"), corpus)
    config.teacher = str(weights)
    config.distillation.style = 0.0  # its listener is tested with the task
    train.train(config, tmp_path / "student")
    found = metrics(tmp_path / "student")
    assert {"validation/loss/kl", "validation/loss/power", "validation/loss/contrastive"} <= set(
        found
    )
    task, variables = restore.restore(tmp_path / "student")
    assert isinstance(task, StudentTask) and task.teacher is not None
    export.export(tmp_path / "student", tmp_path / "student.safetensors", half=True)
    voice = load_vocoder(tmp_path / "student.safetensors")
    mel = voice.mel(soundfile.read(corpus / "0.flac", dtype="float32")[0])
    sound = voice.vocode(mel)
    assert sound.shape == (len(mel) * 256,) and np.isfinite(sound).all() and sound.std() > 0.01
    config.teacher = str(teacher)
    from_run = _vocoding.make_task(config)
    assert isinstance(from_run.teacher, TeacherTask)
    again = load_weights(weights)[0]["params"]["head"]["kernel"]
    np.testing.assert_allclose(from_run._teacher_variables["params"]["head"]["kernel"], again)


def test_students_are_compared_loss_by_loss(corpus, teacher, tmp_path, monkeypatch):
    """Two arms of the four; the same scores for all but for what they have learned."""
    arms = {"KL": "kl_alone", "KL, power": "kl_power"}
    monkeypatch.setattr(compare_vocoders, "ARMS", arms)
    changes = {
        "model.flows": (2,),
        "model.residual": 4,
        "model.gate": 4,
        "batch_size": 8,
        "num_frames": 9,
        "num_threads": 0,
        "optimizer.schedule.warmup_steps": 1,
        "distillation.draws": 1,
    }
    rows = compare_vocoders.compare(
        str(corpus), str(teacher), tmp_path, 2, split="prompts_test", limit=2, changes=changes,
        score=lambda reference, estimate, *rest: {"metric/loudness": float(estimate.std())},
    )  # fmt: skip
    assert [row["loss"] for row in rows] == [*arms, "the teacher"]
    assert all(row["metric/loudness"] > 0 for row in rows)
    assert rows[0]["metric/loudness"] != rows[1]["metric/loudness"]
    # And on from one of them, of its size though the changes do not say so.
    first = rows[0]
    changes = {name: value for name, value in changes.items() if "model" not in name}
    rows = compare_vocoders.compare(
        str(corpus), str(teacher), tmp_path / "on", 2, split="prompts_test", limit=2,
        init_from=str(tmp_path / "kl_alone"), changes=changes,
        score=lambda reference, estimate, *rest: {"metric/loudness": float(estimate.std())},
    )  # fmt: skip
    assert [row["steps"] for row in rows] == [2, 2, None, None]
    assert rows[2]["metric/loudness"] == first["metric/loudness"] != rows[0]["metric/loudness"]


def test_too_few_speakers_are_refused(corpus):
    config = shrunk(wavenet.get_config("smoke"), corpus)
    config.model.speakers = 1
    _vocoding.prepare(config)
    config.dataset = "radio"
    with pytest.raises(ValueError, match="'radio'"):
        _vocoding.prepare(config)


@pytest.mark.parametrize("variant", wavenet.VARIANTS)
def test_teachers_have_the_shapes_that_their_configurations_say(variant, corpus):
    config = wavenet.get_config(variant)
    task = _vocoding.make_task(config)
    params = jax.eval_shape(task.init, jax.random.key(0))["params"]
    assert f"layers_{config.model.layers - 1}" in params
    assert config.model.upsample[0] * config.model.upsample[1] == task.convention.hop_length


def test_the_paper_s_networks_have_its_sizes():
    """30 layers of 512, and flows of 60 layers of 64; counted from the formulas."""
    task = _vocoding.make_task(wavenet.get_config("paper"))
    layer = 3 * 512 * 512 + 512 + 80 * 512 + 256 * (512 + 256) + 768
    params = jax.eval_shape(task.init, jax.random.key(0))["params"]
    sizes = [leaf.size for leaf in jax.tree.leaves(params["layers_7"])]
    assert sum(sizes) == layer
    student = _vocoding.make_task(parallel_wavenet.get_config("paper"))
    params = jax.eval_shape(student.init, jax.random.key(0))["params"]
    flows = [len([name for name in params[f"flows_{n}"] if "layer" in name]) for n in range(4)]
    assert flows == [10, 10, 10, 30]


@pytest.mark.parametrize("variant", parallel_wavenet.VARIANTS)
def test_every_student_can_be_made(variant):
    config = parallel_wavenet.get_config(variant)
    assert isinstance(_vocoding.make_task(config), StudentTask)


def test_unknown_variants_are_named():
    for module in (wavenet, parallel_wavenet):
        with pytest.raises(ValueError, match="variant='huge'"):
            module.get_config("huge")
