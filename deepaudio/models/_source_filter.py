"""A flow that filters pulses and noise, as voices do; what a student's other flows begin from."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.models._layers import Dtype

# Of a Fourier transform in which a stretch of sound is filtered.
_SIZE = 512
# Filters a frame: what is between two of them is faded from one to the other.
_FILTERS = 2
# Choices of the period's logarithm, of which a frame takes the mean.
_CHOICES = 64
# So that a filter has at least half of that transform's samples.
MAX_HOP_LENGTH = _SIZE // 2 * _FILTERS


def minimum_phase(log_magnitude: jax.Array, taps: int) -> jax.Array:
    """Causal filters with the least delay that have given magnitudes.

    The cepstrum of a minimum-phase filter is causal, so the magnitude's, folded, gives it
    (Oppenheim and Schafer, Discrete-Time Signal Processing, section 13.5).

    Args:
        log_magnitude: (..., n / 2 + 1) natural logarithms at frequencies from 0 to half of the
            sample rate.
        taps: How many of the n taps to return.

    Returns:
        (..., taps); the first tap is positive.
    """
    size = 2 * (log_magnitude.shape[-1] - 1)
    cepstrum = jnp.fft.irfft(log_magnitude)
    fold = np.zeros(size, np.float32)
    fold[0] = fold[size // 2] = 1.0
    fold[1 : size // 2] = 2.0
    folded = cepstrum * jnp.expand_dims(fold, range(cepstrum.ndim - 1))
    filters = jnp.fft.irfft(jnp.exp(jnp.fft.rfft(folded)))[..., :taps]
    # The first tap is the exponential of the mean logarithm; said so, it is above 0 to the bit.
    return filters.at[..., 0].set(jnp.exp(folded[..., 0]))


def filter_in_time(signal: jax.Array, filters: jax.Array, hop: int) -> jax.Array:
    """Filters that change: y_t = sum_k h_t[k] x_{t-k}, faded from one filter to the next.

    Args:
        signal: (batch, stretches * hop); zeros stand before it.
        filters: (batch, stretches + 1, taps): those at either end of every stretch, hop + taps at
            most 513.
        hop: Samples of a stretch.

    Returns:
        (batch, stretches * hop).
    """
    batch, length = signal.shape
    stretches, past = length // hop, _SIZE - hop
    padded = jnp.pad(signal, ((0, 0), (past, 0)))
    blocks = math.ceil(_SIZE / hop)
    padded = jnp.pad(padded, ((0, 0), (0, blocks * hop)))
    rows = [
        padded[:, offset * hop : offset * hop + length].reshape(batch, stretches, hop)
        for offset in range(blocks)
    ]
    framed = jnp.concatenate(rows, axis=-1)[..., :_SIZE]
    spectra, responses = jnp.fft.rfft(framed), jnp.fft.rfft(filters, _SIZE)
    # Of a circular convolution the last samples are those of the plain one.
    before, after = (
        jnp.fft.irfft(spectra * response)[..., past:]
        for response in (responses[:, :-1], responses[:, 1:])
    )
    return _fade(before, after).reshape(batch, length)


def _fade(before, after):
    """From one to the other along the last axis: at its beginning the first alone."""
    share = np.arange(before.shape[-1], dtype=np.float32) / before.shape[-1]
    return before + (after - before) * jnp.expand_dims(share, range(before.ndim - 1))


def pulses(frequency: jax.Array, phase: jax.Array) -> jax.Array:
    """All harmonics of a tone below half of the sample rate, cosines of one amplitude.

    Their sum has a closed form, Dirichlet's kernel.

    Args:
        frequency: (...) cycles a sample, above 0.
        phase: (...) cycles.

    Returns:
        (...) of power 1, whatever the frequency.
    """
    harmonics = jnp.floor(0.5 / frequency)
    phase = phase - jnp.round(phase)
    half = jnp.sin(jnp.pi * phase)
    small = jnp.abs(half) < 1e-4
    kernel = jnp.sin(jnp.pi * (2.0 * harmonics + 1.0) * phase) / jnp.where(small, 1.0, half)
    total = jnp.where(small, harmonics, (kernel - 1.0) / 2.0)
    return total * jnp.sqrt(2.0 / harmonics)


class SourceFilter(nn.Module):
    """Pulses and noise, each through filters that follow from mel frames.

    x_t = p_t + sum_{k >= 0} h_t[k] z_{t-k}: a flow in the sense of equation 2 of arXiv 1711.10433,
    whose scale is h_t[0] and whose shift all the rest: p, filtered pulses at the pitch that the
    frames have, and noise filtered by what came before. Filters and pitch follow from the frames
    alone, so it costs next to nothing, learns fast, and is all that a voice needs to a first
    approximation (source and filter, as in Wang et al. 2019, arXiv 1904.12088, and Engel et al.
    2020, arXiv 2001.04643).

    Attributes:
        channels: Of the convolutions over frames.
        layers: Of these.
        hop_length: Samples a frame.
        periods: The shortest and longest period of the pulses, in samples.
        initial_scale: Of the noise before any training.
        dtype: Dtype of the convolutions; filters and sound are float32.
        param_dtype: Dtype of the parameters.
    """

    channels: int
    layers: int
    hop_length: int
    periods: tuple[float, float]
    initial_scale: float
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def setup(self):
        """Declares the convolutions."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.first = nn.Conv(self.channels, (3,), padding="VALID", **dtypes)
        self.norms = [nn.LayerNorm(**dtypes) for _ in range(self.layers)]
        self.wide = [
            nn.Conv(2 * self.channels, (3,), padding="VALID", **dtypes) for _ in range(self.layers)
        ]
        self.narrow = [nn.Dense(self.channels, **dtypes) for _ in range(self.layers)]
        self.norm = nn.LayerNorm(**dtypes)
        self.period = nn.Dense(_CHOICES, **dtypes)
        self.filters = nn.Dense(
            2 * _FILTERS * (_SIZE // 2 + 1),
            kernel_init=nn.initializers.normal(0.01),
            bias_init=nn.initializers.constant(math.log(self.initial_scale)),
            **dtypes,
        )

    def _hear(self, mel):
        """(batch, margin + frames + margin, bands) to (batch, 1 + frames + 1, channels)."""
        x = self.first(mel)
        for norm, wide, narrow in zip(self.norms, self.wide, self.narrow, strict=True):
            x = x[:, 1:-1] + narrow(nn.gelu(wide(norm(x))))
        return self.norm(x)

    def frequency(self, mel: jax.Array) -> jax.Array:
        """The pulses' frequency in every frame, voiced or not.

        Args:
            mel: (batch, margin + frames + margin, bands) log-mel.

        Returns:
            (batch, frames) cycles a sample.
        """
        return self._frequency(self._hear(mel))[:, 1:-1]

    def _frequency(self, heard):
        choices = np.linspace(*np.log(self.periods), _CHOICES, dtype=np.float32)
        chances = jax.nn.softmax(self.period(heard).astype(jnp.float32))
        return jnp.exp(-chances @ choices)

    def __call__(
        self, noise: jax.Array, mel: jax.Array, phase: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Makes sound.

        Args:
            noise: (batch, frames * hop_length), standard.
            mel: (batch, margin + frames + margin, bands) log-mel.
            phase: (batch,) cycles, the pulses' at the first sample; 0 if not given.

        Returns:
            (batch, frames * hop_length) each: the samples, and the logarithm of the scale h_t[0].
        """
        batch, length = noise.shape
        heard = self._hear(mel)
        # Which pitch is right cannot be learned through the pulses' phases.
        frequency = jax.lax.stop_gradient(self._frequency(heard))
        each, first = _cycles(frequency, self.hop_length, phase)
        phases = first[..., None] + jnp.cumsum(each, axis=-1) - each
        source = pulses(each, phases).reshape(batch, -1)
        hop = self.hop_length // _FILTERS
        logs = self.filters(heard).astype(jnp.float32)
        logs = logs.reshape(batch, -1, 2, _SIZE // 2 + 1)
        # Filters stand in the middles of their parts of a frame: stretches run from one to the
        # next, and the first begins before the sound.
        taps = minimum_phase(logs, _SIZE - hop + 1)[:, _FILTERS - 1 : 1 - _FILTERS]
        begin = hop // 2

        def filtered(signal, kind):
            padded = jnp.pad(signal, ((0, 0), (begin, hop - begin)))
            return filter_in_time(padded, taps[:, :, kind], hop)[:, begin : begin + length]

        samples = filtered(source, 0) + filtered(noise, 1)
        scale = _between(taps[:, :, 1, 0], hop)[:, begin : begin + length]
        return samples, jnp.log(scale)

    def phase_after(self, mel: jax.Array, phase: jax.Array, frames: int) -> jax.Array:
        """The pulses' phase some frames on, for a call that begins there.

        Args:
            mel: As in a call.
            phase: (batch,) cycles at the first sample.
            frames: Less than there are beside the margins.

        Returns:
            (batch,) cycles, at least 0 and less than 1.
        """
        _, first = _cycles(self._frequency(self._hear(mel)), self.hop_length, phase)
        return first[:, frames]


def source_margin(layers: int) -> int:
    """Frames that a source of so many layers needs at either side."""
    return layers + 2


def source_past(hop_length: int) -> int:
    """Past samples of noise, and of pulses, that a sample depends on."""
    return _SIZE - hop_length // _FILTERS


def _cycles(frequency, hop, phase):
    """Of every sample the frequency, (batch, frames, hop), and of every frame the first phase.

    Frequencies are given in frames' middles, a frame more at either side.
    """
    batch, frames = frequency.shape[0], frequency.shape[1] - 2
    steps = _between(frequency, hop)[:, hop // 2 :][:, : frames * hop]
    each = steps.reshape(batch, frames, hop)
    return each, _cycles_before(each.sum(-1), phase)


def _between(values, hop):
    """(batch, stretches + 1), at the ends of stretches, to (batch, stretches * hop)."""
    before, after = (jnp.repeat(x[..., None], hop, -1) for x in (values[:, :-1], values[:, 1:]))
    return _fade(before, after).reshape(values.shape[0], -1)


def _cycles_before(sums, phase):
    """Running sums, of which only what is beyond whole cycles is kept, for precision."""
    start = jnp.zeros(sums.shape[0]) if phase is None else phase

    def step(total, cycles):
        later = total + cycles
        return later - jnp.floor(later), total

    _, before = jax.lax.scan(step, start, sums.T)
    return before.T
