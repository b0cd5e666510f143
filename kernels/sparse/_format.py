"""The packed format of unstructured sparse matrices: 16-bit values and 8-bit steps between them.

An output's nonzeros, in the order of their inputs, are cut into **lanes** of equally many, the last
one filled up with zeros. A lane is what one thread or vector element goes through by itself: it
holds a value and a step onwards for each nonzero. So lanes are alike however uneven the outputs
are, and nothing is looked up but the vector. Lanes come in **blocks** of 256, no output in two.

Why short deltas, at 90 % and 95 % sparsity (bytes a nonzero, lanes' ends left out; instructions to
find its input):

    16-bit inputs     2 + 2 = 4.00, 4.00; one, to take it out of its word
    bitmask           2 + 1.25 = 3.25, 2 + 2.50 = 4.50; four in a row: find the lowest bit, clear
                      it, add, and test for the end of a word
    4-bit deltas      3.07, 4.46 with the zeros that bridge longer gaps; three
    8-bit deltas      3.03, 3.06; two: take it out, add. A gap over 255, which needs a zero to
                      bridge it, has a chance of 2e-6 at 95 % (8 % at 99 %)

So 8-bit deltas are the smallest where it counts and nearly the fastest to read.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.kernels.sparse.config import BLOCK_OUTPUTS, LANES, MAX_DELTA, PackConfig

_PAGE = MAX_DELTA + 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedMatrix:
    """A sparse (inputs, outputs) matrix; `pack` makes it. A pytree of arrays, so `jit` takes it.

    The nonzero of step k of a lane belongs to input 256 * page + the sum of deltas 0 to k.

    Attributes:
        values: (blocks, steps, 256) bfloat16 or float16.
        deltas: (blocks, steps, 256) uint8, inputs from the nonzero before.
        pages: (blocks, 256) uint8, where a lane begins.
        first_lanes: (outputs + 128,) int32, the first lane of every output, counted over all
            blocks; zeros at the end, so that a block may read 128 of any.
        num_lanes: (outputs + 128,) int32, lanes of every output, at least 1.
        block_outputs: (blocks + 1,) int32, the first output of every block, and their number.
        block_lanes: (blocks,) int32, the most lanes of an output in each block.
        inputs: Length of the vectors it is multiplied with.
        outputs: Length of the products.
        most_lanes: The most lanes of an output.
    """

    values: jax.Array
    deltas: jax.Array
    pages: jax.Array
    first_lanes: jax.Array
    num_lanes: jax.Array
    block_outputs: jax.Array
    block_lanes: jax.Array
    inputs: int = dataclasses.field(metadata={"static": True})
    outputs: int = dataclasses.field(metadata={"static": True})
    most_lanes: int = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """(inputs, outputs)."""
        return self.inputs, self.outputs

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))


def pack_values(values: np.ndarray, config: PackConfig | None) -> PackedMatrix:
    """Packs a matrix whose values have their 16-bit dtype already.

    Args:
        values: (inputs, outputs) bfloat16 or float16, finite, at most 65536 inputs.
        config: Sizes; None for a choice by the nonzeros of every output.

    Returns:
        The packed matrix.

    Raises:
        ValueError: An output has more nonzeros than a block of lanes of this many steps.
    """
    inputs, outputs = values.shape
    owner, place, entries = _entries(values)
    counts = np.bincount(owner, minlength=outputs)
    steps = (config or PackConfig.choose(counts)).steps
    if counts.max() > steps * LANES:
        raise ValueError(f"{steps=} must be at least {-(-counts.max() // LANES)} for this matrix")
    num_lanes = np.maximum(-(-counts // steps), 1)
    first_lanes, block_outputs = place_lanes(num_lanes)
    blocks = len(block_outputs) - 1

    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    lane, step = first_lanes[owner] + number // steps, number % steps
    begins = step == 0
    delta = np.diff(place, prepend=0)
    delta[begins] = place[begins] % _PAGE
    arrays = {
        "values": np.zeros((blocks * LANES, steps), values.dtype),
        "deltas": np.zeros((blocks * LANES, steps), np.uint8),
    }
    arrays["values"][lane, step] = entries
    arrays["deltas"][lane, step] = delta
    pages = np.zeros(blocks * LANES, np.uint8)
    pages[lane[begins]] = place[begins] // _PAGE
    return assemble(
        **{name: _by_block(array, steps) for name, array in arrays.items()},
        pages=pages.reshape(blocks, LANES),
        first_lanes=first_lanes,
        num_lanes=num_lanes,
        block_outputs=block_outputs,
        inputs=inputs,
    )


def assemble(
    values: np.ndarray,
    deltas: np.ndarray,
    pages: np.ndarray,
    first_lanes: np.ndarray,
    num_lanes: np.ndarray,
    block_outputs: np.ndarray,
    *,
    inputs: int,
) -> PackedMatrix:
    """A packed matrix of its arrays, with what follows from them.

    Args:
        values: As `PackedMatrix` has them.
        deltas: Likewise.
        pages: Likewise.
        first_lanes: (outputs,), as `place_lanes` gives it.
        num_lanes: (outputs,).
        block_outputs: (blocks + 1,), as `place_lanes` gives it.
        inputs: Length of a vector.
    """
    return PackedMatrix(
        values=jnp.asarray(values),
        deltas=jnp.asarray(deltas),
        pages=jnp.asarray(pages),
        first_lanes=_padded(first_lanes),
        num_lanes=_padded(num_lanes),
        block_outputs=jnp.asarray(block_outputs, jnp.int32),
        block_lanes=jnp.asarray(np.maximum.reduceat(num_lanes, block_outputs[:-1]), jnp.int32),
        inputs=inputs,
        outputs=len(num_lanes),
        most_lanes=int(num_lanes.max()),
    )


def _entries(values):
    """Output, input and value of every nonzero in order, with zeros to bridge gaps over 255."""
    columns = values.T
    owner, place = np.nonzero(columns)
    entries = columns[owner, place]
    gap = np.diff(place, prepend=0)
    same = np.diff(owner, prepend=-1) == 0
    bridges = np.where(same, (gap - 1) // MAX_DELTA, 0)
    copies = bridges + 1
    # Of an entry's copies the last is itself; those before stand 255 inputs apart.
    back = np.repeat(np.cumsum(copies) - 1, copies) - np.arange(copies.sum())
    start = np.repeat(place - gap, copies)
    rank = np.repeat(copies, copies) - back
    place = np.where(back > 0, start + MAX_DELTA * rank, np.repeat(place, copies))
    entries = np.where(back > 0, np.zeros_like(entries[:1]), np.repeat(entries, copies))
    return np.repeat(owner, copies), place, entries


def place_lanes(num_lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Puts outputs into blocks in order, none of them into two.

    Args:
        num_lanes: (outputs,) lanes of every output, from 1 to 256.

    Returns:
        (outputs,) first lane of every output, and (blocks + 1,) first output of every block and
        the number of outputs.
    """
    first_lanes = np.zeros(len(num_lanes), np.int64)
    starts, lane = [0], 0
    for output, count in enumerate(num_lanes.tolist()):
        full = lane + count > len(starts) * LANES
        if full or output - starts[-1] == BLOCK_OUTPUTS:
            lane = len(starts) * LANES
            starts.append(output)
        first_lanes[output] = lane
        lane += count
    return first_lanes, np.array([*starts, len(num_lanes)])


