"""The comparison's arms are what they say they are; nothing is trained here."""

import jax
import pytest

from deepaudio import training
from experiments import _optimizer, _transcription, compare_training


@pytest.fixture
@jax.numpy_dtype_promotion("standard")  # flax's batch norm mixes half with float32 statistics
def arms(tmp_path):
    """Configuration, optimizer state and number of parameters of each arm."""
    built = {}
    for name, changes in compare_training.arms(tmp_path).items():
        config = compare_training.configure(changes, "corpus", 100)
        optimizer = _optimizer.make_optimizer(config, lambda: 0.05)
        task = _transcription.make_task(config)
        state = jax.eval_shape(lambda o=optimizer, t=task: training.init_state(t, o, 0))
        size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        built[name] = config, str(jax.tree.structure(state.opt_state)), size
    return built


def test_arms_differ_only_in_what_they_compare(arms):
    techniques = {
        "float32": set(),
        "bfloat16": set(),
        "float16": {"DynamicLossScalingState"},
        "float16 unscaled": set(),
        "sparse 90 %": {"GradualPruningState"},
        "sparse 90 % by rank": {"GradualPruningState"},
        "wide sparse 80 %": {"GradualPruningState"},
        "dense-sparse-dense": {"DenseSparseDenseState"},
    }
    assert arms.keys() == techniques.keys()
    plain = arms["float32"][0]
    for name, (config, state, _) in arms.items():
        known = set.union(*techniques.values())
        assert {kind for kind in known if kind in state} == techniques[name], name
        for setting in ("num_steps", "seed", "batch_size", "num_frames", "augment"):
            assert config[setting] == plain[setting]
        assert config.optimizer.schedule == plain.optimizer.schedule


def test_arms_may_begin_from_a_trained_model(tmp_path):
    config = compare_training.configure({}, "corpus", 100, init_from="dense")
    assert config.init_from == "dense"
    assert compare_training.configure({}, "corpus", 100).init_from is None
    with pytest.raises(ValueError, match="arm 'dens'"):
        compare_training.compare("corpus", tmp_path, 10, names=["dens"])


def test_the_wide_arm_ends_with_as_many_weights_as_the_dense_one(arms):
    config, _, wide = arms["wide sparse 80 %"]
    _, _, dense = arms["float32"]
    assert (1 - config.optimizer.pruning.sparsity) * wide == pytest.approx(dense, rel=0.02)


def test_from_a_trained_model_the_first_dense_phase_is_behind(tmp_path):
    """The network is sparse at once, and dense again while the learning rate falls."""
    known = compare_training.arms(tmp_path, trained=True)
    config = compare_training.configure(known["dense-sparse-dense"], "corpus", 100, "dense")
    settings = config.optimizer.dense_sparse_dense
    assert settings.on and settings.dense == 0.0
    assert settings.sparse == 1.0 - config.optimizer.schedule.decay_share
    others = known.keys() - {"dense-sparse-dense"}
    fresh = compare_training.arms(tmp_path)
    assert all(known[name] == fresh[name] for name in others)
