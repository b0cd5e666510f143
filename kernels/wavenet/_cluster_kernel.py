"""The body of the GPU kernel for one stream: eight blocks that pass the sample on.

The layers are shared out among a cluster of eight blocks, in order. A block's matrices stay on
its multiprocessor for the whole launch: those that a sample waits for in registers, the others in
shared memory. A sample visits the blocks one after another (phases); a block that it has left adds
up its skip connections, and prepares the next sample's products with the past. The last four blocks
hold the head, the first draws.

Vectors are matrices of eight equal columns, the least that the matrix units multiply.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from deepaudio.kernels.wavenet.config import CLUSTER as BLOCKS
from deepaudio.kernels.wavenet.config import TILE

# The first block of the head's; it has a block for each tile of outputs.
HEAD = 4
_COLUMNS = (TILE, 8)
# Vectors are drawn from in this many numbers at least, one for every lane.
_LANES = 128


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the network in tiles of 64 channels, and of the launch.

    Attributes:
        layers: Dilated layers.
        skip: Tiles of the skip connections.
        head: Tiles of the layer after them.
        parameters: Tiles of the outputs.
        choices: Numbers among which a sample is drawn.
        mu_law: Whether the outputs are codes' logits, not a mixture of logistics.
        samples: Of the launch.
        debug: Whether the outputs are written as well.
        interpreted: Whether the kernel runs in Pallas's interpreter.
        dtype: Of the matrices.
    """

    layers: int
    skip: int
    head: int
    parameters: int
    choices: int
    mu_law: bool
    samples: int
    debug: bool
    interpreted: bool
    dtype: Any

    @property
    def depth(self) -> int:
        """Layers of a block at most."""
        return self.depths[0]

    @property
    def depths(self) -> tuple[int, ...]:
        """Layers of each block; earlier ones have more."""
        least, more = divmod(self.layers, BLOCKS)
        return tuple(least + (place < more) for place in range(BLOCKS))

    @property
    def head_start(self) -> int:
        """Where the head's tiles begin on the shelf of its blocks."""
        return self.depths[HEAD] * (2 + self.skip)

    @property
    def shelf(self) -> int:
        """Tiles that a block has in shared memory."""
        return max(self.depth * (2 + self.skip), self.head_start + self.skip + self.head)

    def past_tile(self, layer: int, half: int) -> int:
        """Where a past tap's half lies on the shelf."""
        return layer * (2 + self.skip) + half

    def skip_tile(self, layer: int, tile: int) -> int:
        """Where a tile of a skip connection lies on the shelf."""
        return layer * (2 + self.skip) + 2 + tile


class Inputs(NamedTuple):
    """Arrays in global memory; T is 64, B the eight blocks, D the layers of a block at most.

    Matrices are outputs by inputs.

    Attributes:
        places: (3, B, D) int32: whether there is such a layer, its dilation, where its ring begins.
        count: (1,) int32, samples generated before.
        temperature: (1,) float32.
        entry: (256, T) codes' vectors, or (2, T) factors and offsets; float32.
        now: (B, D, 2, T, T) filters' present taps.
        residual: (B, D, T, T).
        matrices: (B, shelf, T, T) for shared memory: of each layer the filter's past taps and the
            skip connection's tiles; then of the head's blocks a row of tiles of both its layers.
        residual_bias: (B, D, T) float32.
        skip_bias: (4, T) float32.
        head_bias: (4, T) float32.
        parameters_bias: (4, T) float32.
        conditioning: (streams, samples, B, D, 2, T).
        chances: (streams, samples, 2) float32: uniform numbers, and logistic ones.
        before: (streams,) float32, the codes or samples before the first.
        ring: (entries, streams, T, 8), read and written.
    """

    places: Any
    count: Any
    temperature: Any
    entry: Any
    now: Any
    residual: Any
    matrices: Any
    residual_bias: Any
    skip_bias: Any
    head_bias: Any
    parameters_bias: Any
    conditioning: Any
    chances: Any
    before: Any
    ring: Any


