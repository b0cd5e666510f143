"""SpecAugment (Park et al. 2019, arXiv 1904.08779): stretches of a spectrogram are masked."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class SpecAugmentConfig:
    """Masks of one spectrogram; the defaults are the paper's policy LB without time warping.

    Attributes:
        frequency_masks: Masks over bands.
        frequency_width: A mask covers 0 to so many bands, F in the paper.
        time_masks: Masks over frames.
        time_width: A mask covers 0 to so many frames, T in the paper.
        time_share: Nor does a mask cover more than this share of a sequence, p in the paper.
    """

    frequency_masks: int = 1
    frequency_width: int = 27
    time_masks: int = 1
    time_width: int = 100
    time_share: float = 1.0


def spec_augment(
    spectrogram: jax.Array, paddings: jax.Array, key: jax.Array, config: SpecAugmentConfig
) -> jax.Array:
    """Masks stretches of bands and of frames, others in every sequence.

    What is masked takes the mean of its sequence, as in the paper, whose spectrograms have the
    mean zero.

    Args:
        spectrogram: (batch, frames, bands) float.
        paddings: (batch, frames), 1 where a frame is padding, at the end.
        key: Of the places and widths.
        config: The policy.

    Returns:
        The masked spectrogram, of the same shape and dtype.
    """
    batch, frames, bands = spectrogram.shape
    valid = (1.0 - paddings).astype(spectrogram.dtype)
    lengths = valid.sum(axis=1)
    total = (spectrogram * valid[..., None]).sum(axis=(1, 2))
    mean = total / jnp.maximum(lengths * bands, 1.0)
    of_bands, of_frames = jax.random.split(key)
    in_frequency = _masked(
        of_bands,
        (batch, config.frequency_masks),
        size=bands,
        lengths=jnp.full((batch,), bands, jnp.float32),
        widest=jnp.full((batch,), float(config.frequency_width)),
    )
    in_time = _masked(
        of_frames,
        (batch, config.time_masks),
        size=frames,
        lengths=lengths,
        widest=jnp.minimum(float(config.time_width), config.time_share * lengths),
    )
    masked = in_time[:, :, None] | in_frequency[:, None, :]
    return jnp.where(masked, mean[:, None, None], spectrogram)


def _masked(key, shape, *, size, lengths, widest):
    """(batch, size) whether a place lies in one of the masks, which begin within the length."""
    of_width, of_start = jax.random.split(key)
    widths = jnp.floor(jax.random.uniform(of_width, shape) * (widest[:, None] + 1.0))
    widths = jnp.minimum(widths, lengths[:, None])
    room = lengths[:, None] - widths + 1.0
    starts = jnp.floor(jax.random.uniform(of_start, shape) * room)
    places = jnp.arange(size, dtype=jnp.float32)[None, None]
    inside = (places >= starts[..., None]) & (places < (starts + widths)[..., None])
    return inside.any(axis=1)
