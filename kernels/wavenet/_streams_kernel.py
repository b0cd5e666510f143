"""The body of the GPU kernel: three warpgroups that go through the network for 64 streams.

Streams are the rows of every matrix product, so what a layer hands to the next stays in the
registers of the warpgroup that goes from layer to layer (CHAIN), as in attention kernels. A second
(SKIP) adds up the skip connections, a layer behind, and at the end runs the head and draws the
samples. A third (LOAD) keeps the matrices coming from the second-level cache.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from deepaudio.kernels.wavenet.config import STREAMS, TILE, KernelConfig

_CHAIN, _SKIP, _LOAD = range(3)
WARPGROUPS = 3
# Of a thread; 65,536 are shared by the 384 threads.
_REGISTERS = (216, 240, 40)
_TILES = (STREAMS, TILE)


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the network in tiles of 64 channels, and of the launch.

    Attributes:
        layers: Dilated layers.
        residual: Tiles between layers.
        gate: Tiles after the gate.
        skip: Tiles of the skip connections.
        head: Tiles of the layer after them.
        parameters: Tiles of the outputs.
        choices: Columns among which a sample is drawn.
        mu_law: Whether the outputs are codes' logits, not a mixture of logistics.
        samples: Of the launch.
        shared: Whether all rows are one stream, with one conditioning vector.
        debug: Whether the outputs are written as well.
        interpreted: Whether the kernel runs in Pallas's interpreter.
        dtype: Of the matrices.
    """

    layers: int
    residual: int
    gate: int
    skip: int
    head: int
    parameters: int
    choices: int
    mu_law: bool
    samples: int
    shared: bool
    debug: bool
    interpreted: bool
    dtype: Any

    @property
    def gate_pieces(self) -> int:
        """Slots of gate matrices that a layer goes through."""
        return self.gate * self.residual

    @property
    def entry_pieces(self) -> int:
        """Slots of gate matrices' size that hold the codes' vectors."""
        return self.residual if self.mu_law else 0

    @property
    def head_products(self) -> int:
        """Tiles of the head's matrices."""
        return self.skip * self.head + self.head * self.parameters


class Inputs(NamedTuple):
    """Arrays in global memory; T is 64.

    Attributes:
        places: (2, layers) int32: dilations, and where each layer's ring begins.
        count: (1,) int32, samples generated before.
        temperature: (1,) float32.
        entry: (residual, 4, T, T) codes' vectors, or (2, residual, T) float32 factors and offsets.
        gates: (layers, gate_pieces, 4, T, T).
        outputs: (layers, gate, residual + skip, T, T).
        heads: (pieces, head_tiles, T, T).
        residual_bias: (layers, residual, T) float32.
        skip_bias: (skip, T) float32.
        head_bias: (head, T) float32.
        parameters_bias: (parameters, T) float32.
        conditioning: (blocks, samples, layers, gate, 2, T, T), or (…, 2, T) if shared.
        chances: (blocks, samples, 2, T) float32: uniform numbers, and logistic ones.
        before: (blocks, T) float32, the codes or samples before the first.
        ring: (entries, blocks, residual, T, T), read and written.
    """

    places: Any
    count: Any
    temperature: Any
    entry: Any
    gates: Any
    outputs: Any
    heads: Any
    residual_bias: Any
    skip_bias: Any
    head_bias: Any
    parameters_bias: Any
    conditioning: Any
    chances: Any
    before: Any
    ring: Any