class Memory(NamedTuple):
    """Shared memory of a block.

    Attributes:
        matrices: (shelf, T, T).
        sums: (2 D, T, 8) float32: before the gates, all but the present tap.
        hidden: (D, T, 8) inputs of the layers, now or as the past tap sees them.
        gated: (D, T, 8) what the gates let through.
        rectified: (4, T, 8) inputs of the head's products.
        mail: (T, 8) float32 for each letter, what other blocks read.
        table: (256,) float32, the outputs, for drawing.
        loaded: Barrier of the copy of the matrices.
        turn: Cluster barrier.
    """

    matrices: Any
    sums: Any
    hidden: Any
    gated: Any
    rectified: Any
    mail: Any
    table: Any
    loaded: Any
    turn: Any


# Letters: what goes on to the next block; the rectified sum of the skip connections; the layer
# after them; the outputs; and then the block's own share of the skip connections.
_ON, _RECTIFIED, _HEAD, _PARAMETERS, _SKIPS = range(5)


def letters(shape: Shape) -> int:
    """Columns that other blocks read of a block."""
    return _SKIPS + shape.skip


def shared_bytes(shape: Shape) -> int:
    """Bytes of what `scratch` asks for, but for barriers."""
    column = TILE * 8
    halves = 2 * shape.depth + 4
    singles = 2 * shape.depth + letters(shape)
    matrices = (shape.shelf * TILE * TILE + halves * column) * jnp.dtype(shape.dtype).itemsize
    return matrices + 4 * (singles * column + 4 * TILE)


def scratch(shape: Shape) -> Memory:
    """The kernel's shared memory."""
    row = 128 // jnp.dtype(shape.dtype).itemsize
    transforms = (plgpu.TilingTransform((8, row)), plgpu.SwizzleTransform(128))

    def columns(number, dtype=jnp.float32):
        return plgpu.SMEM((number, *_COLUMNS), dtype)

    return Memory(
        matrices=plgpu.SMEM((shape.shelf, TILE, TILE), shape.dtype, transforms=transforms),
        sums=columns(2 * shape.depth),
        hidden=columns(shape.depth, shape.dtype),
        gated=columns(shape.depth, shape.dtype),
        rectified=columns(4, shape.dtype),
        mail=[plgpu.SMEM(_COLUMNS, jnp.float32) for _ in range(letters(shape))],
        table=plgpu.SMEM((4 * TILE,), jnp.float32),
        loaded=plgpu.Barrier(),
        turn=plgpu.ClusterBarrier(collective_axes=("place",)),
    )


class _Kept(NamedTuple):
    """What a block keeps of a layer in registers.

    Attributes:
        there: Whether there is such a layer.
        now: Matrices of the present tap, for tanh and for the sigmoid.
        residual: Matrix.
    """

    there: Any
    now: Any
    residual: Any


