"""Sizes of the packed format and of the GPU kernel, and how they are chosen."""

import dataclasses

import numpy as np

# A block's lanes, and the outputs it may hold: one GPU thread adds up the lanes of one output.
LANES, BLOCK_OUTPUTS = 256, 128
# The most that a byte can step onwards, and what two bytes can reach.
MAX_DELTA, MAX_INPUTS = 255, 65536
_STEPS = (4, 8, 16, 32, 64, 128, 256)
# Bytes of a nonzero (value, delta), of a lane (page of its first input), and of a lane's sum,
# which is written and read again.
_NONZERO_BYTES, _LANE_BYTES, _SUM_BYTES = 3, 1, 4


@dataclasses.dataclass(frozen=True)
class PackConfig:
    """How a matrix is packed.

    Attributes:
        steps: Nonzeros in a lane, a power of two from 4 to 256.
    """

    steps: int

    def __post_init__(self):
        """Refuses what the format does not hold.

        Raises:
            ValueError: `steps` is not a power of two from 4 to 256.
        """
        if self.steps not in _STEPS:
            raise ValueError(f"steps={self.steps} must be a power of two from 4 to 256")

    @classmethod
    def choose(cls, nonzeros: np.ndarray) -> "PackConfig":
        """The number of steps up to 32 for the fewest bytes moved.

        Short lanes waste little at the end of an output, long ones have fewer sums. Over 32, lanes
        would be too few to keep a GPU busy: 7680 x 2560 at 90 % has 500 warps of them at 32.

        Args:
            nonzeros: (outputs,) integers, entries of every output.

        Returns:
            The choice, such that an output's lanes fit into a block.
        """
        fitting = [steps for steps in _STEPS if nonzeros.max() <= steps * LANES]
        short = [steps for steps in fitting if steps <= 32] or fitting[:1]
        return cls(min(short, key=lambda steps: _bytes_moved(nonzeros, steps)))


def _bytes_moved(nonzeros, steps):
    lanes = np.maximum(-(-nonzeros // steps), 1)
    # However full its lanes are, a block holds no more than so many outputs.
    blocks = max(int(lanes.sum()) / LANES, len(lanes) / BLOCK_OUTPUTS)
    return blocks * LANES * (_NONZERO_BYTES * steps + _LANE_BYTES + _SUM_BYTES)


@dataclasses.dataclass(frozen=True)
class KernelConfig:
    """How the GPU kernel cuts a block's work.

    Attributes:
        chunk: Steps that one bulk copy brings, all of them unrolled.
        vector: Neighbouring lanes in a thread.
    """

    chunk: int = 8
    vector: int = 2

    @classmethod
    def choose(cls, steps: int) -> "KernelConfig":
        """Sizes by the steps of a lane.

        Args:
            steps: A power of two.

        Returns:
            Chunks small enough that the first is worked on while the others are under way.
        """
        return cls(chunk=min(steps, 8))
