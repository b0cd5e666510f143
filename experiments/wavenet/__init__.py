"""Sequential generation by a WaveNet: what its kernels cost."""