class _Block:
    """A block's work, step by step."""

    def __init__(self, shape, inputs, memory, post):
        """Finds out which block this is.

        Args:
            shape: Sizes.
            inputs: Global memory.
            memory: Shared memory.
            post: (streams, B, letters, T, 8) global memory, in place of `memory.mail` where other
                blocks' shared memory cannot be read; else None.
        """
        self.shape, self.inputs, self.memory, self._post = shape, inputs, memory, post
        self.place, self.stream = lax.axis_index("place"), lax.axis_index("stream")
        layout = plgpu.Layout
        self._left, self._right = layout.MMA_LHS(shape.dtype), layout.MMA_RHS(shape.dtype)
        self._sum = layout.MMA_ACC(shape.dtype)

    def own(self, letter):
        """What others read of this block."""
        if self.shape.interpreted:
            return self._post.at[self.stream, self.place, letter]
        return self.memory.mail[letter]

    def read(self, place, letter):
        """What another block has written: (T, 8) float32."""
        if self.shape.interpreted:
            return self._load(self._post.at[self.stream, place, letter])
        return self._load(plgpu.cluster_ref(self.memory.mail[letter], {"place": place}))

    def next_turn(self):
        """Waits for all blocks of the cluster."""
        plgpu.commit_smem()
        plgpu.barrier_arrive(self.memory.turn)
        plgpu.barrier_wait(self.memory.turn)

    def keep_matrices(self):
        """Loads all of the block's matrices."""
        inputs, memory, place = self.inputs, self.memory, self.place
        plgpu.copy_gmem_to_smem(inputs.matrices.at[place], memory.matrices, memory.loaded)
        self.kept = [
            _Kept(
                inputs.places[0, place, layer],
                [self._halves(inputs.now.at[place, layer, half]) for half in range(2)],
                self._halves(inputs.residual.at[place, layer]),
            )
            for layer in range(self.shape.depth)
        ]
        plgpu.barrier_wait(memory.loaded)

    def past(self, layer, t):
        """What the past and the conditioning add before a layer's gates at sample t."""
        inputs, memory = self.inputs, self.memory

        @pl.when(self.kept[layer].there > 0)
        def _():
            column = memory.hidden.at[layer]
            column[...] = self._load(self._ring(layer, t))
            right = self._right_side(column)
            for half in range(2):
                given = inputs.conditioning.at[self.stream, t, self.place, layer, half]
                matrix = memory.matrices.at[self.shape.past_tile(layer, half)]
                memory.sums[2 * layer + half] = self._product(
                    self._spread(self._vector(given)), self._matrix(matrix), right
                )

    def chain(self, before):
        """Takes a sample through the block's layers."""
        for tile in range(self.shape.skip):
            self.own(_SKIPS + tile)[...] = self._zeros()
        hidden = lax.cond(
            self.place == 0,
            lambda: self._enter(before),
            lambda: self.read(lax.max(self.place - 1, 0), _ON),
        )
        for layer, kept in enumerate(self.kept):
            hidden = lax.cond(
                kept.there > 0,
                lambda hidden, layer=layer: self._layer(layer, hidden),
                lambda hidden: hidden,
                hidden,
            )
        self.own(_ON)[...] = hidden

    def _layer(self, layer, hidden):
        memory, kept = self.memory, self.kept[layer]
        bias = self._vector(self.inputs.residual_bias.at[self.place, layer])
        memory.hidden[layer] = hidden.astype(self.shape.dtype)
        sums = [self._load(memory.sums.at[2 * layer + half]) for half in range(2)]
        right = self._right_halves(memory.hidden.at[layer])
        wave, gate = (
            self._quick_product(total, matrices, right)
            for total, matrices in zip(sums, kept.now, strict=True)
        )
        # The sigmoid by a tanh, which is one instruction.
        gated = jnp.tanh(wave) * (0.5 + 0.5 * jnp.tanh(0.5 * gate))
        memory.gated[layer] = gated.astype(self.shape.dtype)
        hidden = hidden + self._spread(bias)
        right = self._right_halves(memory.gated.at[layer])
        return self._quick_product(hidden, kept.residual, right)

    def skip(self, layer, t):
        """What nobody waits for: a layer's skip connection, and its input for samples to come."""
        skips, memory = self.shape.skip, self.memory

        @pl.when(self.kept[layer].there > 0)
        def _():
            right = self._right_side(memory.gated.at[layer])
            for tile in range(skips):
                own = self.own(_SKIPS + tile)
                matrix = self._matrix(memory.matrices.at[self.shape.skip_tile(layer, tile)])
                own[...] = self._product(self._load(own), matrix, right)
            self._ring(layer, t)[...] = self._load(memory.hidden.at[layer])

    def head(self, t, ahead, parameters):
        """From the shares of the skip connections to the outputs.

        Args:
            t: Sample.
            ahead: What the blocks that have no part in a step do meanwhile, given its number.
            parameters: (streams, samples, 4, T) float32 where the outputs are written, or None.
        """
        shape, inputs, memory = self.shape, self.inputs, self.memory
        start = shape.head_start

        def rectify(mine):
            for tile in range(shape.skip):

                @pl.when(mine == tile)
                def _(tile=tile):
                    bias = self._spread(self._vector(inputs.skip_bias.at[tile]))

                    # A loop, lest eight addresses take registers for good.
                    def add(half, total):
                        places = [half * (BLOCKS // 2) + number for number in range(BLOCKS // 2)]
                        return sum((self.read(place, _SKIPS + tile) for place in places), total)

                    self.own(_RECTIFIED)[...] = jnp.maximum(lax.fori_loop(0, 2, add, bias), 0.0)

        def dense(tile, start, bias, number, letter):
            total = self._spread(self._vector(bias.at[tile]))
            found = [self.read(HEAD + source, letter) for source in range(number)]
            for source, column in enumerate(found):
                memory.rectified[source] = column.astype(shape.dtype)
            # Two sums side by side, as each product waits for its sum's last.
            totals = [total, self._zeros()]
            for source in range(number):
                right = self._right_side(memory.rectified.at[source])
                matrix = self._matrix(memory.matrices.at[start + source])
                totals[source % 2] = self._product(totals[source % 2], matrix, right)
            return totals[0] + totals[1]

        def layer(tile):
            total = dense(tile, start, inputs.head_bias, shape.skip, _RECTIFIED)
            self.own(_HEAD)[...] = jnp.maximum(total, 0.0)

        def outputs(tile):
            total = dense(tile, start + shape.skip, inputs.parameters_bias, shape.head, _HEAD)
            self.own(_PARAMETERS)[...] = total
            if parameters is not None:
                parameters[self.stream, t, tile] = total.max(axis=1)

        steps = ((rectify, shape.skip), (layer, shape.head), (outputs, shape.parameters))
        for number, (step, tiles) in enumerate(steps):

            @pl.when((self.place >= HEAD) & (self.place < HEAD + tiles))
            def _(step=step):
                step(self.place - HEAD)

            @pl.when(self.place < HEAD)
            def _(number=number):
                ahead(number)

            self.next_turn()

    def draw(self, chances, temperature):
        """The code or sample, by the inverse of the distribution function."""
        shape, table = self.shape, self.memory.table
        for tile in range(shape.parameters):
            column = self.read(HEAD + tile, _PARAMETERS)
            table.at[pl.ds(TILE * tile, TILE)][...] = column.max(axis=1)
        plgpu.commit_smem()
        size = max(_LANES, TILE * shape.parameters)
        layout = plgpu.Layout.WG_STRIDED((size,), vec_size=size // _LANES)
        values = plgpu.load(table.at[pl.ds(0, size)], layout=layout, optimized=False)
        numbers = plgpu.broadcasted_iota(jnp.int32, (size,), 0, layout=layout)
        numbers = numbers.astype(jnp.float32)
        within = numbers < float(shape.choices)
        logits = values * (1.0 / temperature) if shape.mu_law else values
        logits = jnp.where(within, logits, -1e30)
        weights = jnp.where(within, jnp.exp(logits - logits.max()), 0.0)
        wanted = chances[0] * weights.sum()
        chosen = jnp.float32(0.0)
        step = size // 2
        while step:
            tried = chosen + float(step)
            reached = jnp.where(numbers < tried, weights, 0.0).sum()
            chosen = jnp.where(reached <= wanted, tried, chosen)
            step //= 2
        chosen = jnp.minimum(chosen, float(shape.choices - 1))
        if shape.mu_law:
            return chosen

        def pick(start):
            return jnp.where(numbers == chosen + float(start), values, 0.0).sum()

        scale = temperature * jnp.exp(pick(2 * shape.choices))
        sample = pick(shape.choices) + scale * chances[1]
        return jnp.clip(sample, -1.0, 1.0)

    def _enter(self, before):
        entry = self.inputs.entry
        if self.shape.mu_law:
            return self._spread(self._vector(entry.at[before.astype(jnp.int32)]))
        return self._spread(self._vector(entry.at[0]) * before + self._vector(entry.at[1]))

    def _ring(self, layer, t):
        """Where a layer's ring holds what its filter needs, and will hold what comes instead."""
        dilation, start = (self.inputs.places[row, self.place, layer] for row in (1, 2))
        entry = start + lax.rem(self.inputs.count[0] + t, dilation)
        return self.inputs.ring.at[entry, self.stream]

    def _right_side(self, column):
        """A column in shared memory as a product's right side, for all lanes to pick up."""
        return plgpu.load(column, layout=self._right, optimized=False)

    def _right_halves(self, column):
        return [self._right_side(column.at[pl.ds(start, TILE // 2)]) for start in (0, TILE // 2)]

    def _halves(self, reference):
        return [self._matrix(reference.at[:, pl.ds(start, TILE // 2)]) for start in (0, TILE // 2)]

    def _quick_product(self, total, left, right):
        """A product in two halves side by side: each step waits for the last of its own sum."""
        first = self._product(total, left[0], right[0])
        return first + self._product(self._zeros(), left[1], right[1])

    def _product(self, total, left, right):
        if self.shape.interpreted:
            return total + jnp.dot(left, right, preferred_element_type=jnp.float32)
        return plgpu.mma(total, left, right)

    def _matrix(self, reference):
        return plgpu.load(reference, layout=self._left, optimized=False)

    def _load(self, reference):
        return plgpu.load(reference, layout=self._sum, optimized=False)

    def _vector(self, reference):
        return plgpu.load(reference, layout=self._sum.reduce(1), optimized=False)

    def _zeros(self):
        return plgpu.layout_cast(jnp.zeros(_COLUMNS, jnp.float32), self._sum)

    def _spread(self, vector):
        return lax.broadcast_in_dim(vector, _COLUMNS, [0])


def body(shape: Shape, *references: Any) -> None:
    """One block of a cluster, all samples of the launch.

    Args:
        shape: Sizes.
        *references: `Inputs`' arrays, the outputs, and the scratch memory as last.
    """
    inputs = Inputs(*references[: len(Inputs._fields)])
    samples, *written, memory = references[len(Inputs._fields) :]
    post = written.pop() if shape.interpreted else None
    parameters = written.pop() if shape.debug else None
    block = _Block(shape, inputs, memory, post)
    block.keep_matrices()
    temperature = inputs.temperature[0]

    @pl.when(block.place < HEAD)
    def _():
        for layer in range(shape.depth):
            block.past(layer, 0)

    def sample(t, before):
        def visit(phase, _):
            @pl.when(phase == block.place)
            def _():
                block.chain(before)

            for layer in range(shape.depth):
                # The head's blocks prepare before their turn, when the others wait for them.
                @pl.when((phase == layer) & (block.place >= HEAD))
                def _(layer=layer):
                    block.past(layer, t)

                @pl.when(phase == block.place + 1 + layer)
                def _(layer=layer):
                    block.skip(layer, t)

            block.next_turn()

        lax.fori_loop(0, BLOCKS, visit, None)
        for layer in range(shape.depth):

            @pl.when(block.place + 1 + layer >= BLOCKS)
            def _(layer=layer):
                block.skip(layer, t)

        block.next_turn()

        def ahead(step):
            @pl.when(t + 1 < shape.samples)
            def _():
                for layer in range(step, shape.depth, 3):
                    block.past(layer, t + 1)

        chances = [inputs.chances[block.stream, t, number] for number in range(2)]
        block.head(t, ahead, parameters)
        drawn = lax.cond(
            block.place == 0, lambda: block.draw(chances, temperature), lambda: jnp.float32(0.0)
        )

        @pl.when(block.place == 0)
        def _():
            samples[block.stream, t] = drawn

        return drawn

    lax.fori_loop(0, shape.samples, sample, inputs.before[block.stream])
    # The first block still reads the last blocks' shared memory, which ends when they do.
    block.next_turn()
