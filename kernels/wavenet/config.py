"""Sizes of the GPU kernel, and how they are chosen."""

import dataclasses

# Sequences that one block goes through together: the rows of a matrix unit's product.
STREAMS = 64
# Rows and columns of the blocks that matrices are cut into.
TILE = 64
# Multiprocessors that a stream may have to itself.
CLUSTER = 8
# Shared memory that a block may take on compute capability 9.0, less what barriers need.
SHARED_BYTES = 232_448 - 3_584


@dataclasses.dataclass(frozen=True)
class KernelConfig:
    """How the GPU kernel cuts its work.

    Attributes:
        gate_slots: Shared-memory slots for the gates' matrices, four tiles each.
        output_slots: Slots for the residual and skip matrices, a row of tiles each.
        head_slots: Slots for the head's matrices.
        head_tiles: Tiles of a head slot.
        samples: Of a launch at most.
        clusters: Whether every stream has a cluster of eight multiprocessors to itself, if the
            network fits there; the slots are then of no use.
    """

    gate_slots: int = 2
    output_slots: int = 2
    head_slots: int = 3
    head_tiles: int = 2
    samples: int = 2048
    clusters: bool = False

    @classmethod
    def choose(
        cls,
        residual: int,
        gate: int,
        skip: int,
        head: int,
        *,
        layers: int,
        streams: int,
        itemsize: int = 2,
        cores: int = 132,
    ) -> "KernelConfig":
        """Sizes by the network's.

        Args:
            residual: Channels between layers, a multiple of 64.
            gate: Channels after the gate, a multiple of 64.
            skip: Channels of the skip connections, a multiple of 64.
            head: Channels of the layer after them, a multiple of 64.
            layers: Of the network.
            streams: Sounds at a time.
            itemsize: Bytes of a weight.
            cores: Multiprocessors of the device.

        Returns:
            Two slots for every layer matrix, the rest of shared memory for the head's; launches
            short enough that their conditioning stays below 4 GB; and clusters for as many streams
            as have one at the same time.
        """
        blocks = -(-streams // STREAMS)
        tile = TILE * TILE * itemsize
        layer = 2 * 4 + 2 * (residual + skip) // TILE + 2 * gate // TILE
        left = SHARED_BYTES // tile - layer
        pairs = left >= 6 and skip % (2 * TILE) == head % (2 * TILE) == 0
        tiles = 2 if pairs else 1
        slots = max(1, min(4, left // tiles))
        sample = blocks * layers * 2 * gate * STREAMS * itemsize
        samples = min(8192, max(64, 4_000_000_000 // sample // 64 * 64))
        clusters = streams <= cores // CLUSTER
        return cls(head_slots=slots, head_tiles=tiles, samples=samples, clusters=clusters)