class Slots(NamedTuple):
    """A ring of shared-memory slots that matrices come through.

    Attributes:
        tiles: (slots * each, T, T) shared memory.
        full: Barriers that a copy arrives at.
        empty: Barriers that readers arrive at.
        each: Tiles of a slot.
    """

    tiles: Any
    full: Any
    empty: Any
    each: int

    def slot(self, number):
        """Where piece `number` of the whole launch lies."""
        return lax.rem(number, self.tiles.shape[0] // self.each)

    def load(self, number, source):
        """Begins to copy a piece as soon as its slot is free."""
        slot = self.slot(number)

        @pl.when(number >= self.tiles.shape[0] // self.each)
        def _():
            plgpu.barrier_wait(self.empty.at[slot])

        where = self.tiles.at[pl.ds(slot * self.each, self.each)]
        plgpu.copy_gmem_to_smem(source, where, self.full.at[slot])

    def wait(self, number):
        """Waits for a piece; returns what makes a reference to one of its tiles."""
        slot = self.slot(number)
        plgpu.barrier_wait(self.full.at[slot])
        return lambda tile: self.tiles.at[slot * self.each + tile]

    def release(self, number):
        """Says that a piece has been read."""
        plgpu.barrier_arrive(self.empty.at[self.slot(number)])


class Exchange(NamedTuple):
    """What one warpgroup hands to another.

    Attributes:
        gated: (2 * gate, T, T) shared memory: the gates' outputs of this layer and the last.
        gated_full: Barriers of both.
        gated_empty: Barriers of both.
        drawn: (T,) shared memory: the codes or samples drawn last.
        drawn_full: Barrier.
    """

    gated: Any
    gated_full: Any
    gated_empty: Any
    drawn: Any
    drawn_full: Any


def scratch(shape: Shape, config: KernelConfig) -> dict[str, Any]:
    """The kernel's shared memory."""
    # Matrix units read rows of 128 bytes, their pieces permuted against bank conflicts.
    row = 128 // jnp.dtype(shape.dtype).itemsize
    transforms = (plgpu.TilingTransform((8, row)), plgpu.SwizzleTransform(128))

    def tiles(number):
        return plgpu.SMEM((number, *_TILES), shape.dtype, transforms=transforms)

    def ring(slots, each, readers):
        return {
            "tiles": tiles(slots * each),
            "full": plgpu.Barrier(num_barriers=slots),
            "empty": plgpu.Barrier(num_barriers=slots, num_arrivals=readers),
        }

    return {
        "gates": ring(config.gate_slots, 4, 1),
        "outputs": ring(config.output_slots, shape.residual + shape.skip, 2),
        "heads": ring(config.head_slots, config.head_tiles, 1),
        "exchange": {
            "gated": tiles(2 * shape.gate),
            "gated_full": plgpu.Barrier(num_barriers=2),
            "gated_empty": plgpu.Barrier(num_barriers=2),
            "drawn": plgpu.SMEM((STREAMS,), jnp.float32),
            "drawn_full": plgpu.Barrier(),
        },
    }


def body(shape: Shape, config: KernelConfig, *references: Any) -> None:
    """One block of 64 streams, all samples of the launch.

    Args:
        shape: Sizes.
        config: The slots.
        *references: `Inputs`' arrays, the outputs, and the scratch memory as last.
    """
    inputs = Inputs(*references[: len(Inputs._fields)])
    *written, memory = references[len(Inputs._fields) :]
    gates = Slots(**memory["gates"], each=4)
    outputs = Slots(**memory["outputs"], each=shape.residual + shape.skip)
    heads = Slots(**memory["heads"], each=config.head_tiles)
    exchange = Exchange(**memory["exchange"])
    who = lax.axis_index("warpgroup")

    def runs(number, action, run):
        @pl.when(who == number)
        def _():
            if not shape.interpreted:
                plgpu.set_max_registers(_REGISTERS[number], action=action)
            run()

    chain = functools.partial(_chain, shape, inputs, gates, outputs, exchange)
    skip = functools.partial(_skip, shape, inputs, outputs, heads, exchange, written)
    runs(_LOAD, "decrease", functools.partial(_load, shape, inputs, gates, outputs, heads))
    runs(_CHAIN, "increase", chain)
    runs(_SKIP, "increase", skip)


def _load(shape, inputs, gates, outputs, heads):
    """Has every matrix copied to shared memory in the order in which they are needed."""
    pieces = shape.gate_pieces
    each = shape.entry_pieces + shape.layers * pieces
    last = shape.head_products // heads.each

    def sample(t, _):
        for piece in range(shape.entry_pieces):
            gates.load(t * each + piece, inputs.entry.at[piece])

        def layer(number, _):
            first = t * each + shape.entry_pieces + number * pieces
            for piece in range(pieces):
                gates.load(first + piece, inputs.gates.at[number, piece])
            first = (t * shape.layers + number) * shape.gate
            for piece in range(shape.gate):
                outputs.load(first + piece, inputs.outputs.at[number, piece])

        lax.fori_loop(0, shape.layers, layer, None)
        lax.fori_loop(
            0, last, lambda piece, _: heads.load(t * last + piece, inputs.heads.at[piece]), None
        )

    lax.fori_loop(0, shape.samples, sample, None)


def _chain(shape, inputs, gates, outputs, exchange):
    """Goes from layer to layer, and hands what the gates let through to the skip connections."""
    block = lax.axis_index("block")
    each = shape.entry_pieces + shape.layers * shape.gate_pieces

    def sample(t, before):
        hidden = _enter(shape, inputs, gates, t * each, before)

        def layer(number, hidden):
            ring = _ring_entry(inputs, number, t, block)
            past = [_load_tile(ring.at[tile]) for tile in range(shape.residual)]
            now = [tile.astype(shape.dtype) for tile in hidden]
            for tile, value in enumerate(now):
                ring[tile] = value
            count = t * shape.layers + number
            first = t * each + shape.entry_pieces + number * shape.gate_pieces
            side = lax.rem(count, 2) * shape.gate

            @pl.when(count >= 2)
            def _():
                plgpu.barrier_wait(exchange.gated_empty.at[lax.rem(count, 2)])

            for tile in range(shape.gate):
                given = inputs.conditioning.at[block, t, number, tile]
                summed = _gate(shape, gates, first + tile * shape.residual, past + now, given)
                exchange.gated[side + tile] = summed.astype(shape.dtype)
            plgpu.commit_smem()
            plgpu.barrier_arrive(exchange.gated_full.at[lax.rem(count, 2)])
            return _go_on(shape, inputs, outputs, exchange, hidden, number, count, side)

        lax.fori_loop(0, shape.layers, layer, hidden)
        plgpu.barrier_wait(exchange.drawn_full)
        return _load_row(exchange.drawn)

    lax.fori_loop(0, shape.samples, sample, _load_row(inputs.before.at[block]))


def _ring_entry(inputs, layer, t, block):
    """Where a layer's ring holds what its filter needs, and will hold what comes in its stead.

    A thread reads only what it has written itself, so the order of its own steps is enough.
    """
    place = lax.rem(inputs.count[0] + t, inputs.places[0, layer])
    return inputs.ring.at[inputs.places[1, layer] + place, block]


def _enter(shape, inputs, gates, first, before):
    """The first layer's input, a tile of (streams, 64 channels) each."""
    rows = lax.broadcast_in_dim(before, _TILES, [0])
    if not shape.mu_law:
        return [
            rows * _columns(inputs.entry.at[0, tile]) + _columns(inputs.entry.at[1, tile])
            for tile in range(shape.residual)
        ]
    # A vector is looked up by a product with a row that is 1 at the code.
    columns = _column_numbers().astype(jnp.float32)
    codes = [
        jnp.where(columns + float(TILE * tile) == rows, 1.0, 0.0).astype(shape.dtype)
        for tile in range(4)
    ]
    hidden = []
    for number in range(shape.residual):
        tiles = gates.wait(first + number)
        hidden.append(_product(shape, _zeros(), [(code, tiles(k)) for k, code in enumerate(codes)]))
        gates.release(first + number)
    return hidden


def _gate(shape, gates, first, inputs, given):
    """Tanh times sigmoid of one tile of channels."""
    if shape.shared:
        sums = [_columns(given.at[half]).astype(jnp.float32) for half in range(2)]
    else:
        sums = [_load_tile(given.at[half]).astype(jnp.float32) for half in range(2)]
    for piece in range(shape.residual):
        tiles = gates.wait(first + piece)
        pair = inputs[2 * piece : 2 * piece + 2]
        for half in range(2):
            factors = [(x, tiles(2 * number + half)) for number, x in enumerate(pair)]
            sums[half] = _product(shape, sums[half], factors)
        gates.release(first + piece)
    wave, gate = sums
    # The sigmoid by a tanh, which is one instruction.
    return jnp.tanh(wave) * (0.5 + 0.5 * jnp.tanh(0.5 * gate))


def _go_on(shape, inputs, outputs, exchange, hidden, layer, count, side):
    """The residual connection: the layer's input and what its gates let through."""
    hidden = [
        tile + _columns(inputs.residual_bias.at[layer, number])
        for number, tile in enumerate(hidden)
    ]
    for piece in range(shape.gate):
        tiles = outputs.wait(count * shape.gate + piece)
        gated = exchange.gated.at[side + piece]
        hidden = [
            _product(shape, tile, [(gated, tiles(number))]) for number, tile in enumerate(hidden)
        ]
        outputs.release(count * shape.gate + piece)
    return hidden


def _skip(shape, inputs, outputs, heads, exchange, written):
    """Adds up the skip connections, runs the head, and draws."""
    block = lax.axis_index("block")
    pieces = shape.head_products // heads.each

    def sample(t, _):
        def layer(number, sums):
            count = t * shape.layers + number
            side = lax.rem(count, 2)
            plgpu.barrier_wait(exchange.gated_full.at[side])
            for piece in range(shape.gate):
                tiles = outputs.wait(count * shape.gate + piece)
                gated = exchange.gated.at[side * shape.gate + piece]
                matrices = [tiles(shape.residual + number) for number in range(shape.skip)]
                sums = _products(shape, sums, [[(gated, matrix)] for matrix in matrices])
                outputs.release(count * shape.gate + piece)
            plgpu.barrier_arrive(exchange.gated_empty.at[side])
            return list(sums)

        sums = lax.fori_loop(0, shape.layers, layer, [_zeros() for _ in range(shape.skip)])
        first = t * pieces
        sums = _dense(shape, heads, first, sums, inputs.skip_bias, shape.head)
        first = first + shape.skip * shape.head // heads.each
        sums = _dense(shape, heads, first, sums, inputs.head_bias, shape.parameters)
        sums = [
            total + _columns(inputs.parameters_bias.at[tile]) for tile, total in enumerate(sums)
        ]
        if shape.debug:
            for tile, total in enumerate(sums):
                written[1][block, t, tile] = total
        drawn = _draw(shape, inputs, sums, block, t)
        written[0][block, t] = drawn
        exchange.drawn[...] = drawn
        plgpu.commit_smem()
        plgpu.barrier_arrive(exchange.drawn_full)

    lax.fori_loop(0, shape.samples, sample, None)


def _dense(shape, heads, first, sums, bias, outputs):
    """A layer of the head: rectified inputs, of which the bias is added here, times its matrix."""
    inputs = [
        jnp.maximum(total + _columns(bias.at[tile]), 0.0).astype(shape.dtype)
        for tile, total in enumerate(sums)
    ]
    results = []
    for tile in range(outputs):
        total = _zeros()
        for start in range(0, len(inputs), heads.each):
            piece = first + (tile * len(inputs) + start) // heads.each
            tiles = heads.wait(piece)
            part = inputs[start : start + heads.each]
            total = _product(shape, total, [(x, tiles(number)) for number, x in enumerate(part)])
            heads.release(piece)
        results.append(total)
    return results


def _draw(shape, inputs, sums, block, t):
    """A row's code or sample, by the inverse of the distribution function."""
    uniform = _load_row(inputs.chances.at[block, t, 0])
    temperature = inputs.temperature[0]
    if shape.mu_law:
        return _choose([total * (1.0 / temperature) for total in sums], uniform, shape.choices)
    (table,) = sums
    columns = _column_numbers().astype(jnp.float32)
    apart = jnp.where(columns < float(shape.choices), table, -math.inf)
    chosen = lax.broadcast_in_dim(_choose([apart], uniform, shape.choices), _TILES, [0])

    def pick(start):
        here = columns == chosen + float(start)
        return jnp.where(here, table, 0.0).sum(axis=1)

    scale = temperature * jnp.exp(pick(2 * shape.choices))
    logistic = _load_row(inputs.chances.at[block, t, 1])
    return jnp.clip(pick(shape.choices) + scale * logistic, -1.0, 1.0)


def _choose(logits, uniform, choices):
    """The number of the column at which the sum of a row's softmax exceeds a share.

    First the tile is found by the tiles' sums, then the column within by halving.
    """
    top = functools.reduce(jnp.maximum, [tile.max(axis=1) for tile in logits])
    tops = lax.broadcast_in_dim(top, _TILES, [0])
    weights = [jnp.exp(tile - tops) for tile in logits]
    totals = [tile.sum(axis=1) for tile in weights]
    wanted = uniform * functools.reduce(lambda a, b: a + b, totals)
    tile, before = weights[0], jnp.zeros_like(wanted)
    start = jnp.zeros_like(wanted)
    reached = jnp.zeros_like(wanted)
    for number in range(1, len(weights)):
        reached = reached + totals[number - 1]
        beyond = reached <= wanted
        start = jnp.where(beyond, float(TILE * number), start)
        before = jnp.where(beyond, reached, before)
        beyond = lax.broadcast_in_dim(jnp.where(beyond, 1.0, 0.0), _TILES, [0]) > 0.5
        tile = jnp.where(beyond, weights[number], tile)
    columns = _column_numbers().astype(jnp.float32)
    column = jnp.zeros_like(wanted)
    step = TILE // 2
    while step:
        tried = column + float(step)
        under = columns < lax.broadcast_in_dim(tried, _TILES, [0])
        reached = before + jnp.where(under, tile, 0.0).sum(axis=1)
        column = jnp.where(reached <= wanted, tried, column)
        step //= 2
    return jnp.minimum(start + column, float(choices - 1))


def _product(shape, total, factors):
    """A tile plus products of pairs; waits until they are there."""
    return _products(shape, [total], [factors])[0]


def _products(shape, totals, factors):
    """Tiles plus products of pairs, all at once."""
    if shape.interpreted:
        # The interpreter does not know factors in registers, nor sums that begin with something.
        # Its plain reads must be over before a copy overwrites what they read.
        products = [
            [jnp.dot(a[...], b[...], preferred_element_type=jnp.float32) for a, b in pairs]
            for pairs in factors
        ]
        plgpu.commit_smem()
        return [sum(more, total) for total, more in zip(totals, products, strict=True)]

    def run(accumulators):
        for accumulator, pairs in zip(accumulators, factors, strict=True):
            for left, right in pairs:
                plgpu.wgmma(accumulator, left, right)

    return list(pl.run_state(run)([plgpu.ACC.init(total) for total in totals]))


def _zeros():
    return plgpu.layout_cast(jnp.zeros(_TILES, jnp.float32), plgpu.Layout.WGMMA)


def _column_numbers():
    return plgpu.broadcasted_iota(jnp.int32, _TILES, 1, layout=plgpu.Layout.WGMMA)


def _load_tile(reference):
    return plgpu.load(reference, layout=plgpu.Layout.WGMMA, optimized=False)


def _load_row(reference):
    """One number a stream."""
    return plgpu.load(reference, layout=plgpu.Layout.WGMMA.reduce(1), optimized=False)


def _columns(reference):
    """One number a channel, for all streams."""
    vector = plgpu.load(reference, layout=plgpu.Layout.WGMMA.reduce(0), optimized=False)
    return lax.broadcast_in_dim(vector, _TILES, [1])
