"""Sizes of tiles, and how they are chosen."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TileConfig:
    """How the plain implementation cuts its work.

    Attributes:
        targets: Of a tile.
        sources: That a tile meets at a time.
        group: Sources whose sum is taken apart, a multiple of `sources`.
    """

    targets: int
    sources: int
    group: int

    @classmethod
    def for_cpu(cls) -> "TileConfig":
        """A tile whose pairs (16 KiB in float32) and bodies stay in a first cache of 32 KiB."""
        return cls(targets=512, sources=8, group=512)

    @classmethod
    def for_accelerator(cls) -> "TileConfig":
        """Enough pairs at a time to fill a chip, few enough that they stay in its caches."""
        return cls(targets=4096, sources=32, group=2048)


@dataclasses.dataclass(frozen=True)
class KernelConfig:
    """How the GPU kernel cuts its work.

    Attributes:
        targets: Of a block of 128 lanes, a multiple of 128.
        sources: Copied to shared memory at a time.
        splits: Blocks that share the sources of the same targets.
        unroll: Sources in the innermost loop's body.
        vector: Neighbouring targets in a lane.
    """

    targets: int = 512
    sources: int = 256
    splits: int = 1
    unroll: int = 8
    vector: int = 4

    @classmethod
    def choose(cls, size: int, count: int, *, cores: int = 132) -> "KernelConfig":
        """Sizes by the number of bodies.

        Args:
            size: Targets.
            count: Sources.
            cores: Multiprocessors of the device.

        Returns:
            Four targets a lane where that leaves enough blocks, else fewer; sources split until
            every multiprocessor has several blocks.
        """
        lanes = 4
        while lanes > 1 and size < 128 * lanes * cores // 4:
            lanes //= 2
        blocks = -(-size // (128 * lanes))
        # Eight blocks for every multiprocessor, each with a few chunks at least.
        wanted = -(-8 * cores // blocks)
        splits = max(1, min(wanted, count // 1024))
        return cls(targets=128 * lanes, splits=splits, vector=lanes)
