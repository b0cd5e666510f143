"""Teacher and student tasks on small networks: what they learn from, and what each part is for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepaudio import audio, losses, models
from deepaudio.tasks import recognition, vocoder, vocoding

TEACHER = models.WaveNetConfig(
    layers=4,
    cycle=4,
    filter_width=2,
    residual=8,
    gate=8,
    skip=8,
    mixtures=2,
    conditioning=6,
    upsample=(16, 16),
    context=1,
)
STUDENT = models.ParallelWaveNetConfig(
    flows=(3, 3),
    cycle=3,
    filter_width=2,
    residual=8,
    gate=8,
    conditioning=6,
    upsample=(16, 16),
    context=1,
)
ALONE = vocoding.DistillationConfig(draws=2, power=0.0, style=0.0, contrastive=0.0)


def sound(rng, task, frames=10, batch=2):
    """A batch of tones in noise, different ones."""
    side = task.margin * task.convention.hop_length
    time = np.arange(frames * task.convention.hop_length + 2 * side) / 16000
    tones = [np.sin(2 * np.pi * (200 + 150 * number) * time) for number in range(batch)]
    samples = 0.3 * np.stack(tones) + rng.normal(0, 0.01, (batch, len(time)))
    return {
        "samples": jnp.asarray(samples, jnp.float32),
        "speakers": jnp.zeros((batch,), jnp.int32),
    }


def teacher_task(**changes):
    model = dataclasses.replace(TEACHER, **changes)
    return vocoding.TeacherTask(vocoding.VocodingConfig(model=model))


def student_task(distillation=ALONE, listener=None, variables=None, **changes):
    """A student of a teacher with these variables, or random ones."""
    teacher = teacher_task(
        output="gaussian" if changes.get("noise") == "gaussian" else "mixture_of_logistics"
    )
    model = dataclasses.replace(STUDENT, **changes)
    config = vocoding.VocodingConfig(model=model, distillation=distillation)
    variables = teacher.init(jax.random.key(5)) if variables is None else variables
    return vocoding.StudentTask(config, (teacher, variables), listener)


def train(task, batch, steps, rate=3e-3):
    """Adam on one batch; the losses."""
    params = task.init(jax.random.key(0))["params"]
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.adam(rate)
        state = optimizer.init(params)

        @jax.jit
        def step(params, state, key):
            grads, (metrics, _) = jax.grad(task.loss, has_aux=True)(params, {}, batch, key)
            updates, state = optimizer.update(grads, state)
            return optax.apply_updates(params, updates), state, metrics

        history = []
        for number in range(steps):
            params, state, metrics = step(params, state, jax.random.key(number))
            history.append({name: float(value) for name, value in metrics.items()})
    return params, history


@pytest.mark.parametrize("output", ["mixture_of_logistics", "mu_law", "gaussian"])
def test_a_teacher_learns_to_expect_a_sound(rng, output):
    task = teacher_task(output=output)
    _, history = train(task, sound(rng, task), 40)
    assert history[-1]["metric/bits"] < history[0]["metric/bits"] - 1.0


def test_the_mel_of_a_batch_is_that_of_the_whole_sound(rng):
    """What a crop's frames show is what the same frames show within a longer sound."""
    task = teacher_task()
    batch = sound(rng, task, frames=20)
    hop = task.convention.hop_length
    whole = task.normalized(audio.convention_mel(batch["samples"], task.convention))
    samples, mel, _ = task.split(batch)
    assert samples.shape[1] == 20 * hop and mel.shape[1] == 20 + 2 * task.config.model.margin
    np.testing.assert_array_equal(samples, batch["samples"][:, task.margin * hop :][:, : 20 * hop])
    np.testing.assert_allclose(mel, whole[:, task.reach : -task.reach], atol=1e-5)


def test_conditioning_helps_a_teacher(rng):
    """With another sound's mel frames, the same samples are less likely."""
    task = teacher_task()
    batch = sound(rng, task)
    params, _ = train(task, batch, 120)
    samples, mel, _ = task.split(batch)

    def likelihood(mel):
        parameters = task.network.apply({"params": params}, samples, mel)
        return task.negative_log_likelihood(parameters, samples).mean()

    assert likelihood(mel[::-1]) > likelihood(mel) + 0.05


@pytest.mark.parametrize("noise", ["logistic", "gaussian"])
def test_a_student_comes_nearer_to_its_teacher(rng, noise):
    task = student_task(noise=noise)
    _, history = train(task, sound(rng, task), 40)
    assert np.mean([h["loss/kl"] for h in history[-5:]]) < history[0]["loss/kl"] - 0.1


