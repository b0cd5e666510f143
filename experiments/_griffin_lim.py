"""Sound from a mel by Griffin and Lim's algorithm, with librosa: the baseline of vocoders."""

import numpy as np

from deepaudio import audio


def griffin_lim(
    mel: np.ndarray, convention: audio.MelConvention, *, iterations: int = 32, seed: int = 0
) -> np.ndarray:
    """The sound whose mel comes near to that given, aligned with its frames.

    Non-negative least squares give the spectrum, and the fast Griffin-Lim algorithm its phases.

    Args:
        mel: (frames, n_mels) log-mel by the convention.
        convention: How the mel was made.
        iterations: Of Griffin-Lim.
        seed: Of the first phases.

    Returns:
        (frames·hop_length,) float32 at the convention's rate.

    Raises:
        ImportError: librosa is not installed.
        ValueError: The mel is not one of the convention.

    Source: Perraudin, Balazs and Søndergaard, "A fast Griffin-Lim algorithm", WASPAA 2013.
    """
    try:
        import librosa
    except ImportError as error:
        raise ImportError(
            f"Griffin-Lim needs librosa: pip install 'deepaudio[voice]' ({error})"
        ) from error
    mel = audio.check_mel(mel, convention).astype(np.float64)
    values = np.exp(mel) if convention.logarithm == "natural" else 10.0**mel
    magnitudes = librosa.feature.inverse.mel_to_stft(
        values.T,
        sr=convention.sample_rate,
        n_fft=convention.n_fft,
        power=convention.power,
        fmin=convention.f_min,
        fmax=convention.f_max,
    )
    is_centred = convention.padding == "centred"
    # Of frames that are not centred, the first begins in the reflected padding.
    before = 0 if is_centred else (convention.n_fft - convention.hop_length) // 2
    if is_centred:
        # The last frame's middle is a hop before the end; one more reaches it.
        magnitudes = np.pad(magnitudes, ((0, 0), (0, 1)), mode="edge")
    samples = librosa.griffinlim(
        magnitudes,
        n_iter=iterations,
        hop_length=convention.hop_length,
        win_length=convention.win_length,
        n_fft=convention.n_fft,
        center=is_centred,
        pad_mode="reflect",
        rng=np.random.default_rng(seed),
    )
    return samples[before : before + len(mel) * convention.hop_length].astype(np.float32)
