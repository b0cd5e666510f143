"""Vocoding: a WaveNet learns sound, and a student learns from it; mel spectrograms to samples."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from deepaudio import audio, losses
from deepaudio.models import (
    ParallelWaveNet,
    ParallelWaveNetConfig,
    WaveNet,
    WaveNetConfig,
    draw_noise,
    mu_law_encode,
)
from deepaudio.optim import Policy
from deepaudio.tasks.recognition import RecognitionTask

_MODELS = {
    "wavenet": (WaveNetConfig, WaveNet),
    "parallel_wavenet": (ParallelWaveNetConfig, ParallelWaveNet),
}
# Natural logarithms of magnitudes that the networks see as -1 and 0: silence is about -11.5 in the
# usual conventions, speech -6 to 1.
_MEL_LOW, _MEL_MIDDLE = -10.0, -5.0
# Standard deviations of linear prediction's errors that the network sees as 1: voices' pulses
# reach 8.
_LOUDEST_ERROR = 10.0
# What is not periodic of a frame whose pitch can be relied on, less than this share.
_VOICED = 0.25
ModelConfig = WaveNetConfig | ParallelWaveNetConfig


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """What a student's loss is made of; a weight of 0 leaves a part out, at no cost.

    Attributes:
        kl: Weight of the divergence; the paper's is 1.
        draws: Samples of the student's distribution a step, for the cross-entropy.
        power: Weight of the power loss.
        spectral: Weight of the spectral loss, which is not the paper's.
        style: Weight of the perceptual loss.
        contrastive: gamma, the weight of the divergence with another sound's conditioning.
        regularization: Of a Gaussian student's divergence (ClariNet).
        pitch: Weight of how far a source's pitch is from the recording's.
    """

    kl: float = 1.0
    draws: int = 10
    power: float = 100.0
    spectral: float = 0.0
    style: float = 1.0
    contrastive: float = 0.3
    regularization: float = 4.0
    pitch: float = 1.0


@dataclasses.dataclass(frozen=True)
class VocodingConfig:
    """A vocoder: its network and the mel spectrogram it reads.

    Attributes:
        convention: Name of the mel convention.
        model: The network; its type says which.
        distillation: How a student is trained.
        precision: Dtypes of the network, as `optim.Policy.parse` takes them.
    """

    convention: str = "hifigan_16k"
    model: ModelConfig = WaveNetConfig()
    distillation: DistillationConfig = DistillationConfig()
    precision: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; `from_dict` is the inverse."""
        return {
            "convention": self.convention,
            "model": {"kind": _kind(self.model), **dataclasses.asdict(self.model)},
            "distillation": dataclasses.asdict(self.distillation),
            "precision": self.precision,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "VocodingConfig":
        """Builds the configuration from what `to_dict` gave.

        Raises:
            KeyError: A field is missing, or a kind is unknown.
            TypeError: A field is unknown.
        """
        return cls(
            convention=stored["convention"],
            model=make_model_config(**stored["model"]),
            distillation=DistillationConfig(**stored["distillation"]),
            precision=stored["precision"],
        )


def make_model_config(kind: str, **settings: Any) -> ModelConfig:
    """The network's configuration: of "wavenet" or "parallel_wavenet".

    Raises:
        KeyError: The kind is unknown.
        TypeError: A setting is unknown.
        ValueError: A size is out of range.
    """
    return _MODELS[kind][0](**settings)


def _kind(model):
    return next(name for name, (kind, _) in _MODELS.items() if type(model) is kind)


class Vocoding:
    """What teacher and student share: the mel spectrogram, and the network.

    Attributes:
        config: What was given.
        convention: The mel convention.
        network: The linen module.
    """

    def __init__(self, config: VocodingConfig):
        """Builds the network.

        Args:
            config: The model and its mel convention.

        Raises:
            ValueError: The model reads other frames than the convention has, or the precision is
                unknown.
        """
        self.config = config
        self.convention = audio.mel_convention(config.convention)
        model = config.model
        for name, ours, theirs in (
            ("mels", model.mels, self.convention.n_mels),
            ("hop_length", model.hop_length, self.convention.hop_length),
        ):
            if ours != theirs:
                raise ValueError(
                    f"model.{name}={ours}, but the convention {config.convention} has {theirs}"
                )
        policy = Policy.parse(config.precision)
        self.network = _MODELS[_kind(model)][1](
            model, dtype=policy.compute_dtype, param_dtype=policy.param_dtype
        )

    @property
    def reach(self) -> int:
        """Frames at either end of a sound whose windows reach over the end."""
        return math.ceil(self.convention.n_fft / 2 / self.convention.hop_length)

    @property
    def margin(self) -> int:
        """Frames of sound that a training batch has at either side of what is learned."""
        return self.config.model.margin + self.reach

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws variables: `{"params": …}`, of the policy's dtype, float32."""
        model = self.config.model
        samples = jnp.zeros((1, model.hop_length))
        mel = jnp.zeros((1, 1 + 2 * model.margin, model.mels))
        speakers = jnp.zeros((1,), jnp.int32) if model.speakers else None
        return self.network.init(key, samples, mel, speakers)

    def normalized(self, mel: jax.Array) -> jax.Array:
        """A log-mel as the network sees it, whatever the convention's logarithm."""
        nepers = mel if self.convention.logarithm == "natural" else mel * math.log(10.0)
        if self.convention.power == 2:
            nepers = nepers / 2.0
        return (nepers - _MEL_MIDDLE) / (_MEL_MIDDLE - _MEL_LOW)

    def split(
        self, batch: dict[str, jax.Array], margin: int | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """A batch's samples to learn, the network's mel frames around them, and the speakers.

        Args:
            batch: `samples` (batch, n) with a margin at either side; `speakers` (batch,) int32 or
                nothing.
            margin: Frames of that margin, at least the task's; the task's if not given.

        Returns:
            (batch, frames * hop_length), (batch, model margin + frames + model margin, mels), and
            (batch,) or None.
        """
        hop, needed = self.convention.hop_length, self.config.model.margin + self.reach
        spare = ((self.margin if margin is None else margin) - needed) * hop
        samples = batch["samples"][:, spare : batch["samples"].shape[1] - spare]
        mel = audio.convention_mel(samples, self.convention)[:, self.reach : -self.reach]
        side = needed * hop
        speakers = batch["speakers"] if self.config.model.speakers else None
        return samples[:, side:-side], self.normalized(mel), speakers


class TeacherTask(Vocoding):
    """A WaveNet that learns the distribution of every sample given those before it.

    With linear prediction, of filters that follow from the mel frames alone, the network hears and
    says its errors in units of their expected size: x_t = shift_t + scale_t u_t, where shift and
    scale do not depend on the present. So loudness and spectral envelope are there before any
    training (as in ExcitNet, arXiv 1811.04769), and the network learns what is left.
    """

    def __init__(self, config: VocodingConfig):
        """Builds the network.

        Raises:
            ValueError: As `Vocoding`, or the model is no WaveNet.
        """
        if not isinstance(config.model, WaveNetConfig):
            raise ValueError("a teacher's model must be a wavenet")
        super().__init__(config)

    def loss(
        self, params: Any, model_state: Any, batch: dict[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        """Mean negative log-likelihood.

        Args:
            params: Parameters.
            model_state: The other collections: none.
            batch: As `split` takes it.
            key: Not used; nothing here is random.

        Returns:
            The loss, () float32, nats a sample, and with the model state `loss/total` and
            `metric/bits`, bits a sample (of a 16-bit or 8-bit code; of a Gaussian's density, with
            16 bits' step).
        """
        del key
        samples, mel, speakers = self.split(batch)
        shift, log_scale = self.prediction(samples, mel)
        inner = (samples - shift) * jnp.exp(-log_scale)
        parameters = self.network.apply({"params": params, **model_state}, inner, mel, speakers)
        # A step of a sample is a larger step of what is divided by a small scale.
        total = jnp.mean(self.negative_log_likelihood(parameters, inner) + log_scale)
        bits = total / math.log(2.0)
        if self.config.model.output == "gaussian":
            bits = bits + 15.0  # A step of 16 bits is 2^-15 wide.
        return total, ({"loss/total": total, "metric/bits": bits}, model_state)

    def prediction(self, samples: jax.Array, mel: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What linear prediction says of every sample, given those before it.

        Args:
            samples: (batch, frames * hop_length), silence before them.
            mel: (batch, margin + frames + margin, mels) normalized.

        Returns:
            (batch, frames * hop_length) each: the shift, and the logarithm of the scale of what
            the network says; zeros without prediction.
        """
        if not self.config.model.prediction:
            return jnp.zeros_like(samples), jnp.zeros_like(samples)
        coefficients, log_scale = self.predictor(mel)
        shift = audio.predict(samples, coefficients)
        return shift, jnp.repeat(log_scale, samples.shape[-1] // log_scale.shape[-1], axis=-1)

    def predictor(self, mel: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Coefficients and logarithms of scales, see `audio.predictor`, of normalized frames.

        Args:
            mel: (batch, margin + frames + margin, mels).

        Returns:
            (batch, parts, order) and (batch, parts).
        """
        side = self.config.model.margin - 1
        nepers = mel[:, side : mel.shape[1] - side] * (_MEL_MIDDLE - _MEL_LOW) + _MEL_MIDDLE
        found = audio.predictor(nepers, self.convention, self.config.model.prediction)
        return found[0], found[1] + math.log(_LOUDEST_ERROR)

    def negative_log_likelihood(self, parameters: jax.Array, samples: jax.Array) -> jax.Array:
        """Nats of every sample: (…, n) parameters and (…) samples to (…)."""
        output = self.config.model.output
        if output == "gaussian":
            return losses.gaussian_nll(parameters, samples)
        if output == "mixture_of_logistics":
            return losses.mixture_of_logistics_nll(parameters, samples)
        log_probs = jax.nn.log_softmax(parameters)
        codes = mu_law_encode(samples)[..., None]
        return -jnp.take_along_axis(log_probs, codes, axis=-1)[..., 0]


class StudentTask(Vocoding):
    """Flows that learn to make sound which a teacher finds likely (arXiv 1711.10433).

    Attributes:
        teacher: The teacher's task; None if the student is only to be used.
    """

    def __init__(
        self,
        config: VocodingConfig,
        teacher: tuple[TeacherTask, dict[str, Any]] | None = None,
        listener: tuple[RecognitionTask, dict[str, Any]] | None = None,
    ):
        """Builds the network.

        Args:
            config: The model, its mel convention, and what its loss is made of.
            teacher: A trained teacher and its variables, for training.
            listener: A recognizer and its variables, for the perceptual loss.

        Raises:
            ValueError: As `Vocoding`, or the model is no student, or the teacher reads other mel
                frames, or has outputs that this noise cannot imitate.
        """
        if not isinstance(config.model, ParallelWaveNetConfig):
            raise ValueError("a student's model must be a parallel_wavenet")
        super().__init__(config)
        self.teacher = None
        if teacher is not None:
            self.teacher, self._teacher_variables = teacher
            wanted = {"logistic": "mixture_of_logistics", "gaussian": "gaussian"}
            output = self.teacher.config.model.output
            if output != wanted[config.model.noise]:
                raise ValueError(
                    f"a student of {config.model.noise} noise needs a teacher whose output is "
                    f"{wanted[config.model.noise]}, not {output}"
                )
            if self.teacher.config.convention != config.convention:
                raise ValueError(
                    f"the teacher reads mel frames of {self.teacher.config.convention}, the "
                    f"student of {config.convention}"
                )
        self._listener = listener

    @property
    def margin(self) -> int:
        """Frames at either side of what is learned: as many as the student and teacher need."""
        own = super().margin
        return own if self.teacher is None else max(own, self.teacher.margin)

    def loss(
        self, params: Any, model_state: Any, batch: dict[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        """Divergence from the teacher, and what it does not take care of.

        Args:
            params: Parameters.
            model_state: The other collections: none.
            batch: As `split` takes it.
            key: Of the noise and the draws.

        Returns:
            The loss, () float32, and with the model state its parts by name.

        Raises:
            ValueError: There is no teacher, or no listener for the perceptual loss.
        """
        settings = self.config.distillation
        targets, mel, speakers = self.split(batch)
        of_noise, of_draws, of_others = jax.random.split(key, 3)
        noise = draw_noise(of_noise, targets.shape, self.config.model.noise)
        variables = {"params": params, **model_state}
        samples, mean, log_scale = self.network.apply(variables, noise, mel, speakers)
        total, parts = jnp.zeros(()), {}
        if settings.kl:
            parts["loss/kl"] = self._divergence(samples, mean, log_scale, batch, of_draws)
            total = total + settings.kl * parts["loss/kl"]
        if settings.pitch and self.config.model.source:
            parts["loss/pitch"] = self._pitch_error(variables, targets, mel)
            total = total + settings.pitch * parts["loss/pitch"]
        if settings.power:
            parts["loss/power"] = losses.power_loss(samples, targets)
            total = total + settings.power * parts["loss/power"]
        if settings.spectral:
            parts["loss/spectral"] = losses.spectral_loss(samples, targets)
            total = total + settings.spectral * parts["loss/spectral"]
        if settings.style:
            parts["loss/style"] = losses.style_loss(
                self._features(samples), self._features(targets)
            )
            total = total + settings.style * parts["loss/style"]
        if settings.contrastive:
            others = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), batch)
            apart = self._divergence(samples, mean, log_scale, others, of_others)
            parts["loss/contrastive"] = apart
            total = total - settings.contrastive * apart
        return total, ({"loss/total": total, **parts}, model_state)

    def _divergence(self, samples, mean, log_scale, batch, key):
        """KL from the student to the teacher that hears the batch's mel frames, nats a sample."""
        if self.teacher is None:
            raise ValueError("a student needs a teacher to learn from")
        settings = self.config.distillation
        _, mel, speakers = self.teacher.split(batch, self.margin)
        # The divergence is the same of what the teacher's network hears as of samples.
        shift, log_unit = self.teacher.prediction(samples, mel)
        samples, mean = ((x - shift) * jnp.exp(-log_unit) for x in (samples, mean))
        log_scale = log_scale - log_unit
        parameters = self.teacher.network.apply(self._teacher_variables, samples, mel, speakers)
        if self.config.model.noise == "gaussian":
            each = losses.gaussian_regularized_kl(
                mean, log_scale, parameters, weight=settings.regularization
            )
            return jnp.mean(each)
        cross = losses.cross_entropy_by_draws(
            mean, log_scale, parameters, key, draws=settings.draws
        )
        return jnp.mean(cross - losses.logistic_entropy(log_scale))

    def _pitch_error(self, variables, targets, mel):
        """Mean distance of the source's pitch, as a logarithm, where the recording has one."""
        model = self.config.model
        period, aperiodicity = audio.yin(targets, model.hop_length, model.periods)
        frequency = self.network.apply(variables, mel, method="frequency")
        is_voiced = (aperiodicity < _VOICED).astype(jnp.float32)
        error = jnp.abs(jnp.log(frequency) + jnp.log(period))
        return jnp.sum(is_voiced * error) / jnp.maximum(jnp.sum(is_voiced), 1.0)

    def _features(self, samples):
        """What a recognizer's convolutions make of sound: (batch, frames, n)."""
        if self._listener is None:
            raise ValueError("the perceptual loss needs a recognizer")
        task, variables = self._listener
        front_end = task.config.front_end
        heard = audio.resample(samples, self.convention.sample_rate, front_end.sample_rate)
        step = task.config.frame_samples
        heard = jnp.pad(heard, ((0, 0), (0, -heard.shape[1] % step)))
        lengths = jnp.full(heard.shape[:1], heard.shape[1], jnp.int32)
        spectrogram, paddings = task.spectrogram(heard, lengths)
        features, _ = task.network.apply(variables, spectrogram, paddings, method="convolve")
        return features
