"""Inference with pruned matrices (arXiv 1704.05119): a packed format and its products."""

from deepaudio.kernels.sparse._arrays import from_arrays, to_arrays
from deepaudio.kernels.sparse._format import PackedMatrix, lane_inputs, unpack
from deepaudio.kernels.sparse.api import MAX_BATCH, MIN_SPARSITY, matvec, pack, zero_share
from deepaudio.kernels.sparse.config import LANES, KernelConfig, PackConfig

__all__ = [
    "LANES",
    "MAX_BATCH",
    "MIN_SPARSITY",
    "KernelConfig",
    "PackConfig",
    "PackedMatrix",
    "from_arrays",
    "lane_inputs",
    "matvec",
    "pack",
    "to_arrays",
    "unpack",
    "zero_share",
]
