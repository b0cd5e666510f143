"""Deep Speech (arXiv 1412.5567): spectrograms to logits of characters."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepaudio.models._layers import with_context
from deepaudio.models._recurrent import RecurrentLayer, clipped_relu

Dtype = jnp.dtype


@dataclasses.dataclass(frozen=True)
class DeepSpeechConfig:
    """Sizes of a network.

    Attributes:
        num_outputs: Logits a frame, the blank included.
        num_bands: Bands of the spectrogram.
        context: Frames at either side of its own that the first layer sees; 5, 7 or 9 in the
            paper.
        units: Hidden units of every layer.
        dropout: Share of the feed-forward layers' outputs that is dropped in training, 0.05 to 0.1
            in the paper; never of the recurrent layer's.
        time_stride: Frames from one output to the next; 2 in the paper's larger systems
            (section 3.3).
    """

    num_outputs: int = 29
    num_bands: int = 161
    context: int = 9
    units: int = 2048
    dropout: float = 0.05
    time_stride: int = 1

    def __post_init__(self):
        """Refuses what is no network.

        Raises:
            ValueError: A size is out of range.
        """
        for name, least in (
            ("num_outputs", 2),
            ("num_bands", 1),
            ("context", 0),
            ("units", 1),
            ("time_stride", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be in [0, 1)")


class DeepSpeech(nn.Module):
    """Three dense layers, one recurrent layer of two directions, one dense layer (section 2).

    Attributes:
        config: Sizes.
        dtype: Dtype of the arithmetic; logits are float32.
        param_dtype: Dtype of the parameters.
        accumulation_dtype: Dtype of the hidden states.
    """

    config: DeepSpeechConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    accumulation_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, spectrogram: jax.Array, paddings: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Predicts logits for every output frame.

        Args:
            spectrogram: (batch, frames, num_bands).
            paddings: (batch, frames), 1 where a frame is padding.
            train: Whether dropout is on (needs the rng `dropout`).

        Returns:
            (batch, outputs, num_outputs) float32 logits and (batch, outputs) paddings, outputs =
            frames / time_stride rounded up. Padding changes no logit outside it.

        Raises:
            ValueError: The number of bands is not the configuration's.
        """
        config = self.config
        if spectrogram.shape[-1] != config.num_bands:
            raise ValueError(f"{spectrogram.shape=} must end in {config.num_bands=}")
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        kept = (1.0 - paddings).astype(spectrogram.dtype)[..., None]
        x = with_context(spectrogram * kept, config.context)[:, :: config.time_stride]
        paddings = paddings[:, :: config.time_stride]
        x = x.astype(self.dtype)
        for number in range(3):
            x = clipped_relu(nn.Dense(config.units, **dtypes, name=f"dense_{number}")(x))
            x = nn.Dropout(config.dropout, deterministic=not train)(x)
        x, _ = RecurrentLayer(
            config.units,
            "rnn",
            bidirectional=True,
            batch_norm=False,
            **dtypes,
            accumulation_dtype=self.accumulation_dtype,
            name="recurrent",
        )(x, paddings)
        x = clipped_relu(nn.Dense(config.units, **dtypes, name="dense_3")(x))
        x = nn.Dropout(config.dropout, deterministic=not train)(x)
        return nn.Dense(config.num_outputs, **dtypes, name="logits")(x).astype(
            jnp.float32
        ), paddings
