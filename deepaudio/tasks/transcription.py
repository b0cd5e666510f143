"""Piano transcription: a batch of sound and labels to a loss; sound to probabilities."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepaudio import audio, losses
from deepaudio.models import OnsetsAndFrames, OnsetsAndFramesConfig
from deepaudio.models.onsets_and_frames import Logits
from deepaudio.optim import Policy

# Decibels that the network sees as 1: its input is then about 0 (silence) to 2 (loud).
_DECIBELS = 50.0


class Rolls(NamedTuple):
    """Probabilities of every key at every frame.

    Attributes:
        onsets: (..., frames, 88) float32 in [0, 1]; None for a model without an onset head.
        frames: (..., frames, 88) float32 in [0, 1].
        offsets: (..., frames, 88) float32 in [0, 1]; None for a model without an offset head.
        velocities: (..., frames, 88) float32 in [0, 1], 1 being MIDI's 127; None without a head.
    """

    onsets: jax.Array | None
    frames: jax.Array
    offsets: jax.Array | None
    velocities: jax.Array | None


@dataclasses.dataclass(frozen=True)
class TranscriptionConfig:
    """A transcription model and how it is trained.

    Attributes:
        front_end: From sound to the network's input.
        model: The network.
        weighted_frame_loss: Whether the frame loss favours the beginnings of notes (section 3.2
            of the paper; the follow-up does without).
        precision: Dtypes of the network, as `optim.Policy.parse` takes them.
    """

    front_end: audio.LogMelConfig = audio.LogMelConfig()
    model: OnsetsAndFramesConfig = OnsetsAndFramesConfig()
    weighted_frame_loss: bool = True
    precision: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "TranscriptionConfig":
        """Builds the configuration from what `to_dict` gave.

        Raises:
            TypeError: A field is unknown.
        """
        model = {k: tuple(v) if isinstance(v, list) else v for k, v in config["model"].items()}
        return cls(
            front_end=audio.LogMelConfig(**config["front_end"]),
            model=OnsetsAndFramesConfig(**model),
            weighted_frame_loss=config["weighted_frame_loss"],
            precision=config["precision"],
        )


class TranscriptionTask:
    """Pure functions around one configuration; nothing here changes.

    Attributes:
        config: What was given.
    """

    def __init__(self, config: TranscriptionConfig):
        """Builds the network.

        Args:
            config: The model and its front end.

        Raises:
            ValueError: The network reads another number of bands than the front end gives, or the
                precision is unknown.
        """
        if config.front_end.n_mels != config.model.num_bands:
            raise ValueError(f"{config.front_end.n_mels=} but {config.model.num_bands=}")
        self.config = config
        policy = Policy.parse(config.precision)
        self._network = OnsetsAndFrames(
            config.model,
            dtype=policy.compute_dtype,
            param_dtype=policy.param_dtype,
            accumulation_dtype=policy.accumulation_dtype,
        )
        self._policy = policy

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws variables: `{"params": …, "batch_stats": …}`, of the policy's dtype, float32."""
        spectrogram = jnp.zeros((1, 2, self.config.model.num_bands))
        return self._network.init(key, spectrogram, train=False)

    def loss(
        self, params: Any, model_state: Any, batch: dict[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        """The training loss of a batch.

        Args:
            params: Parameters.
            model_state: The other collections, `{"batch_stats": …}`.
            batch: `samples` (batch, frames * hop_length) float32; `onsets`, `frames`, `offsets`,
                `velocities`, `frame_weights` (batch, frames, 88) float32; `paddings`
                (batch, frames) float32, 1 where a frame is padding.
            key: Of the dropout.

        Returns:
            The loss, () float32, and its parts by name with the new model state.
        """
        logits, model_state = self._network.apply(
            {"params": params, **model_state},
            self.spectrogram(batch["samples"]),
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        parts = self._losses(logits, batch)
        total = jnp.stack(list(parts.values())).sum()
        return total, ({"loss/total": total, **parts}, model_state)

    def predict(self, variables: dict[str, Any], samples: jax.Array) -> Rolls:
        """Probabilities for a batch of sounds of one length.

        Args:
            variables: What `init` gives.
            samples: (batch, frames * hop_length) float32.

        Returns:
            `Rolls` of (batch, frames, 88), of the policy's output dtype, float32.
        """
        logits = self._network.apply(variables, self.spectrogram(samples), train=False)
        velocities = logits.velocities
        rolls = Rolls(
            onsets=None if logits.onsets is None else nn.sigmoid(logits.onsets),
            frames=nn.sigmoid(logits.frames),
            offsets=None if logits.offsets is None else nn.sigmoid(logits.offsets),
            velocities=None if velocities is None else jnp.clip(velocities, 0.0, 1.0),
        )
        return self._policy.cast_to_output(rolls)

    def spectrogram(self, samples: jax.Array) -> jax.Array:
        """What the network sees: (batch, frames * hop) -> (batch, frames, bands), silence 0."""
        front_end = self.config.front_end
        decibels = audio.log_mel(samples, front_end)
        silence = 10.0 * jnp.log10(jnp.asarray(front_end.amin, jnp.float32))
        # A centred transform gives one frame more, centred on the first sample not given.
        return (decibels[..., : samples.shape[-1] // front_end.hop_length, :] - silence) / _DECIBELS

    def _losses(self, logits: Logits, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        paddings = batch["paddings"]
        cross_entropy = losses.weighted_binary_cross_entropy
        weights = batch["frame_weights"] if self.config.weighted_frame_loss else None
        parts = {"loss/frame": cross_entropy(logits.frames, batch["frames"], paddings, weights)}
        if logits.onsets is not None:
            parts["loss/onset"] = cross_entropy(logits.onsets, batch["onsets"], paddings)
        if logits.offsets is not None:
            parts["loss/offset"] = cross_entropy(logits.offsets, batch["offsets"], paddings)
        if logits.velocities is not None:
            parts["loss/velocity"] = losses.onset_velocity_loss(
                logits.velocities, batch["velocities"], batch["onsets"], paddings
            )
        return parts
