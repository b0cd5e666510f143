"""Recurrent layers of the speech models: one projection outside the scan, few kernels inside."""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepaudio.kernels import sparse

Dtype = jnp.dtype
# A dense stack of matrices, or a packed one a direction; of `deepaudio.models.pack_weights`.
Kernel = jax.Array | tuple[sparse.PackedMatrix | jax.Array, ...]
CellName = Literal["rnn", "gru"]
# Blocks of units that a cell's projections consist of.
_GATES = {"rnn": 1, "gru": 3}
_CEILING = 20.0


def clipped_relu(x: jax.Array) -> jax.Array:
    """min(max(x, 0), 20), the nonlinearity of arXiv 1412.5567, section 2."""
    return jnp.clip(x, 0.0, _CEILING)


class RecurrentLayer(nn.Module):
    """A simple recurrent layer or GRU, forward or in both directions, with batch norm.

    h_t = f(BN(W x_t) + U h_{t-1}); the directions share W and BN, as arXiv 1512.02595 writes it,
    and their outputs are added. W x is one matrix product outside the scan, and both directions
    run in one scan, so that a step is the recurrent product and the cell's arithmetic only. Batch
    norm is sequence-wise (section 3.2 there): statistics over batch and time, padding left out, of
    the projected inputs alone. "rnn" is a clipped rectifier; "gru" multiplies the reset gate with
    U h (section 3.4 there, tanh for f), as cuDNN and torch do. For inference U may be packed: the
    variable `recurrent_kernel` of the collection "packed" then stands for the parameter.

    Attributes:
        units: Hidden units.
        cell: "rnn" or "gru".
        bidirectional: Whether a second direction reads time from its end.
        batch_norm: Whether projections are normalized.
        dtype: Dtype of the arithmetic.
        param_dtype: Dtype of the parameters.
        accumulation_dtype: Dtype of the hidden state, which sums over time.
    """

    units: int
    cell: CellName = "rnn"
    bidirectional: bool = False
    batch_norm: bool = True
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    accumulation_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        paddings: jax.Array,
        carry: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Runs over sequences.

        Args:
            inputs: (batch, frames, features).
            paddings: (batch, frames), 1 where a frame is padding; there the state is zero, so a
                backward direction begins at a sequence's own end.
            carry: (directions, batch, units) state before the first frame; None for zeros.
            train: Whether batch norm uses the batch's statistics (updates `batch_stats`).

        Returns:
            (batch, frames, units) outputs, zero in padding, and the state after the last frame.
        """
        directions, gates = 1 + self.bidirectional, _GATES[self.cell] * self.units
        # Time comes first from here on: inputs are smaller to turn round than their projections.
        inputs, paddings = inputs.swapaxes(0, 1), paddings.swapaxes(0, 1)
        projected = nn.Dense(
            gates,
            use_bias=not self.batch_norm,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="input",
        )(inputs)
        if self.batch_norm:
            norm = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.99,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name="norm",
            )
            projected = norm(projected, mask=paddings[..., None] == 0)
        kernel = self._recurrent_kernel((directions, self.units, gates))
        if carry is None:
            carry = jnp.zeros((directions, inputs.shape[1], self.units), self.accumulation_dtype)
        keep = (1.0 - paddings).astype(self.accumulation_dtype)[..., None]
        outputs, carry = scan_cell(
            self.cell,
            _by_direction(projected, directions),
            kernel,
            _by_direction(keep, directions),
            carry,
        )
        total = outputs[:, 0]
        if self.bidirectional:
            total = total + outputs[::-1, 1]
        return total.swapaxes(0, 1), carry

    def _recurrent_kernel(self, shape):
        if self.has_variable("packed", "recurrent_kernel"):
            return self.get_variable("packed", "recurrent_kernel")
        kernel = self.param("recurrent_kernel", _initial_kernel, shape, self.param_dtype)
        return kernel.astype(self.dtype)


def scan_cell(
    cell: CellName, projected: jax.Array, kernel: Kernel, keep: jax.Array, carry: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Runs a cell over time.

    Args:
        cell: "rnn" or "gru".
        projected: (frames, directions, batch, gates * units) input projections; of a GRU update,
            reset, candidate.
        kernel: (directions, units, gates * units), of the dtype of `projected`; or packed, without
            gradients.
        keep: (frames, directions, batch, 1), 0 where the state is set to zero; has no gradient.
        carry: (directions, batch, units) state before the first frame; its dtype is that of the
            sum over time.

    Returns:
        (frames, directions, batch, units) states, of the dtype of `projected`, and the last state.
    """
    keep = jax.lax.stop_gradient(keep)
    scan = _scan_packed if isinstance(kernel, tuple) else _scan_dense
    return scan(cell, projected, kernel, keep, carry)


