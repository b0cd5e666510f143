"""The student of Parallel WaveNet: inverse-autoregressive flows (arXiv 1711.10433, section 3)."""

import dataclasses
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepaudio.models._causal import GatedLayer, Upsampler, receptive_field, shift_right
from deepaudio.models._layers import Dtype
from deepaudio.models._source_filter import MAX_HOP_LENGTH, SourceFilter, source_margin, source_past

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
        source: Channels of a first flow that filters pulses and noise, which is not the paper's;
            0 for none. With it there need not be others.
        source_layers: Its convolutions over frames.
        periods: Shortest and longest period of its pulses, in samples.
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
    source: int = 0
    source_layers: int = 6
    periods: tuple[float, float] = (32.0, 230.0)

    def __post_init__(self):
        """Checks the sizes.

        Raises:
            ValueError: One is out of range.
        """
        object.__setattr__(self, "flows", tuple(self.flows))
        object.__setattr__(self, "upsample", tuple(self.upsample))
        object.__setattr__(self, "periods", tuple(self.periods))
        if min(self.flows, default=self.source) < 1:
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
        if self.speakers and not self.flows:
            raise ValueError(f"{self.speakers=}: a source alone does not tell speakers apart")
        if not self.upsample or min(self.upsample) < 1:
            raise ValueError(f"upsample={self.upsample} must be factors of at least 1")
        if self.source:
            self._check_source()

    def _check_source(self):
        if self.source < 0 or self.source_layers < 0:
            raise ValueError(f"{self.source=} and {self.source_layers=} must be at least 0")
        if len(self.periods) != 2 or not 2 <= self.periods[0] < self.periods[1]:
            raise ValueError(f"periods={self.periods} must be two of at least 2, the shorter first")
        if self.hop_length % 2 or self.hop_length > MAX_HOP_LENGTH:
            raise ValueError(
                f"upsample={self.upsample}: a source needs an even number of samples a frame, at "
                f"most {MAX_HOP_LENGTH}"
            )

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return math.prod(self.upsample)

    @property
    def margin(self) -> int:
        """Frames needed at either side of those to be turned into sound."""
        return max(self._sides)

    @property
    def _sides(self) -> tuple[int, int]:
        """Frames that the conditioning and the source need at either side."""
        return self.context + 2, source_margin(self.source_layers) if self.source else 0

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
        return sum(fields) + (source_past(self.hop_length) if self.source else 0)


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
        # the initial scale: far too loud or too faint noise never becomes speech. After a source,
        # which has that scale, they begin as nothing.
        log_scale = 0.0 if c.source else math.log(c.initial_scale) / len(c.flows)
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
        if c.flows:
            self.upsampler = Upsampler(c.conditioning, c.upsample, c.context, **dtypes)
        if c.speakers:
            self.speaker = nn.Embed(c.speakers, c.conditioning, **dtypes)
        if c.source:
            self.source = SourceFilter(
                c.source, c.source_layers, c.hop_length, c.periods, c.initial_scale, **dtypes
            )
        self.flows = [Flow(c, number, **dtypes) for number in range(len(c.flows))]

    def __call__(
        self,
        noise: jax.Array,
        mel: jax.Array,
        speakers: jax.Array | None = None,
        phase: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Makes sound.

        Args:
            noise: (batch, frames * hop_length) of the configured distribution, standard.
            mel: (batch, margin + frames + margin, mels) log-mel.
            speakers: (batch,) int32; needed if the model has several.
            phase: (batch,) cycles, of a source's pulses at the first sample; 0 if not given.

        Returns:
            (batch, frames * hop_length) each: samples, not clipped; and the mean and logarithm of
            the scale of a sample's distribution given the noise before it (equation 6).
        """
        begun = noise, jnp.zeros_like(noise), jnp.zeros_like(noise)
        if self.config.source:
            samples, log_scale = self.source(noise, self._of_source(mel), phase)
            begun = samples, samples - noise * jnp.exp(log_scale), log_scale
        if not self.config.flows:
            return begun
        return self.transform(*begun, self.condition(mel, speakers))

    def frequency(self, mel: jax.Array) -> jax.Array:
        """Of a source's pulses: (batch, margin + frames + margin, mels) to (batch, frames).

        Returns:
            Cycles a sample in every frame, voiced or not.
        """
        return self.source.frequency(self._of_source(mel))

    def phase_after(self, mel: jax.Array, phase: jax.Array, frames: int) -> jax.Array:
        """Of a source's pulses, so many frames after the first: (batch,) cycles, from (batch,)."""
        return self.source.phase_after(self._of_source(mel), phase, frames)

    def _of_source(self, mel):
        return _without(mel, self.config.margin - self.config._sides[1])

    def condition(self, mel: jax.Array, speakers: jax.Array | None = None) -> jax.Array:
        """The conditioning vector of every sample: (batch, frames * hop_length, conditioning)."""
        conditioning = self.upsampler(_without(mel, self.config.margin - self.config._sides[0]))
        if self.config.speakers:
            conditioning = conditioning + self.speaker(speakers)[:, None]
        return conditioning

    def transform(
        self, samples: jax.Array, mean: jax.Array, log_scale: jax.Array, conditioning: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Goes through the flows of the paper, with what a source has begun, or noise."""
        for flow in self.flows:
            shift, log_factor = flow(samples, conditioning)
            factor = jnp.exp(log_factor)
            samples = samples * factor + shift
            mean = mean * factor + shift
            log_scale = log_scale + log_factor
        return samples, mean, log_scale


def _without(mel, frames):
    """Without so many frames at either side."""
    return mel[:, frames : mel.shape[1] - frames]


def draw_noise(key: jax.Array, shape: tuple[int, ...], noise: Noise) -> jax.Array:
    """Standard noise for a student: logistic or Gaussian, float32."""
    if noise == "gaussian":
        return jax.random.normal(key, shape)
    return jax.random.logistic(key, shape)
