"""Weights files come back as they were; anything else is an error, never random weights."""

import numpy as np
import pytest

from deepaudio.models import WeightsError, load_weights, save_weights
from deepaudio.models.weights import check_shapes

VARIABLES = {"params": {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}}


def test_round_trip(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, VARIABLES, {"size": [1, 2], "nested": {"name": "x"}})
    variables, config = load_weights(path)
    np.testing.assert_array_equal(
        variables["params"]["a"]["kernel"], VARIABLES["params"]["a"]["kernel"]
    )
    assert config == {"size": [1, 2], "nested": {"name": "x"}}
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_missing_file_names_what_there_is():
    with pytest.raises(WeightsError, match="nowhere: no such weights file; shipped"):
        load_weights("nowhere")


def test_damaged_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, VARIABLES, {})
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(WeightsError, match="not a weights file"):
        load_weights(path)


def test_foreign_file(tmp_path):
    import safetensors.numpy

    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(3)}, path)
    with pytest.raises(WeightsError, match="no configuration"):
        load_weights(path)


@pytest.mark.parametrize(
    ("have", "message"),
    [
        ({"a": np.zeros((2, 3))}, "b is missing"),
        ({"a": np.zeros((2, 3)), "b": np.zeros(4), "c": np.zeros(1)}, "c has no place"),
        ({"a": np.zeros((3, 2)), "b": np.zeros(4)}, r"a is \(3, 2\), the model wants \(2, 3\)"),
    ],
)
def test_shapes_must_fit(have, message):
    expected = {"a": np.zeros((2, 3)), "b": np.zeros(4)}
    check_shapes(expected, expected, "model")
    with pytest.raises(WeightsError, match=f"model: tensor {message}"):
        check_shapes(have, expected, "model")