def test_the_power_loss_mends_loudness(rng):
    with_power = dataclasses.replace(ALONE, power=100.0)
    batch = sound(rng, student_task())
    targets, *_ = student_task().split(batch)
    away = {}
    for name, settings in (("kl", ALONE), ("power", with_power)):
        task = student_task(settings)
        params, _ = train(task, batch, 60)
        _, mel, _ = task.split(batch)
        noise = models.draw_noise(jax.random.key(9), targets.shape, "logistic")
        samples, *_ = task.network.apply({"params": params}, noise, mel)
        away[name] = abs(float(jnp.log(samples.std() / targets.std())))
    assert away["power"] < 0.7 * away["kl"]


def test_the_spectral_loss_brings_frames_nearer(rng):
    batch = sound(rng, student_task())
    targets, *_ = student_task().split(batch)
    away = {}
    for weight in (0.0, 4.0):
        task = student_task(dataclasses.replace(ALONE, spectral=weight))
        params, _ = train(task, batch, 60)
        _, mel, _ = task.split(batch)
        noise = models.draw_noise(jax.random.key(9), targets.shape, "logistic")
        samples, *_ = task.network.apply({"params": params}, noise, mel)
        away[weight] = float(losses.spectral_loss(samples, targets))
    assert away[4.0] < 0.9 * away[0.0], away


SOURCE = {"source": 16, "source_layers": 1, "flows": ()}


def test_a_source_learns_the_pitch_from_its_loss(rng):
    """Tones of 200 and 350 Hz, an octave and a fifth apart from where it begins, or so."""
    away = {}
    for weight in (0.0, 1.0):
        settings = dataclasses.replace(ALONE, kl=0.0, spectral=0.1, pitch=weight)
        task = student_task(settings, **SOURCE)
        batch = sound(rng, task)
        params, history = train(task, batch, 60)
        assert ("loss/pitch" in history[0]) == bool(weight)
        _, mel, _ = task.split(batch)
        frequency = task.network.apply({"params": params}, mel, method="frequency")
        away[weight] = float(
            jnp.abs(jnp.log2(frequency[:, 1:-1] * 80 / jnp.array([[1], [1.75]]))).max()
        )
    assert away[1.0] < 0.05 < 4 * away[1.0] < away[0.0], away


@pytest.mark.parametrize("layers", [0, 4])
def test_teacher_and_student_hear_the_same_frames(rng, layers):
    """Whichever needs the wider margin: both judge the very samples of the recording."""
    task = student_task(source=4, source_layers=layers, context=0)
    batch = sound(rng, task)
    targets, mel, _ = task.split(batch)
    theirs, heard, _ = task.teacher.split(batch, task.margin)
    np.testing.assert_array_equal(targets, theirs)
    sides = task.config.model.margin, task.teacher.config.model.margin
    assert sides[0] != sides[1]
    np.testing.assert_allclose(
        mel[:, sides[0] : -sides[0]], heard[:, sides[1] : -sides[1]], atol=1e-5
    )


def test_a_source_learns_from_spectra_alone(rng):
    """With no teacher: what its divergence would need is not looked for."""
    settings = dataclasses.replace(ALONE, kl=0.0, spectral=1.0)
    model = dataclasses.replace(STUDENT, **SOURCE)
    task = vocoding.StudentTask(vocoding.VocodingConfig(model=model, distillation=settings))
    _, history = train(task, sound(rng, task), 60, rate=1e-2)
    assert "loss/kl" not in history[0]
    assert history[-1]["loss/spectral"] < 0.6 * history[0]["loss/spectral"]


def listener():
    model = recognition.make_model_config(
        "deep_speech_2",
        num_outputs=29,
        num_bands=20,
        convolutions=((2, 5, 5, 2, 2),),
        units=4,
        layers=1,
        dense_units=0,
        lookahead=0,
    )
    front_end = recognition.make_front_end("log_mel", hop_length=160, n_fft=480, n_mels=20)
    task = recognition.RecognitionTask(
        recognition.RecognitionConfig(front_end=front_end, model=model)
    )
    return task, task.init(jax.random.key(1))


