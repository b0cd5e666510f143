"""Packed matrices as plain arrays for a file, and back, with what a file may hold checked."""

from collections.abc import Mapping

import numpy as np

from deepaudio.kernels.sparse import _format
from deepaudio.kernels.sparse._format import PackedMatrix
from deepaudio.kernels.sparse.config import LANES, PackConfig

_VALUES = "values_"
_DTYPES = ("bfloat16", "float16")


def to_arrays(packed: PackedMatrix) -> dict[str, np.ndarray]:
    """What a file needs to keep of a packed matrix.

    Args:
        packed: Of `pack`.

    Returns:
        `values_bfloat16` or `values_float16` (blocks, steps, 256) uint16, the values' bits, as
        not every reader knows bfloat16; `deltas`; `pages`; `num_lanes` (outputs,) uint16; and
        `inputs` (1,) int32. The rest follows from these.
    """
    values = np.asarray(packed.values)
    return {
        _VALUES + values.dtype.name: values.view(np.uint16),
        "deltas": np.asarray(packed.deltas),
        "pages": np.asarray(packed.pages),
        "num_lanes": np.asarray(packed.num_lanes)[: packed.outputs].astype(np.uint16),
        "inputs": np.array([packed.inputs], np.int32),
    }


def from_arrays(arrays: Mapping[str, np.ndarray]) -> PackedMatrix:
    """The inverse of `to_arrays`.

    Args:
        arrays: As that function gives them, perhaps from a damaged file.

    Returns:
        The packed matrix; every index in it is inside its array.

    Raises:
        ValueError: An array is missing or has no place, shapes or dtypes do not fit each other, or
            an index lies outside.
    """
    kinds = [dtype for dtype in _DTYPES if _VALUES + dtype in arrays]
    wanted = {*(_VALUES + kind for kind in kinds), "deltas", "pages", "num_lanes", "inputs"}
    if len(kinds) != 1 or set(arrays) != wanted:
        raise ValueError(f"the arrays {', '.join(sorted(arrays))} are no packed matrix")
    bits, deltas, pages = arrays[_VALUES + kinds[0]], arrays["deltas"], arrays["pages"]
    num_lanes = np.asarray(arrays["num_lanes"], np.int64)
    _check_layout(bits, deltas, pages, num_lanes, arrays["inputs"])
    first_lanes, block_outputs = _format.place_lanes(num_lanes)
    if len(block_outputs) - 1 != len(bits):
        raise ValueError(f"outputs of {len(block_outputs) - 1} blocks, but values of {len(bits)}")
    packed = _format.assemble(
        np.ascontiguousarray(bits).view(kinds[0]),
        deltas,
        pages,
        first_lanes,
        num_lanes,
        block_outputs,
        inputs=int(arrays["inputs"][0]),
    )
    furthest = int(_format.lane_inputs(packed).max())
    if furthest >= packed.inputs:
        raise ValueError(f"a value of input {furthest}, of {packed.inputs}")
    return packed


def _check_layout(bits, deltas, pages, num_lanes, inputs):
    blocks, steps = bits.shape[:2] if bits.ndim == 3 else (0, 0)
    PackConfig(steps)
    for name, array, shape, dtype in (
        ("values", bits, (blocks, steps, LANES), np.uint16),
        ("deltas", deltas, (blocks, steps, LANES), np.uint8),
        ("pages", pages, (blocks, LANES), np.uint8),
        ("inputs", inputs, (1,), np.int32),
    ):
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{name} must be {shape} {np.dtype(dtype)}, not {array.shape} {array.dtype}"
            )
    if num_lanes.ndim != 1 or not num_lanes.size or num_lanes.min() < 1 or num_lanes.max() > LANES:
        raise ValueError(f"num_lanes must be (outputs,) of 1 to {LANES}")
