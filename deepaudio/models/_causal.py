"""Layers that both WaveNets are made of: conditioning and gated dilated causal convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepaudio.models._layers import Dtype


def shift_right(inputs: jax.Array, steps: int = 1) -> jax.Array:
    """Moves a sequence later in time; zeros come in and the end drops out.

    Args:
        inputs: (batch, time, …).
        steps: How far; at least 0.

    Returns:
        Of the same shape: output t is input t - steps.
    """
    length = inputs.shape[1]
    steps = min(steps, length)
    padding = [(0, 0)] * inputs.ndim
    padding[1] = (steps, 0)
    return jnp.pad(inputs[:, : length - steps], padding)


class Upsampler(nn.Module):
    """Mel frames to one conditioning vector a sample, by learned (transposed) convolutions.

    The frames' context is given, not padded, so that a piece of a long sound has the vectors that
    it has within the whole.

    Attributes:
        channels: Of a conditioning vector.
        factors: Samples a frame, as a product: each is one transposed convolution's stride.
        context: Frames at either side that the first convolution sees.
        dtype: Dtype of the arithmetic.
        param_dtype: Dtype of the parameters.
    """

    channels: int
    factors: tuple[int, ...]
    context: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @property
    def margin(self) -> int:
        """Frames that must be given at either side of those to be upsampled."""
        return self.context + 2

    @nn.compact
    def __call__(self, mel: jax.Array) -> jax.Array:
        """Upsamples.

        Args:
            mel: (batch, margin + frames + margin, bands) log-mel.

        Returns:
            (batch, frames * product of factors, channels).

        Raises:
            ValueError: There are no frames beside the margins.
        """
        frames = mel.shape[1] - 2 * self.margin
        if frames < 1:
            raise ValueError(f"{mel.shape[1]} frames: needs more than 2 margins of {self.margin}")
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        width = 2 * self.context + 1
        x = nn.Conv(self.channels, (width,), padding="VALID", name="frames", **dtypes)(mel)
        total = 1
        for number, factor in enumerate(self.factors):
            x = nn.leaky_relu(x, 0.4)
            layer = nn.ConvTranspose(
                self.channels, (2 * factor,), (factor,), name=f"up_{number}", **dtypes
            )
            x = layer(x)
            total *= factor
        # Transposed convolutions reach into less than two frames, which the margin had on top.
        return x[:, 2 * total : (2 + frames) * total]


class GatedLayer(nn.Module):
    """A dilated causal convolution with a gated activation (WaveNet, arXiv 1609.03499, section 2).

    y = tanh(W_f * h + V_f c) o sigmoid(W_g * h + V_g c), then h + R y goes on, and S y to the
    outputs if there are skip connections. The convolution is one product of matrices: what the
    filter sees lies side by side.

    Attributes:
        dilation: Samples between neighbours in the filter.
        filter_width: Samples that the filter sees.
        residual: Channels of h.
        gate: Channels of y.
        skip: Channels of the skip connection; 0 for none.
        dtype: Dtype of the arithmetic.
        param_dtype: Dtype of the parameters.
    """

    dilation: int
    filter_width: int
    residual: int
    gate: int
    skip: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def setup(self):
        """Declares the three products."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.filter = nn.Dense(2 * self.gate, **dtypes)
        self.conditioning = nn.Dense(2 * self.gate, use_bias=False, **dtypes)
        self.output = nn.Dense(self.residual + self.skip, **dtypes)

    def __call__(self, hidden: jax.Array, conditioning: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Runs over a whole sequence, zeros before its start.

        Args:
            hidden: (batch, time, residual).
            conditioning: (batch, time, channels).

        Returns:
            The layer's output, of hidden's shape, and the skip connection, (batch, time, skip).
        """
        past = [
            shift_right(hidden, self.dilation * (self.filter_width - 1 - tap))
            for tap in range(self.filter_width)
        ]
        return self.gated(past, conditioning)

    def gated(self, past: list[jax.Array], conditioning: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The layer given all that the filter sees.

        Args:
            past: `filter_width` arrays (…, residual), the earliest first, the present last.
            conditioning: (…, channels).

        Returns:
            (…, residual) and (…, skip).
        """
        summed = self.filter(jnp.concatenate(past, axis=-1)) + self.conditioning(conditioning)
        wave, gate = jnp.split(summed, 2, axis=-1)
        both = self.output(jnp.tanh(wave) * nn.sigmoid(gate))
        return past[-1] + both[..., : self.residual], both[..., self.residual :]


def receptive_field(dilations: tuple[int, ...], filter_width: int) -> int:
    """Past samples that an output depends on, the one before it included."""
    return 1 + (filter_width - 1) * sum(dilations)
