"""Onsets and Frames (Hawthorne et al. 2018, arXiv 1710.11153) and its follow-up's sizes.

A convolutional stack reads the log-mel spectrogram; one head predicts where notes begin, and a
second predicts which keys sound, given the first's opinion. The follow-up (arXiv 1810.12247) adds
a head for note ends and larger layers.
"""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepaudio.models._layers import BiLSTM, Dtype, max_pool_frequency, with_context

NUM_KEYS = 88
# Logits start at a probability of 5 %: keys are mostly silent, and learning that first would take
# hundreds of steps (Lin et al. 2017, section 4.1).
_RARE = -3.0
# Frames to either side that a direct reading sees.
_CONTEXT = 2
# Frames (3.2 s) for which the slowest unit that listens to a key at first remembers.
_LONGEST_MEMORY = 100


class Logits(NamedTuple):
    """What the network says of every key at every frame.

    Attributes:
        onsets: (batch, frames, 88) float32 logits, or None for a frame-only model.
        frames: (batch, frames, 88) float32 logits.
        offsets: (batch, frames, 88) float32 logits, or None without an offset head.
        velocities: (batch, frames, 88) float32 values, 1 being the loudest; None without a head.
    """

    onsets: jax.Array | None
    frames: jax.Array
    offsets: jax.Array | None
    velocities: jax.Array | None


@dataclasses.dataclass(frozen=True)
class OnsetsAndFramesConfig:
    """Sizes of the network; the defaults are the paper's (section 3 and its released code).

    Attributes:
        num_bands: Mel bands of the input.
        channels: Channels of the three convolutions.
        pools: Frequency pooling after each convolution; 1 pools nothing.
        dense_units: Units of the dense layer that ends a stack.
        lstm_units: Hidden units a direction of every recurrent layer.
        conv_dropout: Share of a pooled layer's outputs dropped in training.
        dense_dropout: Share of the dense layer's outputs dropped in training.
        shared_convolutions: One stack's convolutions for all heads; each keeps its own dense layer.
        onset_head: Whether onsets are predicted; off is the paper's frame-only ablation.
        offset_head: Whether note ends are predicted (the follow-up).
        velocity_head: Whether velocities are predicted.
        stop_gradient: Whether the frame loss leaves the onset and offset heads alone.
        band_norm: Whether every band of the input is normalized (not in the papers).
        dense_norm: Whether the dense layer is normalized (not in the papers).
        key_lstm_units: If not 0, the frame head's recurrent layer is one small layer of so many
            units a direction that every key goes through by itself (not in the papers): what
            becomes of a struck key hardly depends on which key it is. It adds to the offset
            head's logits too.
        direct: Whether logits are a linear reading of the stack and of five frames of the
            spectrogram, plus what the recurrent layer adds (not in the papers; see BUILD_NOTES.md).
    """

    num_bands: int = 229
    channels: tuple[int, int, int] = (32, 32, 64)
    pools: tuple[int, int, int] = (1, 2, 2)
    dense_units: int = 512
    lstm_units: int = 128
    conv_dropout: float = 0.25
    dense_dropout: float = 0.5
    shared_convolutions: bool = False
    onset_head: bool = True
    offset_head: bool = False
    velocity_head: bool = True
    stop_gradient: bool = False
    band_norm: bool = False
    dense_norm: bool = False
    key_lstm_units: int = 0
    direct: bool = False


class Convolutions(nn.Module):
    """An acoustic stack's three convolutions and frequency pooling."""

    config: OnsetsAndFramesConfig
    dtype: Dtype
    param_dtype: Dtype

    @nn.compact
    def __call__(self, spectrogram: jax.Array, *, train: bool) -> jax.Array:
        """(batch, frames, bands) -> (batch, frames, pooled bands * channels)."""
        config = self.config
        x = spectrogram[..., None].astype(self.dtype)
        for channels, pool in zip(config.channels, config.pools, strict=True):
            # Batch norm's offset stands in for the convolution's bias.
            x = nn.Conv(channels, (3, 3), use_bias=False, **_dtypes(self))(x)
            x = nn.relu(_norm(train, self)(x))
            if pool > 1:
                x = max_pool_frequency(x, pool)
                x = nn.Dropout(config.conv_dropout, deterministic=not train)(x)
        return x.reshape(*x.shape[:2], -1)