def _by_block(array, steps):
    return array.reshape(-1, LANES, steps).swapaxes(1, 2)


def _padded(array):
    return jnp.asarray(np.pad(array, (0, BLOCK_OUTPUTS)), jnp.int32)


def unpack(packed: PackedMatrix) -> np.ndarray:
    """The dense matrix again.

    Args:
        packed: Of `pack`.

    Returns:
        (inputs, outputs) float32, exactly the 16-bit values.
    """
    values = np.asarray(packed.values, np.float32)
    places = lane_inputs(packed)
    owner = np.zeros(values.shape[0] * LANES, np.int64)
    first, count = (
        np.asarray(array)[: packed.outputs] for array in (packed.first_lanes, packed.num_lanes)
    )
    for output, (lane, lanes) in enumerate(zip(first.tolist(), count.tolist(), strict=True)):
        owner[lane : lane + lanes] = output
    owner = np.broadcast_to(owner.reshape(-1, 1, LANES), values.shape)
    dense = np.zeros(packed.shape, np.float32)
    kept = values != 0
    dense[places[kept], owner[kept]] = values[kept]
    return dense


def lane_inputs(packed: PackedMatrix) -> np.ndarray:
    """(blocks, steps, 256) int64, the input of every step of every lane."""
    pages = np.asarray(packed.pages, np.int64)[:, None]
    return _PAGE * pages + np.cumsum(np.asarray(packed.deltas, np.int64), axis=1)
