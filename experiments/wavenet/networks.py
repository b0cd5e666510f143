"""WaveNets of the sizes that inference kernels are compared at, with random weights."""

import dataclasses

import jax
import jax.numpy as jnp

from deepaudio.kernels import wavenet

CONDITIONING = 32
_MIXTURES = 10


@dataclasses.dataclass(frozen=True)
class Size:
    """A network's sizes: R, S and A as nv-wavenet names them.

    Attributes:
        residual: Channels between layers, and after the gates.
        skip: Channels of the skip connections.
        head: Channels of the layer after them.
        layers: Dilated layers, in cycles of ten.
        output: What is said of the next sample.
    """

    residual: int = 64
    skip: int = 256
    head: int = 256
    layers: int = 20
    output: wavenet.Output = "mu_law"

    @property
    def dilations(self) -> tuple[int, ...]:
        """Of every layer."""
        return tuple(2 ** (layer % 10) for layer in range(self.layers))

    @property
    def weights(self) -> int:
        """Weights that every sample needs, without the conditioning's."""
        layer = self.residual * (2 * 2 * self.residual + self.residual + self.skip)
        outputs = wavenet.num_parameters(self.output, _MIXTURES)
        return self.layers * layer + self.head * (self.skip + outputs)


# The sizes that nv-wavenet is published with.
SIZES = tuple(
    Size(residual, skip, 256) for residual, skip in ((32, 128), (64, 128), (64, 256), (128, 256))
)


def make_weights(size: Size, dtype: str, seed: int = 0) -> wavenet.Weights:
    """Random weights that keep signals of about the same size from layer to layer."""
    keys = iter(jax.random.split(jax.random.key(seed), 16))
    outputs = wavenet.num_parameters(size.output, _MIXTURES)
    r, s, h, layers = size.residual, size.skip, size.head, size.layers

    def matrix(*shape):
        return (jax.random.normal(next(keys), shape) * shape[-2] ** -0.5).astype(dtype)

    def vector(*shape):
        return 0.1 * jax.random.normal(next(keys), shape)

    return wavenet.Weights(
        first=matrix(outputs, r) if size.output == "mu_law" else vector(2, r),
        gate=matrix(layers, 2, r, 2 * r),
        gate_bias=vector(layers, 2 * r),
        conditioning=matrix(layers, CONDITIONING, 2 * r),
        residual=matrix(layers, r, r),
        residual_bias=vector(layers, r),
        skip=matrix(layers, r, s),
        skip_bias=vector(s),
        head=matrix(s, h),
        head_bias=vector(h),
        parameters=matrix(h, outputs),
        parameters_bias=vector(outputs),
    )


def make_inputs(size: Size, streams: int, samples: int) -> tuple[jax.Array, jax.Array]:
    """Conditioning (streams, samples, C), and uniform numbers."""
    first, second = jax.random.split(jax.random.key(1))
    shape = (streams, samples, wavenet.num_uniforms(size.output))
    conditioning = jax.random.normal(first, (streams, samples, CONDITIONING))
    return conditioning, jax.random.uniform(second, shape, jnp.float32)