def _scan(cell, projected, kernel, keep, carry):
    """Outputs, what the gradient needs of every frame, and the last state."""
    advance = {"rnn": _rnn, "gru": _gru}[cell]

    def step(hidden, inputs):
        projection, kept = inputs
        recurrent = _multiply(hidden.astype(projection.dtype), kernel)
        after, saved = advance(projection, recurrent, hidden)
        after = after * kept
        return after, (after.astype(projection.dtype), saved)

    carry, (outputs, saved) = jax.lax.scan(step, carry, (projected, keep))
    return outputs, saved, carry


def _scan_packed(*args):
    outputs, _, carry = _scan(*args)
    return outputs, carry


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan_dense(cell, projected, kernel, keep, carry):
    """The scan with a gradient that multiplies for the kernel's once, after the first frame.

    Differentiating the scan adds to the kernel's gradient frame by frame, and devices that share a
    batch exchange it at every frame.
    """
    return _scan_packed(cell, projected, kernel, keep, carry)


def _scan_forward(cell, projected, kernel, keep, carry):
    outputs, saved, last = _scan(cell, projected, kernel, keep, carry)
    return (outputs, last), (kernel, keep, carry, outputs, saved)


def _scan_backward(cell, residuals, cotangents):
    kernel, keep, carry, outputs, saved = residuals
    d_outputs, d_carry = cotangents
    retreat = {"rnn": _rnn_gradient, "gru": _gru_gradient}[cell]
    hiddens = jnp.concatenate([carry[None].astype(outputs.dtype), outputs[:-1]])

    def step(d_after, inputs):
        # Elementwise arithmetic is in the dtype of the state, products in the kernel's.
        inputs = jax.tree.map(lambda x: x.astype(d_after.dtype), inputs)
        saved, hidden, after, kept, d_output = inputs
        d_after = (d_after + d_output) * kept
        d_projection, d_recurrent, d_hidden = retreat(saved, hidden, after, d_after)
        d_recurrent = d_recurrent.astype(kernel.dtype)
        d_product = jnp.einsum("dbg,dug->dbu", d_recurrent, kernel)
        d_hidden = d_hidden + d_product.astype(d_hidden.dtype)
        return d_hidden, (d_projection.astype(kernel.dtype), d_recurrent)

    each = saved, hiddens, outputs, keep, d_outputs
    d_carry, (d_projected, d_recurrents) = jax.lax.scan(step, d_carry, each, reverse=True)
    d_kernel = jnp.einsum("tdbu,tdbg->dug", hiddens, d_recurrents)
    return d_projected, d_kernel, jnp.zeros_like(keep), d_carry


_scan_dense.defvjp(_scan_forward, _scan_backward)


def _multiply(hidden, kernel):
    """(directions, batch, units) times the kernel, of the dtype of the hidden state."""
    if not isinstance(kernel, tuple):
        return jnp.einsum("dbu,dug->dbg", hidden, kernel)
    products = [
        # Packed matrices take few vectors at a time.
        sparse.matvec(matrix, states[first : first + sparse.MAX_BATCH])
        for states, matrix in zip(hidden, kernel, strict=True)
        for first in range(0, len(states), sparse.MAX_BATCH)
    ]
    return jnp.concatenate(products).reshape(*hidden.shape[:2], -1).astype(hidden.dtype)


