"""Weights as safetensors files that carry their own configuration."""

import json
from pathlib import Path

import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy

from deepaudio.models import packed

_SHIPPED = Path(__file__).parent.parent / "weights"


class WeightsError(ValueError):
    """A weights file that is missing, damaged or of another shape; one line."""


def shipped_weights() -> dict[str, Path]:
    """The weights inside the package: name to path."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("*.safetensors"))}


def shipped_file(name: str | Path) -> Path:
    """The path of another file that the package ships beside its weights, or of any other file."""
    shipped = _SHIPPED / name
    return shipped if shipped.is_file() else Path(name)


def save_weights(path: str | Path, variables: dict, config: dict) -> None:
    """Writes variables and the configuration that gives them meaning.

    Args:
        path: The file; written beside and renamed, so it is never half a file.
        variables: Nested dict of arrays, e.g. `{"params": …, "batch_stats": …}`; of packed
            matrices in the collection "packed", as `pack_weights` gives it.
        config: What `load_weights` gives back; JSON types only.
    """
    path = Path(path)
    if packed.COLLECTION in variables:
        matrices = packed.encode(variables[packed.COLLECTION])
        variables = {**variables, packed.COLLECTION: matrices}
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    tensors = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    partial = path.with_name(f".{path.name}.partial")
    # Not save_file, which makes files that only their owner can read.
    partial.write_bytes(safetensors.numpy.save(tensors, {"config": json.dumps(config)}))
    partial.replace(path)


def load_weights(name: str | Path) -> tuple[dict, dict]:
    """Reads a weights file.

    Args:
        name: The name of shipped weights, or a path.

    Returns:
        The variables as nested dicts of numpy arrays, float32 where float16 is stored, with packed
        matrices where such are stored; and the configuration.

    Raises:
        WeightsError: There is no such file, or it is not one that `save_weights` wrote.
    """
    path = shipped_weights().get(str(name), Path(name))
    if not path.is_file():
        known = ", ".join(shipped_weights()) or "none"
        raise WeightsError(f"{name}: no such weights file; shipped with the package: {known}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(metadata["config"])
    except (safetensors.SafetensorError, json.JSONDecodeError, OSError) as error:
        raise WeightsError(f"{path}: not a weights file: {error}") from error
    except KeyError as error:
        raise WeightsError(f"{path}: holds no configuration, so was not written here") from error
    flat = {name: _single(array) for name, array in flat.items()}
    variables = flax.traverse_util.unflatten_dict(flat, sep="/")
    if packed.COLLECTION in variables:
        try:
            variables[packed.COLLECTION] = packed.decode(variables[packed.COLLECTION])
        except (ValueError, KeyError) as error:
            raise WeightsError(f"{path}: damaged packed matrices: {error}") from error
    return variables, config


def _single(array):
    return array.astype(np.float32) if array.dtype == np.float16 else array


def check_shapes(variables: dict, expected: dict, name: str | Path) -> None:
    """Checks that variables have exactly the names and shapes that a model expects.

    Args:
        variables: Nested dict of arrays.
        expected: Nested dict of anything with a shape, from `jax.eval_shape` of `init`.
        name: What to call the weights in the error.

    Raises:
        WeightsError: A tensor is missing, is of another shape, or has no place.
    """
    have = flax.traverse_util.flatten_dict(variables, sep="/")
    want = flax.traverse_util.flatten_dict(expected, sep="/")
    for key in sorted(want.keys() | have.keys()):
        if key not in have:
            raise WeightsError(f"{name}: tensor {key} is missing")
        if key not in want:
            raise WeightsError(f"{name}: tensor {key} has no place in the model")
        if have[key].shape != want[key].shape:
            raise WeightsError(
                f"{name}: tensor {key} is {have[key].shape}, the model wants {want[key].shape}"
            )
