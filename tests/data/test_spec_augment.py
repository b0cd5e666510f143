import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.data.spec_augment import SpecAugmentConfig, spec_augment


def masked(config, *, frames=60, bands=20, lengths=(60, 30), seed=0):
    """What the masks cover, of a spectrogram of ones with a little noise, whose mean is about 1."""
    rng = np.random.default_rng(0)
    spectrogram = jnp.asarray(rng.normal(1, 0.1, (len(lengths), frames, bands)), jnp.float32)
    paddings = jnp.asarray(np.arange(frames) >= np.asarray(lengths)[:, None], jnp.float32)
    spectrogram = spectrogram * (1 - paddings[..., None])
    result = spec_augment(spectrogram, paddings, jax.random.key(seed), config)
    return np.asarray(result != spectrogram), spectrogram, result


def test_masks_are_whole_stretches_of_frames_and_of_bands():
    config = SpecAugmentConfig(
        frequency_masks=2, frequency_width=6, time_masks=2, time_width=10, time_share=0.5
    )
    seen = set()
    for seed in range(8):
        covered, _, _ = masked(config, seed=seed)
        for row, length in enumerate((60, 30)):
            inside = covered[row, :length]
            frames, bands = inside.all(axis=1), inside.all(axis=0)
            np.testing.assert_array_equal(inside, frames[:, None] | bands[None, :])
            assert frames.sum() <= 20 and bands.sum() <= 12
            # No mask of frames is wider than half of its sequence or begins in padding.
            assert not covered[row, length:][:, ~bands].any()
            seen.add((frames.sum() > 0, bands.sum() > 0))
    assert (True, True) in seen


def test_what_is_masked_is_the_mean_of_its_sequence():
    config = SpecAugmentConfig(frequency_masks=1, frequency_width=20, time_masks=0)
    covered, before, after = masked(config, seed=3)
    for row, length in enumerate((60, 30)):
        mean = before[row, :length].mean()
        np.testing.assert_allclose(np.asarray(after[row])[covered[row]], mean, rtol=1e-5)


def test_no_masks_change_nothing():
    config = SpecAugmentConfig(frequency_masks=0, time_masks=0)
    assert not masked(config)[0].any()


def test_each_sequence_has_its_own_masks():
    covered, _, _ = masked(SpecAugmentConfig(), lengths=(60, 60))
    assert (covered[0] != covered[1]).any()