@pytest.mark.parametrize(
    ("part", "weight", "better"),
    [
        ("style", 200.0, lambda on, off: on["loss/style"] < 0.9 * off["loss/style"]),
        (
            "contrastive",
            0.5,
            lambda on, off: (
                on["loss/contrastive"] - on["loss/kl"]
                > off["loss/contrastive"] - off["loss/kl"] + 1e-3
            ),
        ),
    ],
)
def test_a_part_gets_what_it_is_for(rng, part, weight, better):
    """Judged alike by all parts, a student that was trained with one does better in it."""
    batch = sound(rng, teacher_task())
    # A teacher that has learned what mel frames are about.
    variables = {"params": train(teacher_task(), batch, 120)[0]}
    judge = student_task(vocoding.DistillationConfig(draws=8), listener(), variables)
    found = {}
    for on in (True, False):
        settings = dataclasses.replace(ALONE, **{part: weight if on else 0.0})
        params, _ = train(student_task(settings, listener(), variables), batch, 80)
        _, (parts, _) = judge.loss(params, {}, batch, jax.random.key(7))
        found[on] = {name: float(value) for name, value in parts.items()}
    assert better(found[True], found[False]), found


def test_a_predicting_teacher_s_density_is_one_of_samples(rng):
    """The likelihoods of all values of the last sample, given those before, add up to one."""
    task = teacher_task(prediction=8)
    batch = sound(rng, task, frames=1, batch=1)
    variables = task.init(jax.random.key(0))
    samples, mel, _ = task.split(batch)
    shift, log_scale = task.prediction(samples, mel)
    unit = np.exp(float(log_scale[0, -1]))
    # Where the network's values are from -1 to 1; what is beyond is in the outermost.
    errors = np.concatenate([[-1.0], np.linspace(-0.999, 0.999, 1000), [1.0]])
    tried = jnp.repeat(samples, len(errors), 0)
    tried = tried.at[:, -1].set(jnp.asarray(shift[0, -1] + unit * errors, jnp.float32))
    mel = jnp.repeat(mel, len(errors), 0)
    again, log_scale = task.prediction(tried, mel)
    np.testing.assert_allclose(again[:, -1], shift[0, -1], rtol=1e-5)
    inner = (tried - again) * jnp.exp(-log_scale)
    parameters = task.network.apply(variables, inner, mel)
    nats = np.asarray(task.negative_log_likelihood(parameters, inner) + log_scale, np.float64)
    likelihood = np.exp(-nats[:, -1])  # of a step of 16 bits
    inside = likelihood[1:-1].sum() * 2.0**15 * (errors[2] - errors[1]) * unit
    beyond = (likelihood[0] + likelihood[-1]) * unit
    assert inside > 0.1
    np.testing.assert_allclose(inside + beyond, 1.0, atol=0.01)
    # And that is what the loss is made of.
    loss, _ = task.loss(variables["params"], {}, batch, jax.random.key(0))
    inner = (samples - shift) * jnp.exp(-log_scale[:1])
    parameters = task.network.apply(variables, inner, mel[:1])
    nats = task.negative_log_likelihood(parameters, inner) + log_scale[:1]
    np.testing.assert_allclose(loss, nats.mean(), rtol=1e-5)


def test_prediction_lets_an_untrained_teacher_know_the_loudness(rng):
    """Sound of a tenth of the loudness takes a tenth's bits less, which a plain teacher cannot."""
    for prediction, expected in ((0, 0.0), (8, np.log2(10.0))):
        task = teacher_task(prediction=prediction)
        batch = sound(rng, task)
        params = task.init(jax.random.key(0))["params"]
        quiet = {**batch, "samples": batch["samples"] / 10}
        bits = [
            float(jax.jit(task.loss)(params, {}, each, jax.random.key(0))[1][0]["metric/bits"])
            for each in (batch, quiet)
        ]
        np.testing.assert_allclose(bits[0] - bits[1], expected, atol=0.35)


