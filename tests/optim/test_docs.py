"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import jax
import pytest

from deepaudio import optim

MODULES = [module.name for module in pkgutil.iter_modules(optim.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"deepaudio.optim.{name}")
    # optax's Adam raises a float to an integer power, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        results = doctest.testmod(module)
    assert results.failed == 0


def test_public_factories_have_examples():
    finder = doctest.DocTestFinder(recurse=False)
    for name in ("gradual_pruning", "dense_sparse_dense", "dynamic_loss_scaling"):
        (found,) = finder.find(getattr(optim, name), name)
        assert found.examples, name
