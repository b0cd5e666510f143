"""WaveNet (arXiv 1609.03499), as the teacher of Parallel WaveNet (arXiv 1711.10433)."""

import dataclasses
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepaudio.kernels import wavenet
from deepaudio.kernels.wavenet import OUTPUTS, Output, mu_law_encode, num_parameters
from deepaudio.kernels.wavenet import State as GenerationState
from deepaudio.models._causal import GatedLayer, Upsampler, receptive_field, shift_right
from deepaudio.models._layers import Dtype


@dataclasses.dataclass(frozen=True)
class WaveNetConfig:
    """Sizes of a WaveNet.

    Attributes:
        layers: Dilated layers.
        cycle: Layers until the dilation, which doubles, is 1 again.
        filter_width: Samples that a filter sees.
        residual: Channels that go from layer to layer.
        gate: Channels after the gate.
        skip: Channels of the skip connections, and of the layer after their sum.
        output: What is said of the next sample.
        mixtures: Logistic distributions that are mixed.
        mels: Bands of a mel frame.
        conditioning: Channels of the conditioning vector of a sample.
        upsample: Samples a frame as a product of strides.
        context: Frames at either side of a frame that its conditioning sees.
        speakers: Speakers known by number; 0 for a model of one.
        prediction: Order of the linear prediction whose errors the network says, not the samples
            themselves; 0 for none. The task applies it.
    """

    layers: int = 30
    cycle: int = 10
    filter_width: int = 3
    residual: int = 512
    gate: int = 256
    skip: int = 256
    output: Output = "mixture_of_logistics"
    mixtures: int = 10
    mels: int = 80
    conditioning: int = 80
    upsample: tuple[int, ...] = (10, 30)
    context: int = 2
    speakers: int = 0
    prediction: int = 0

    def __post_init__(self):
        """Checks the sizes.

        Raises:
            ValueError: One is out of range.
        """
        object.__setattr__(self, "upsample", tuple(self.upsample))
        if self.output not in OUTPUTS:
            raise ValueError(f"output={self.output!r} must be one of {', '.join(OUTPUTS)}")
        for name in ("layers", "cycle", "residual", "gate", "skip", "mixtures", "mels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.filter_width < 2:
            raise ValueError(f"filter_width={self.filter_width} must be at least 2")
        for name in ("speakers", "context", "prediction"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0")
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

    @property
    def dilations(self) -> tuple[int, ...]:
        """Of every layer."""
        return tuple(2 ** (layer % self.cycle) for layer in range(self.layers))

    @property
    def receptive_field(self) -> int:
        """Past samples that a sample depends on."""
        return receptive_field(self.dilations, self.filter_width)


class WaveNet(nn.Module):
    """From past samples and a mel spectrogram to the distribution of the next sample.

    Attributes:
        config: Sizes.
        dtype: Dtype of the arithmetic.
        param_dtype: Dtype of the parameters.
        output_dtype: Dtype of the outputs.
    """

    config: WaveNetConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    output_dtype: Dtype = jnp.float32

    def setup(self):
        """Declares the layers."""
        c = self.config
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.upsampler = Upsampler(c.conditioning, c.upsample, c.context, **dtypes)
        if c.speakers:
            self.speaker = nn.Embed(c.speakers, c.conditioning, **dtypes)
        if c.output == "mu_law":
            self.first = nn.Embed(num_parameters("mu_law", 0), c.residual, **dtypes)
        else:
            self.first = nn.Dense(c.residual, **dtypes)
        self.layers = [
            GatedLayer(dilation, c.filter_width, c.residual, c.gate, c.skip, **dtypes)
            for dilation in c.dilations
        ]
        self.head = nn.Dense(c.skip, **dtypes)
        self.parameters = nn.Dense(num_parameters(c.output, c.mixtures), **dtypes)

    def __call__(
        self, samples: jax.Array, mel: jax.Array, speakers: jax.Array | None = None
    ) -> jax.Array:
        """The distribution of every sample given those before it (teacher forcing).

        Args:
            samples: (batch, frames * hop_length) in [-1, 1].
            mel: (batch, margin + frames + margin, mels) log-mel of the same sound.
            speakers: (batch,) int32; needed if the model has several.

        Returns:
            (batch, frames * hop_length, n), parameters as `deepaudio.models.draw` takes them.
        """
        return self.distribution(samples, self.condition(mel, speakers))

    def condition(self, mel: jax.Array, speakers: jax.Array | None = None) -> jax.Array:
        """The conditioning vector of every sample: (batch, frames * hop_length, conditioning)."""
        conditioning = self.upsampler(mel)
        if self.config.speakers:
            conditioning = conditioning + self.speaker(speakers)[:, None]
        return conditioning

    def distribution(self, samples: jax.Array, conditioning: jax.Array) -> jax.Array:
        """As a call, from conditioning vectors."""
        # What is known before the first sample is silence, also in the network's own terms.
        hidden = self._enter(shift_right(samples))
        skips = 0.0
        for layer in self.layers:
            hidden, skip = layer(hidden, conditioning)
            skips = skips + skip
        return self._leave(skips)

    def _enter(self, samples):
        if self.config.output == "mu_law":
            return self.first(mu_law_encode(samples))
        return self.first(samples[..., None].astype(self.dtype))

    def _leave(self, skips):
        x = nn.relu(self.head(nn.relu(skips)))
        return self.parameters(x).astype(self.output_dtype)


def generation_weights(network: WaveNet, variables: dict[str, Any]) -> wavenet.Weights:
    """The network's matrices as sequential generation takes them.

    Args:
        network: The module.
        variables: Of `network.init`.

    Returns:
        The matrices, in the dtype of the network's arithmetic.
    """
    config, params = network.config, variables["params"]
    layers = [params[f"layers_{number}"] for number in range(config.layers)]

    def stacked(part, name, dtype):
        return jnp.stack([layer[part][name] for layer in layers]).astype(dtype)

    exact, dtype = jnp.float32, network.dtype
    kernels, biases = (
        stacked("output", name, kind) for name, kind in (("kernel", dtype), ("bias", exact))
    )
    if config.output == "mu_law":
        first = params["first"]["embedding"].astype(dtype)
    else:
        first = jnp.stack([params["first"]["kernel"][0], params["first"]["bias"]]).astype(exact)
    gate = stacked("filter", "kernel", dtype)
    shape = (config.layers, config.filter_width, config.residual, 2 * config.gate)
    return wavenet.Weights(
        first=first,
        gate=gate.reshape(shape),
        gate_bias=stacked("filter", "bias", exact),
        conditioning=stacked("conditioning", "kernel", dtype),
        residual=kernels[..., : config.residual],
        residual_bias=biases[..., : config.residual],
        skip=kernels[..., config.residual :],
        skip_bias=biases[..., config.residual :].sum(0),
        head=params["head"]["kernel"].astype(dtype),
        head_bias=params["head"]["bias"].astype(exact),
        parameters=params["parameters"]["kernel"].astype(dtype),
        parameters_bias=params["parameters"]["bias"].astype(exact),
    )


def initial_state(network: WaveNet, batch: int) -> GenerationState:
    """The state before the first sample, see `deepaudio.kernels.wavenet.initial_state`."""
    config = network.config
    buffers = tuple(
        jnp.zeros(((config.filter_width - 1) * dilation, batch, config.residual), network.dtype)
        for dilation in config.dilations
    )
    return GenerationState(buffers, jnp.zeros((batch,)), jnp.zeros((), jnp.int32))


def generate(
    network: WaveNet,
    variables: dict[str, Any],
    conditioning: jax.Array,
    uniforms: jax.Array,
    state: GenerationState | None = None,
    *,
    temperature: float | jax.Array = 1.0,
    implementation: Literal["xla", "mosaic_gpu"] | None = None,
) -> tuple[jax.Array, GenerationState]:
    """Generates samples one after another, O(layers) each.

    Args:
        network: The module.
        variables: Of `network.init`.
        conditioning: (batch, time, conditioning) of `network.condition`.
        uniforms: (batch, time, n) from [0, 1), n as `num_uniforms` says.
        state: Where an earlier call ended; None to begin.
        temperature: As `draw` takes it.
        implementation: As `deepaudio.kernels.wavenet.generate` takes it.

    Returns:
        (batch, time) samples, and the state to go on with.

    Raises:
        ValueError: Sizes disagree, the state is another model's, or the implementation is unknown
            or does not do such a network.
    """
    return wavenet.generate(
        generation_weights(network, variables),
        conditioning,
        uniforms,
        state,
        dilations=network.config.dilations,
        output=network.config.output,
        temperature=temperature,
        implementation=implementation,
    )