def test_a_student_diverges_from_a_predicting_teacher_as_from_its_density(rng):
    """The estimate beside a sum over values, at a teacher that says the same of every error."""
    teacher = teacher_task(prediction=8, mixtures=1)
    variables = jax.tree.map(jnp.zeros_like, teacher.init(jax.random.key(0)))
    variables["params"]["parameters"]["bias"] = jnp.array([0.0, 0.02, -2.5])
    config = vocoding.VocodingConfig(
        model=STUDENT, distillation=dataclasses.replace(ALONE, draws=200)
    )
    task = vocoding.StudentTask(config, (teacher, variables))
    batch = sound(rng, task, frames=1, batch=1)
    targets, mel, _ = teacher.split(batch, task.margin)
    mean, log_scale = 0.9 * targets, jnp.full_like(targets, -4.0)
    found = task._divergence(targets, mean, log_scale, batch, jax.random.key(1))
    shift, log_unit = (np.asarray(x, np.float64) for x in teacher.prediction(targets, mel))

    def log_density(x, mean, log_scale):
        z = (x - mean) / np.exp(log_scale)
        return -np.abs(z) - log_scale - 2 * np.log1p(np.exp(-np.abs(z)))

    offsets = np.linspace(-30, 30, 2001)[:, None, None] * np.exp(-4.0)
    x = np.asarray(mean, np.float64) + offsets
    by_student = log_density(x, np.asarray(mean, np.float64), -4.0)
    by_teacher = log_density(x, shift + np.exp(log_unit) * 0.02, log_unit - 2.5)
    width = offsets[1, 0, 0] - offsets[0, 0, 0]
    expected = np.mean((np.exp(by_student) * (by_student - by_teacher)).sum(0) * width)
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_each_part_of_a_student_s_loss_counts(rng):
    """And those left out are not computed, nor in the sum."""
    every = vocoding.DistillationConfig(
        kl=0.5, draws=2, power=2.0, spectral=1.5, style=3.0, contrastive=0.25, pitch=0.75
    )
    task = student_task(every, listener(), source=4, source_layers=3)
    batch = sound(rng, task)
    params = task.init(jax.random.key(0))["params"]
    of_loss = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    (total, (parts, _)), gradient = of_loss(params, {}, batch, jax.random.key(2))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    expected = (
        0.5 * parts["loss/kl"]
        + 2.0 * parts["loss/power"]
        + 1.5 * parts["loss/spectral"]
        + 3.0 * parts["loss/style"]
        - 0.25 * parts["loss/contrastive"]
        + 0.75 * parts["loss/pitch"]
    )
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    without = {name: leaf for name, leaf in params.items() if name != "source"}
    alone, (parts, _) = jax.jit(student_task(ALONE).loss)(without, {}, batch, jax.random.key(2))
    assert set(parts) == {"loss/total", "loss/kl"} and alone == parts["loss/kl"]


def test_settings_that_do_not_fit_are_refused():
    config = vocoding.VocodingConfig(model=dataclasses.replace(TEACHER, mels=40))
    with pytest.raises(ValueError, match="model.mels=40"):
        vocoding.TeacherTask(config)
    config = vocoding.VocodingConfig(model=dataclasses.replace(TEACHER, upsample=(10, 30)))
    with pytest.raises(ValueError, match="model.hop_length=300"):
        vocoding.TeacherTask(config)
    with pytest.raises(ValueError, match="must be a parallel_wavenet"):
        vocoding.StudentTask(vocoding.VocodingConfig(model=TEACHER))
    teacher = teacher_task(output="mu_law")
    with pytest.raises(ValueError, match="not mu_law"):
        vocoding.StudentTask(
            vocoding.VocodingConfig(model=STUDENT), (teacher, teacher.init(jax.random.key(0)))
        )


def test_configurations_survive_json():
    for model in (TEACHER, STUDENT, dataclasses.replace(STUDENT, **SOURCE)):
        config = vocoding.VocodingConfig(model=model, distillation=ALONE)
        assert vocoding.VocodingConfig.from_dict(config.to_dict()) == config


