"""Optax transformations of three training papers: mixed precision, gradual pruning, DSD."""

from deepaudio.optim._apply_masks import apply_masks
from deepaudio.optim._chain import make_optimizer
from deepaudio.optim._dense_sparse_dense import DenseSparseDenseState, dense_sparse_dense
from deepaudio.optim._gradual_pruning import (
    GradualPruningState,
    estimate_q,
    gradual_pruning,
    pruning_threshold,
)
from deepaudio.optim._loss_scaling import (
    DynamicLossScalingState,
    dynamic_loss_scaling,
    scale_loss,
)
from deepaudio.optim._masks import Block, NOfM
from deepaudio.optim._policy import Policy
from deepaudio.optim._report import sparsity_report
from deepaudio.optim._selection import Where, matrices, path_names

__all__ = [
    "Block",
    "DenseSparseDenseState",
    "DynamicLossScalingState",
    "GradualPruningState",
    "NOfM",
    "Policy",
    "Where",
    "apply_masks",
    "dense_sparse_dense",
    "dynamic_loss_scaling",
    "estimate_q",
    "gradual_pruning",
    "make_optimizer",
    "matrices",
    "path_names",
    "pruning_threshold",
    "scale_loss",
    "sparsity_report",
]
