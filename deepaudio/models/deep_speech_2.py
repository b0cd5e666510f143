"""Deep Speech 2 (arXiv 1512.02595): spectrograms to logits of characters."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepaudio.models._recurrent import CellName, RecurrentLayer, RowConvolution, clipped_relu

Dtype = jnp.dtype


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution over time, or over time and frequency (section 3.5).

    Attributes:
        channels: Filters.
        time: Frames a filter sees.
        frequency: Bands a filter sees; None for all of them, a convolution over time alone.
        time_stride: Frames from one output to the next.
        frequency_stride: Bands from one output to the next; not read where `frequency` is None.
    """

    channels: int
    time: int
    frequency: int | None = None
    time_stride: int = 1
    frequency_stride: int = 1

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1:
                raise ValueError(f"{field.name}={value} of a convolution must be at least 1")


@dataclasses.dataclass(frozen=True)
class DeepSpeech2Config:
    """Sizes of a network.

    Attributes:
        num_outputs: Logits a frame, the blank included.
        num_bands: Bands of the spectrogram.
        convolutions: From the input up; 1-D ones may follow 2-D ones, not the other way round.
        cell: "rnn" or "gru".
        layers: Recurrent layers.
        units: Hidden units of each.
        bidirectional: Whether each has a second direction.
        lookahead: Frames that a row convolution after the last recurrent layer looks ahead; 0
            leaves it out.
        batch_norm: Whether convolutions and recurrent layers are normalized.
        dense_units: Of the layer before the logits; 0 leaves it out.
        dropout: Share of what enters each recurrent layer after the first, and the dense layer,
            that is dropped in training; not in the paper, whose data are many.
    """

    num_outputs: int = 29
    num_bands: int = 161
    convolutions: tuple[Convolution, ...] = (
        Convolution(32, 11, 41, 2, 2),
        Convolution(32, 11, 21, 1, 2),
    )
    cell: CellName = "rnn"
    layers: int = 7
    units: int = 1760
    bidirectional: bool = True
    lookahead: int = 0
    batch_norm: bool = True
    dense_units: int = 1760
    dropout: float = 0.0

    def __post_init__(self):
        """Refuses what is no network.

        Raises:
            ValueError: A size is out of range, there is no recurrent layer, a 2-D convolution
                follows a 1-D one, or a network of both directions has a lookahead.
        """
        if self.cell not in ("rnn", "gru"):
            raise ValueError(f"cell={self.cell!r} must be 'rnn' or 'gru'")
        for name, least in (
            ("num_outputs", 2),
            ("num_bands", 1),
            ("layers", 1),
            ("units", 1),
            ("lookahead", 0),
            ("dense_units", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be in [0, 1)")
        if self.lookahead and self.bidirectional:
            raise ValueError(f"lookahead={self.lookahead} needs a forward-only network")
        flat = [c.frequency is None for c in self.convolutions]
        if flat != sorted(flat):
            raise ValueError("a 2-D convolution cannot follow one over time alone")

    @property
    def time_stride(self) -> int:
        """Frames of the spectrogram an output frame."""
        stride = 1
        for convolution in self.convolutions:
            stride *= convolution.time_stride
        return stride

    @property
    def context(self) -> tuple[int, int]:
        """Spectrogram frames before and after its own that the convolutions show an output."""
        left = right = 0
        for convolution in reversed(self.convolutions):
            left = left * convolution.time_stride + (convolution.time - 1) // 2
            right = right * convolution.time_stride + convolution.time // 2
        return left, right


class DeepSpeech2(nn.Module):
    """The whole network; its three parts can be run by themselves, piece by piece.

    Attributes:
        config: Sizes.
        dtype: Dtype of the arithmetic; logits are float32.
        param_dtype: Dtype of the parameters.
        accumulation_dtype: Dtype of the hidden states.
    """

    config: DeepSpeech2Config
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    accumulation_dtype: Dtype = jnp.float32

    def setup(self):
        """Builds the layers."""
        config = self.config
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.convolution_layers = [
            _ConvolutionLayer(c, config.batch_norm, **dtypes, name=f"convolution_{i}")
            for i, c in enumerate(config.convolutions)
        ]
        self.recurrent_layers = [
            RecurrentLayer(
                config.units,
                config.cell,
                config.bidirectional,
                config.batch_norm,
                **dtypes,
                accumulation_dtype=self.accumulation_dtype,
                name=f"recurrent_{i}",
            )
            for i in range(config.layers)
        ]
        if config.lookahead:
            self.row_convolution = RowConvolution(
                config.lookahead, **dtypes, name="row_convolution"
            )
        if config.dense_units:
            self.dense = nn.Dense(config.dense_units, **dtypes, name="dense")
        self.logits = nn.Dense(config.num_outputs, **dtypes, name="logits")
        self.drop = nn.Dropout(config.dropout)

    def __call__(
        self, spectrogram: jax.Array, paddings: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Predicts logits for every output frame.

        Args:
            spectrogram: (batch, frames, num_bands).
            paddings: (batch, frames), 1 where a frame is padding.
            train: Whether dropout is on (needs the rng `dropout`) and batch norm uses the batch's
                statistics (updates the collection `batch_stats`).

        Returns:
            (batch, outputs, num_outputs) float32 logits and (batch, outputs) paddings, outputs =
            frames / time_stride rounded up. Padding changes no logit outside it.

        Raises:
            ValueError: The number of bands is not the configuration's.
        """
        features, paddings = self.convolve(spectrogram, paddings, train=train)
        hidden, _ = self.recur(features, paddings, train=train)
        return self.read(hidden, train=train), paddings

    def convolve(
        self, spectrogram: jax.Array, paddings: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """The convolutions: (batch, frames, bands) to (batch, outputs, features) and paddings.

        Padding may stand before a sequence as well as after it; either side counts as zeros at
        every layer. So a piece with `config.context` frames of its neighbours has the same outputs
        as the whole.
        """
        config = self.config
        if spectrogram.shape[-1] != config.num_bands:
            raise ValueError(f"{spectrogram.shape=} must end in {config.num_bands=}")
        x = spectrogram[..., None].astype(self.dtype)
        for layer in self.convolution_layers:
            x, paddings = layer(x, paddings, train=train)
        return x.reshape(*x.shape[:2], -1), paddings

    def recur(
        self,
        features: jax.Array,
        paddings: jax.Array,
        carries: tuple[jax.Array, ...] | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """The recurrent layers.

        Args:
            features: (batch, outputs, features).
            paddings: (batch, outputs).
            carries: State of every layer before the first frame; None for zeros.
            train: As in `__call__`.

        Returns:
            (batch, outputs, units), and every layer's state after the last frame.
        """
        x, after = features, []
        for number, layer in enumerate(self.recurrent_layers):
            if number:
                x = self.drop(x, deterministic=not train)
            carry = None if carries is None else carries[number]
            x, carry = layer(x, paddings, carry, train=train)
            after.append(carry)
        return x, tuple(after)

    def read(self, hidden: jax.Array, *, train: bool = False) -> jax.Array:
        """Lookahead, dense layer and logits: (batch, outputs, units) to float32 logits."""
        x = hidden
        if self.config.lookahead:
            x = self.row_convolution(x)
        if self.config.dense_units:
            x = clipped_relu(self.dense(self.drop(x, deterministic=not train)))
        return self.logits(self.drop(x, deterministic=not train)).astype(jnp.float32)


class _ConvolutionLayer(nn.Module):
    """Convolution, batch norm, clipped rectifier; padding is zero on the way in."""

    config: Convolution
    batch_norm: bool
    dtype: Dtype
    param_dtype: Dtype

    @nn.compact
    def __call__(self, x, paddings, *, train):
        """(batch, frames, bands, channels) and paddings to the same of fewer frames and bands."""
        config = self.config
        if config.frequency is None:
            x = x.reshape(*x.shape[:2], 1, -1)
            window, strides = (config.time, 1), (config.time_stride, 1)
        else:
            window = config.time, config.frequency
            strides = config.time_stride, config.frequency_stride
        x = x * (1.0 - paddings).astype(x.dtype)[..., None, None]
        # Not "SAME": where it pads depends on the length, and pieces must fall on one grid.
        margins = [
            _margins(size, width, stride)
            for size, width, stride in zip(x.shape[1:3], window, strides, strict=True)
        ]
        x = nn.Conv(
            config.channels,
            window,
            strides,
            padding=margins,
            use_bias=not self.batch_norm,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="conv",
        )(x)
        paddings = paddings[:, :: config.time_stride]
        if self.batch_norm:
            norm = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.99,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name="norm",
            )
            x = norm(x, mask=paddings[..., None, None] == 0)
        return clipped_relu(x), paddings


def _margins(size, width, stride):
    """Zeros before and after, so that output j is centred on input j * stride."""
    outputs = -(-size // stride)
    before = (width - 1) // 2
    return before, max((outputs - 1) * stride - before + width - size, 0)