def _rnn(projection, recurrent, hidden):
    return clipped_relu(projection + recurrent).astype(hidden.dtype), ()


def _rnn_gradient(saved, hidden, after, d_after):
    """Gradients of what `_rnn` takes, from that of the state after it."""
    d_total = jnp.where((after > 0.0) & (after < _CEILING), d_after, 0.0)
    return d_total, d_total, jnp.zeros_like(d_after)


def _gru(projection, recurrent, hidden):
    units = hidden.shape[-1]
    gates = projection[..., : 2 * units] + recurrent[..., : 2 * units]
    of_candidate = recurrent[..., 2 * units :]
    update, reset = _update_and_reset(gates, hidden.dtype)
    candidate = jnp.tanh(projection[..., 2 * units :] + reset.astype(gates.dtype) * of_candidate)
    after = hidden + update * (candidate.astype(hidden.dtype) - hidden)
    return after, (gates, of_candidate, candidate)


def _gru_gradient(saved, hidden, after, d_after):
    """Gradients of what `_gru` takes, from that of the state after it."""
    gates, of_candidate, candidate = saved
    # Gates are kept before their nonlinearity: of one near 1, half precision loses the rest.
    update, reset = _update_and_reset(gates, d_after.dtype)
    d_candidate = d_after * update * (1.0 - candidate * candidate)
    d_update = d_after * (candidate - hidden) * update * (1.0 - update)
    d_reset = d_candidate * of_candidate * reset * (1.0 - reset)
    d_projection = jnp.concatenate([d_update, d_reset, d_candidate], -1)
    d_recurrent = jnp.concatenate([d_update, d_reset, d_candidate * reset], -1)
    return d_projection, d_recurrent, d_after * (1.0 - update)


def _update_and_reset(gates, dtype):
    # The logistic function: on a CPU, XLA's tanh takes half the time of its exponential. Near its
    # ends half precision would leave nothing of it.
    gates = 0.5 * jnp.tanh(0.5 * gates.astype(dtype)) + 0.5
    return jnp.split(gates, 2, -1)


def _by_direction(x, directions):
    """(frames, batch, n) to (frames, directions, batch, n), the second direction from the end."""
    return jnp.stack([x, x[::-1]][:directions], axis=1)


def _initial_kernel(key, shape, dtype):
    """Orthogonal for every gate and direction, so that a state neither fades nor explodes."""
    directions, units, gates = shape
    draw = nn.initializers.orthogonal()
    keys = jax.random.split(key, directions * (gates // units))
    # One batched draw: each by itself would be compiled by itself.
    blocks = jax.vmap(lambda key: draw(key, (units, units), dtype))(keys)
    return blocks.reshape(directions, -1, units, units).swapaxes(1, 2).reshape(shape)


class RowConvolution(nn.Module):
    """Lookahead of a forward-only model (arXiv 1512.02595, section 3.7).

    r_{t,i} = sum over j from 0 to `frames` of W_{i,j} h_{t+j,i}: every unit looks a few frames
    ahead by itself.

    Attributes:
        frames: The paper's tau.
        dtype: Dtype of the arithmetic.
        param_dtype: Dtype of the parameters.
    """

    frames: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """(batch, frames, units) to the same shape; what lies after the end counts as zero."""
        batch, frames, units = inputs.shape
        kernel = self.param("kernel", self._initial_kernel, (self.frames + 1, units))
        padded = jnp.pad(inputs.astype(self.dtype), ((0, 0), (0, self.frames), (0, 0)))
        kernel = kernel.astype(self.dtype)[:, None, None, :]
        # A sum of shifted slices: one fused loop, where a depthwise convolution is slow on a CPU.
        total = padded[:, :frames] * kernel[0]
        for shift in range(1, self.frames + 1):
            total = total + padded[:, shift : shift + frames] * kernel[shift]
        return total

    def _initial_kernel(self, key, shape):
        """Begins by passing the present frame on, with a little of what follows."""
        noise = nn.initializers.normal(0.3 * shape[0] ** -0.5)(key, shape, self.param_dtype)
        return noise.at[0].add(1.0)
