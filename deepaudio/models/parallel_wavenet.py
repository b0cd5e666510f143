"""The student of Parallel WaveNet: inverse-autoregressive flows (arXiv 1711.10433, section 3)."""

import dataclasses
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepaudio.models._causal import GatedLayer, Upsampler, receptive_field, shift_right
from deepaudio.models._layers import Dtype

Noise = Literal["logistic", "gaussian"]


@dataclasses.dataclass(frozen=True)
class ParallelWaveNetConfig:
    """Sizes of a student.

    Attributes:
        flows: Layers of every flow.
        cycle: Layers until the dilation, which doubles, is 1 again.
        filter_width: Samples that a filter sees.
        residual: Channels that go from layer to layer.
        gate: Channels after the gate.
        noise: What goes in: logistic noise, or Gaussian as in ClariNet (arXiv 1807.07281).
        initial_scale: Total scale of the noise before any training.
        mels: Bands of a mel frame.
        conditioning: Channels of the conditioning vector of a sample.
        upsample: Samples a frame as a product of strides.
        context: Frames at either side of a frame that its conditioning sees.
        speakers: Speakers known by number; 0 for a model of one.
    """

    flows: tuple[int, ...] = (10, 10, 10, 30)
    cycle: int = 10
    filter_width: int = 3
    residual: int = 64
    gate: int = 64
    noise: Noise = "logistic"
    initial_scale: float = 0.05
    mels: int = 80
    conditioning: int = 80
    upsample: tuple[int, ...] = (10, 30)
    context: int = 2
    speakers: int = 0

    def __post_init__(self):
        """Checks the sizes.

        Raises:
            ValueError: One is out of range.
        """
        object.__setattr__(self, "flows", tuple(self.flows))
        object.__setattr__(self, "upsample", tuple(self.upsample))
        if not self.flows or min(self.flows) < 1:
            raise ValueError(f"flows={self.flows} must be numbers of layers of at least 1")
        if self.noise not in ("logistic", "gaussian"):
            raise ValueError(f"noise={self.noise!r} must be 'logistic' or 'gaussian'")
        if self.initial_scale <= 0:
            raise ValueError(f"initial_scale={self.initial_scale} must be above 0")
        for name in ("cycle", "residual", "gate", "mels", "conditioning"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.filter_width < 2:
            raise ValueError(f"filter_width={self.filter_width} must be at least 2")
        if self.speakers < 0 or self.context < 0:
            raise ValueError(f"{self.speakers=} and {self.context=} must be at least 0")
        if not self.upsample or min(self.upsample) < 1:
            raise ValueError(f"upsample={self.upsample} must be factors of at least 1")

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return math.prod(self.upsample)

    @property
    def margin(self) -> int:
        """Frames needed at either side of those to be turned into sound."""
        return self.context + 2

    def dilations(self, flow: int) -> tuple[int, ...]:
        """Of every layer of a flow."""
        return tuple(2 ** (layer % self.cycle) for layer in range(self.flows[flow]))

    @property
    def receptive_field(self) -> int:
        """Past samples of noise that a sample depends on."""
        fields = (
            receptive_field(self.dilations(flow), self.filter_width)
            for flow in range(len(self.flows))
        )
        return sum(fields)


class Flow(nn.Module):
    """One inverse-autoregressive flow: x_t = z_t s(z_<t) + mu(z_<t) (equation 2).

    Attributes:
        config: Sizes.
        number: Which flow.
        dtype: Dtype of the arithmetic.
        param_dtype: Dtype of the parameters.
    """

    config: ParallelWaveNetConfig
    number: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, noise: jax.Array, conditioning: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Finds a flow's shift and scale.

        Args:
            noise: (batch, time).
            conditioning: (batch, time, channels).

        Returns:
            (batch, time) float32: mu, and the logarithm of s, each from what comes before.
        """
        c = self.config
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        hidden = shift_right(noise)[..., None].astype(self.dtype)
        hidden = nn.Dense(c.residual, name="first", **dtypes)(hidden)
        for number, dilation in enumerate(c.dilations(self.number)):
            layer = GatedLayer(
                dilation, c.filter_width, c.residual, c.gate, 0, name=f"layer_{number}", **dtypes
            )
            hidden, _ = layer(hidden, conditioning)
        hidden = nn.relu(nn.Dense(c.residual, name="head", **dtypes)(nn.relu(hidden)))
        # A flow begins as a plain scaling, the same for all, so that all together begin with
        # the initial scale: far too loud or too faint noise never becomes speech.
        log_scale = math.log(c.initial_scale) / len(c.flows)
        both = nn.Dense(
            2,
            kernel_init=nn.initializers.zeros,
            bias_init=lambda _, shape, dtype: jnp.array([0.0, log_scale], dtype).reshape(shape),
            name="parameters",
            **dtypes,
        )(hidden).astype(jnp.float32)
        return both[..., 0], both[..., 1]


class ParallelWaveNet(nn.Module):
    """Noise and a mel spectrogram to sound, all samples at once.

    Attributes:
        config: Sizes.
        dtype: Dtype of the arithmetic; noise, shifts and scales are float32.
        param_dtype: Dtype of the parameters.
    """

    config: ParallelWaveNetConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def setup(self):
        """Declares the flows."""
        c = self.config
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.upsampler = Upsampler(c.conditioning, c.upsample, c.context, **dtypes)
        if c.speakers:
            self.speaker = nn.Embed(c.speakers, c.conditioning, **dtypes)
        self.flows = [Flow(c, number, **dtypes) for number in range(len(c.flows))]

    def __call__(
        self, noise: jax.Array, mel: jax.Array, speakers: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Makes sound.

        Args:
            noise: (batch, frames * hop_length) of the configured distribution, standard.
            mel: (batch, margin + frames + margin, mels) log-mel.
            speakers: (batch,) int32; needed if the model has several.

        Returns:
            (batch, frames * hop_length) each: samples, not clipped; and the mean and logarithm of
            the scale of a sample's distribution given the noise before it (equation 6).
        """
        return self.transform(noise, self.condition(mel, speakers))

    def condition(self, mel: jax.Array, speakers: jax.Array | None = None) -> jax.Array:
        """The conditioning vector of every sample: (batch, frames * hop_length, conditioning)."""
        conditioning = self.upsampler(mel)
        if self.config.speakers:
            conditioning = conditioning + self.speaker(speakers)[:, None]
        return conditioning

    def transform(
        self, noise: jax.Array, conditioning: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As a call, from conditioning vectors."""
        samples = noise
        mean, log_scale = jnp.zeros_like(noise), jnp.zeros_like(noise)
        for flow in self.flows:
            shift, log_factor = flow(samples, conditioning)
            factor = jnp.exp(log_factor)
            samples = samples * factor + shift
            mean = mean * factor + shift
            log_scale = log_scale + log_factor
        return samples, mean, log_scale


def draw_noise(key: jax.Array, shape: tuple[int, ...], noise: Noise) -> jax.Array:
    """Standard noise for a student: logistic or Gaussian, float32."""
    if noise == "gaussian":
        return jax.random.normal(key, shape)
    return jax.random.logistic(key, shape)
