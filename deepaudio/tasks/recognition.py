"""Speech recognition: a batch of sound and labels to a loss; sound to log probabilities."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from deepaudio import audio, losses
from deepaudio.data.alphabet import ENGLISH, Alphabet
from deepaudio.data.spec_augment import SpecAugmentConfig, spec_augment
from deepaudio.models import (
    Convolution,
    DeepSpeech,
    DeepSpeech2,
    DeepSpeech2Config,
    DeepSpeechConfig,
)
from deepaudio.optim import Policy

# Decibels above silence that the network sees as 1.
_DECIBELS = 50.0
_FRONT_ENDS = {
    "log_mel": (audio.LogMelConfig, audio.log_mel),
    "log_spectrogram": (audio.LogSpectrogramConfig, audio.log_spectrogram),
}
_MODELS = {
    "deep_speech": (DeepSpeechConfig, DeepSpeech),
    "deep_speech_2": (DeepSpeech2Config, DeepSpeech2),
}


@dataclasses.dataclass(frozen=True)
class RecognitionConfig:
    """A recognition model and how it is trained.

    Attributes:
        front_end: From sound to the network's input; its type says which.
        model: The network; its type says which.
        alphabet: What the network's outputs stand for.
        spec_augment: Masks of the input in training; None for none.
        precision: Dtypes of the network, as `optim.Policy.parse` takes them.
    """

    front_end: audio.LogMelConfig | audio.LogSpectrogramConfig = audio.LogSpectrogramConfig()
    model: DeepSpeechConfig | DeepSpeech2Config = DeepSpeech2Config()
    alphabet: Alphabet = ENGLISH
    spec_augment: SpecAugmentConfig | None = None
    precision: str = "float32"

    @property
    def frame_samples(self) -> int:
        """Samples from one output frame to the next."""
        return self.front_end.hop_length * self.model.time_stride

    @property
    def frame_seconds(self) -> float:
        """Seconds from one output frame to the next."""
        return self.frame_samples / self.front_end.sample_rate

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; `from_dict` is the inverse."""
        masks = self.spec_augment
        return {
            "front_end": {
                "kind": _kind(_FRONT_ENDS, self.front_end),
                **dataclasses.asdict(self.front_end),
            },
            "model": {"kind": _kind(_MODELS, self.model), **dataclasses.asdict(self.model)},
            "alphabet": self.alphabet.to_dict(),
            "spec_augment": None if masks is None else dataclasses.asdict(masks),
            "precision": self.precision,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "RecognitionConfig":
        """Builds the configuration from what `to_dict` gave.

        Raises:
            KeyError: A field is missing, or a kind is unknown.
            TypeError: A field is unknown.
        """
        masks = stored["spec_augment"]
        return cls(
            front_end=make_front_end(**stored["front_end"]),
            model=make_model_config(**stored["model"]),
            alphabet=Alphabet.from_dict(stored["alphabet"]),
            spec_augment=None if masks is None else SpecAugmentConfig(**masks),
            precision=stored["precision"],
        )


def make_front_end(kind: str, **settings: Any) -> Any:
    """The front end's configuration: of "log_mel" or "log_spectrogram".

    Raises:
        KeyError: The kind is unknown.
        TypeError: A setting is unknown.
    """
    return _FRONT_ENDS[kind][0](**settings)


def make_model_config(kind: str, **settings: Any) -> DeepSpeechConfig | DeepSpeech2Config:
    """The network's configuration: of "deep_speech" or "deep_speech_2".

    Args:
        kind: Which.
        **settings: Its fields; a convolution may be a mapping or the sequence of its fields.

    Raises:
        KeyError: The kind is unknown.
        TypeError: A setting is unknown.
        ValueError: A size is out of range.
    """
    if "convolutions" in settings:
        settings["convolutions"] = tuple(
            Convolution(**c) if isinstance(c, dict) else Convolution(*c)
            for c in settings["convolutions"]
        )
    return _MODELS[kind][0](**settings)


def _kind(kinds, config):
    return next(name for name, (config_type, _) in kinds.items() if type(config) is config_type)


class RecognitionTask:
    """Pure functions around one configuration; nothing here changes.

    Attributes:
        config: What was given.
        network: The linen module.
    """

    def __init__(self, config: RecognitionConfig):
        """Builds the network.

        Args:
            config: The model, its front end and its alphabet.

        Raises:
            ValueError: The network reads another number of bands than the front end gives, writes
                another number of symbols than the alphabet has, or the precision is unknown.
        """
        if config.front_end.num_bands != config.model.num_bands:
            raise ValueError(
                f"the front end gives {config.front_end.num_bands} bands, but "
                f"{config.model.num_bands=}"
            )
        if len(config.alphabet) != config.model.num_outputs:
            raise ValueError(
                f"the alphabet has {len(config.alphabet)} symbols with the blank, but "
                f"{config.model.num_outputs=}"
            )
        self.config = config
        self._policy = Policy.parse(config.precision)
        self._front_end = _FRONT_ENDS[_kind(_FRONT_ENDS, config.front_end)][1]
        self.network = _MODELS[_kind(_MODELS, config.model)][1](
            config.model,
            dtype=self._policy.compute_dtype,
            param_dtype=self._policy.param_dtype,
            accumulation_dtype=self._policy.accumulation_dtype,
        )

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws variables: `{"params": …, "batch_stats": …}`, of the policy's dtype, float32."""
        frames = 2 * self.config.model.time_stride
        spectrogram = jnp.zeros((1, frames, self.config.model.num_bands))
        return self.network.init(key, spectrogram, jnp.zeros((1, frames)), train=False)

    def loss(
        self, params: Any, model_state: Any, batch: dict[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        """The training loss of a batch: CTC, in nats a unit of the labels.

        Utterances without labels, or with more than their frames can hold, count for nothing.

        Args:
            params: Parameters.
            model_state: The other collections, `{"batch_stats": …}` or empty.
            batch: `samples` (batch, n) float32, n a multiple of the hop; `num_samples` (batch,)
                int32; `labels` (batch, length) int32; `num_labels` (batch,) int32.
            key: Of masks and dropout.

        Returns:
            The loss, () float32, and, with the new model state, `loss/total` and `loss/dropped`,
            the number of utterances that did not count.
        """
        spectrogram, paddings = self.spectrogram(batch["samples"], batch["num_samples"])
        of_masks, of_dropout = jax.random.split(key)
        if self.config.spec_augment is not None:
            spectrogram = spec_augment(spectrogram, paddings, of_masks, self.config.spec_augment)
        (logits, paddings), model_state = self.network.apply(
            {"params": params, **model_state},
            spectrogram,
            paddings,
            train=True,
            rngs={"dropout": of_dropout},
            mutable=["batch_stats"],
        )
        labels, counts = batch["labels"], batch["num_labels"]
        label_paddings = _paddings(counts, labels.shape[1])
        losses_ = losses.ctc_loss(logits, paddings, labels, label_paddings)
        counted = jnp.isfinite(losses_) & (counts > 0)
        units = jnp.where(counted, counts, 0).sum().astype(jnp.float32)
        total = jnp.where(counted, losses_, 0.0).sum() / jnp.maximum(units, 1.0)
        dropped = (~counted).sum().astype(jnp.float32)
        return total, ({"loss/total": total, "loss/dropped": dropped}, model_state)

    def log_probs(
        self, variables: dict[str, Any], samples: jax.Array, num_samples: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Log probabilities of every output frame of a batch of sounds.

        Args:
            variables: What `init` gives.
            samples: (batch, n) float32, n a multiple of the hop.
            num_samples: (batch,) int32.

        Returns:
            (batch, frames, outputs) float32, and (batch,) int32 how many frames each has.
        """
        spectrogram, paddings = self.spectrogram(samples, num_samples)
        logits, paddings = self.network.apply(variables, spectrogram, paddings, train=False)
        lengths = (1.0 - paddings).sum(axis=1).astype(jnp.int32)
        return jax.nn.log_softmax(logits.astype(jnp.float32)), lengths

    def spectrogram(
        self, samples: jax.Array, num_samples: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """What the network sees: (batch, n) to (batch, n // hop, bands), silence 0, and paddings.

        A sound of m samples has m / hop frames, rounded up; frame t is centred on sample t * hop.
        """
        front_end = self.config.front_end
        frames = samples.shape[-1] // front_end.hop_length
        decibels = self._front_end(samples, front_end)[:, :frames]
        silence = 10.0 * jnp.log10(jnp.asarray(front_end.amin, jnp.float32))
        paddings = _paddings(-(-num_samples // front_end.hop_length), frames)
        return (decibels - silence) / _DECIBELS, paddings


def _paddings(lengths: jax.Array, size: int) -> jax.Array:
    """(batch, size) float32, 1 from each length on."""
    return (jnp.arange(size)[None] >= lengths[:, None]).astype(jnp.float32)