class HeadFeatures(nn.Module):
    """The dense layer that ends a head's acoustic stack, frame by frame."""

    config: OnsetsAndFramesConfig
    dtype: Dtype
    param_dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(batch, frames, n) -> (batch, frames, dense_units)."""
        config = self.config
        x = nn.Dense(config.dense_units, **_dtypes(self))(x)
        x = nn.relu(_norm(train, self)(x) if config.dense_norm else x)
        return nn.Dropout(config.dense_dropout, deterministic=not train)(x)


def _norm(train, module):
    return nn.BatchNorm(use_running_average=not train, momentum=0.99, **_dtypes(module))


def _dtypes(module):
    return {"dtype": module.dtype, "param_dtype": module.param_dtype}


class OnsetsAndFrames(nn.Module):
    """The whole network.

    Attributes:
        config: Sizes.
        dtype: Dtype of the arithmetic; logits are float32.
        param_dtype: Dtype of the parameters.
        accumulation_dtype: Dtype of what the recurrent layers sum over time.
    """

    config: OnsetsAndFramesConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    accumulation_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, spectrogram: jax.Array, *, train: bool) -> Logits:
        """Predicts logits for every key at every frame.

        Args:
            spectrogram: (batch, frames, num_bands) float32 log-mel, scaled so that silence is 0.
            train: Whether dropout is on (needs the rng `dropout`) and batch norm uses the batch's
                statistics (updates the collection `batch_stats`).

        Returns:
            `Logits`.

        Raises:
            ValueError: If the number of bands is not the configuration's.
        """
        config = self.config
        if spectrogram.shape[-1] != config.num_bands:
            raise ValueError(f"{spectrogram.shape=} must end in {config.num_bands=}")
        if config.band_norm:
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.99, name="band_norm")
            spectrogram = norm(spectrogram)
        features = self._features(spectrogram, train)
        nearby = with_context(spectrogram, _CONTEXT) if config.direct else None

        onsets = offsets = velocities = None
        joined = []
        if config.onset_head:
            onsets = self._over_time(features("onset"), nearby, "onset")
            joined.append(onsets)
        if config.offset_head:
            offsets = self._over_time(features("offset"), nearby, "offset")
            joined.append(offsets)
        if config.stop_gradient:
            joined = [jax.lax.stop_gradient(logits) for logits in joined]
        if config.direct:
            activation = self._direct(features("frame"), nearby, "frame")
        else:
            activation = self._keys(features("frame"), "activation", bias=0.0)
        if config.key_lstm_units:
            frames, *ends = self._key_by_key([*joined, activation])
            offsets = offsets + ends[0] if ends else None
        else:
            probabilities = nn.sigmoid(jnp.concatenate([*joined, activation], axis=-1))
            frames = self._over_time(probabilities, None, "frame")
        if config.direct:
            frames = frames + activation
        if config.velocity_head:
            velocities = self._keys(features("velocity"), "velocity", bias=0.5)
        return Logits(onsets, frames, offsets, velocities)

    def _features(self, spectrogram, train):
        """A function from a head's name to what its acoustic stack hears."""
        config = self.config

        def convolutions(name):
            return Convolutions(config, **_dtypes(self), name=name)(spectrogram, train=train)

        shared = convolutions("convolutions") if config.shared_convolutions else None

        def features(name):
            heard = convolutions(f"{name}_convolutions") if shared is None else shared
            return HeadFeatures(config, **_dtypes(self), name=f"{name}_features")(
                heard, train=train
            )

        return features

    def _over_time(self, x, nearby, name):
        """Logits of a recurrent layer over x, and the direct ones if `nearby` is given."""
        outputs = self._lstm(self.config.lstm_units, f"{name}_lstm")(x)
        logits = self._keys(outputs, name)
        return logits if nearby is None else logits + self._direct(x, nearby, name)

    def _direct(self, x, nearby, name):
        """Logits read linearly from features and from the spectrogram's nearby frames."""
        zeros = nn.initializers.zeros
        linear = nn.Dense(NUM_KEYS, **_dtypes(self), kernel_init=zeros, name=f"{name}_linear")
        near = linear(nearby.astype(self.dtype)).astype(jnp.float32)
        return self._keys(x, f"{name}_direct", bias=0.0) + near

    def _key_by_key(self, logits):
        """Logits of one small recurrent layer that every key goes through alone.

        Frame logits, then offset logits if there is an offset head.

        A key hears its own logits, and the mean probabilities over all keys, which tell of the
        pedal.
        """
        stacked = jnp.stack(logits, axis=-1)  # batch, frames, keys, heads
        means = nn.sigmoid(stacked).mean(axis=-2, keepdims=True)
        # Logits within -1 to 1, so that a certain frame does not drown an uncertain one.
        own = jnp.tanh(stacked / 4.0)
        inputs = jnp.concatenate([own, jnp.broadcast_to(means, own.shape)], axis=-1)
        batch, frames, keys, width = inputs.shape
        inputs = inputs.swapaxes(1, 2).reshape(batch * keys, frames, width)
        units = self.config.key_lstm_units
        outputs = self._lstm(units, "key_lstm", longest_memory=_LONGEST_MEMORY)(inputs)
        count = 2 if self.config.offset_head else 1
        zeros = nn.initializers.zeros
        out = nn.Dense(count, **_dtypes(self), kernel_init=zeros, name="key_out")
        out = out(outputs).reshape(batch, keys, frames, count).swapaxes(1, 2)
        return tuple(out[..., i].astype(jnp.float32) for i in range(count))

    def _keys(self, x, name, bias=_RARE):
        bias_init = nn.initializers.constant(bias)
        dense = nn.Dense(NUM_KEYS, **_dtypes(self), bias_init=bias_init, name=f"{name}_keys")
        return dense(x).astype(jnp.float32)

    def _lstm(self, units, name, longest_memory=None):
        return BiLSTM(
            units,
            **_dtypes(self),
            accumulation_dtype=self.accumulation_dtype,
            longest_memory=longest_memory,
            name=name,
        )