class TestVocoder:
    @pytest.fixture
    def short_pieces(self, monkeypatch):
        monkeypatch.setattr(vocoder, "_PIECE_SECONDS", 0.1)

    def made(self, rng, **changes):
        model = dataclasses.replace(STUDENT, **changes)
        task = vocoding.StudentTask(vocoding.VocodingConfig(model=model))
        leaves, tree = jax.tree.flatten(task.init(jax.random.key(0)))
        leaves = [jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32) for leaf in leaves]
        return vocoder.Vocoder(task, jax.tree.unflatten(tree, leaves))

    def frames(self, rng, count):
        return rng.normal(-5, 1.5, (count, 80)).astype(np.float32)

    @pytest.mark.usefixtures("short_pieces")
    @pytest.mark.parametrize("count", [1, 5, 6, 7, 40])
    @pytest.mark.parametrize("changes", [{}, SOURCE])
    def test_sound_does_not_depend_on_how_frames_come(self, rng, count, changes):
        voice, mel = self.made(rng, **changes), self.frames(rng, count)
        whole = voice.vocode(mel, seed=3)
        assert whole.shape == (count * 256,)
        blocks = [mel[start : start + 3] for start in range(0, count, 3)]
        pieces = list(voice.stream(blocks, seed=3))
        np.testing.assert_array_equal(np.concatenate(pieces), whole)

    @pytest.mark.parametrize("changes", [{}, {**SOURCE, "flows": (3,)}])
    def test_pieces_have_no_seams(self, rng, monkeypatch, changes):
        """In short pieces the sound is that of one long piece."""
        mel = self.frames(rng, 60)
        long = self.made(rng, **changes)
        whole = long.vocode(mel)
        assert 0.05 < np.abs(whole).mean() < 0.9  # Not all of it is clipped, where all is alike.
        monkeypatch.setattr(vocoder, "_PIECE_SECONDS", 0.1)
        short = vocoder.Vocoder(long.task, long.variables)
        assert len(list(short.stream([mel]))) > 5
        # A pulse is a hundred times as steep as its phase, which is rounded.
        tolerance = 0.03 if changes else 1e-4
        np.testing.assert_allclose(short.vocode(mel), whole, atol=tolerance)

    @pytest.mark.usefixtures("short_pieces")
    @pytest.mark.parametrize("prediction", [0, 8])
    def test_a_teacher_s_pieces_have_none_either(self, rng, prediction):
        task = teacher_task(prediction=prediction)
        voice = vocoder.Vocoder(task, task.init(jax.random.key(0)))
        mel = self.frames(rng, 9)
        pieces = list(voice.stream([mel[:4], mel[4:]], seed=1))
        whole = voice.vocode(mel, seed=1)
        assert len(pieces) == 2 and whole.shape == (9 * 256,)
        np.testing.assert_array_equal(np.concatenate(pieces), whole)

    def test_seeds_temperatures_and_speakers_change_the_sound(self, rng):
        voice, mel = self.made(rng, speakers=2), self.frames(rng, 4)
        first = voice.vocode(mel)
        np.testing.assert_array_equal(first, voice.vocode(mel, seed=0))
        assert not np.array_equal(first, voice.vocode(mel, seed=1))
        assert not np.array_equal(first, voice.vocode(mel, speaker=1))
        still = voice.vocode(mel, temperature=0.0)
        np.testing.assert_array_equal(still, voice.vocode(mel, temperature=0.0, seed=7))

    def test_the_mel_of_a_sound_has_a_frame_for_all_of_it(self, rng):
        voice = self.made(rng)
        for length in (1, 255, 256, 4000):
            mel = voice.mel(rng.uniform(-0.1, 0.1, length).astype(np.float32))
            assert mel.shape == (-(-length // 256), 80)

    @pytest.mark.usefixtures("short_pieces")
    @pytest.mark.parametrize("length", [100, 1536, 1537, 9000])
    def test_the_mel_does_not_depend_on_how_sound_comes(self, rng, length):
        voice = self.made(rng)
        samples = rng.uniform(-0.3, 0.3, length).astype(np.float32)
        blocks = [samples[start : start + 700] for start in range(0, length, 700)]
        pieces = np.concatenate(list(voice.mel_blocks(blocks)))
        np.testing.assert_array_equal(pieces, voice.mel(samples))
        # With silence around, and without what reflects at the ends: the convention's own.
        side = 4 * 256
        padded = np.pad(samples, (side, side + -length % 256))
        whole = audio.convention_mel(padded, voice.convention)[4:-4]
        np.testing.assert_allclose(pieces, whole, atol=1e-4)

    @pytest.mark.parametrize(
        ("settings", "match"),
        [({"temperature": -1.0}, "temperature=-1.0"), ({"speaker": 1}, "speaker=1")],
    )
    def test_bad_settings(self, rng, settings, match):
        with pytest.raises(ValueError, match=match):
            self.made(rng).vocode(self.frames(rng, 4), **settings)

    def test_weights_of_something_else_are_refused(self, tmp_path, rng):
        voice = self.made(rng)
        path = tmp_path / "voice.safetensors"
        models.save_weights(path, jax.device_get(voice.variables), voice.task.config.to_dict())
        again = vocoder.load_vocoder(path)
        mel = self.frames(rng, 3)
        np.testing.assert_array_equal(again.vocode(mel), voice.vocode(mel))
        with pytest.raises(models.WeightsError, match="holds no vocoder"):
            vocoder.load_vocoder("onsets_and_frames_small")
