"""Precision policies: which dtype parameters, arithmetic, outputs and sums have."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

_FIELDS = {
    "params": "param_dtype",
    "compute": "compute_dtype",
    "output": "output_dtype",
    "accumulation": "accumulation_dtype",
}
_SHORT = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Policy:
    """Dtypes of mixed-precision training; all four are float32 unless given.

    A model casts its parameters and inputs with `cast_to_compute`, computes in that dtype, takes
    what needs care in `accumulation_dtype`, and returns `cast_to_output`. What accumulates where:

    ================== ============================================================================
    `param_dtype`      The master copy of the weights and, as optax takes its dtypes from the
                       parameters, the moments and the update added to the weights. The gradient
                       comes back in it, as the cast's own gradient is a cast. In float16 or
                       bfloat16 an update below 2^-11 or 2^-8 of its weight is lost.
    `compute_dtype`    Operands and results of matrix products and convolutions, and activations
                       kept for the backward pass: the memory that mixed precision saves. Nothing
                       long is summed in it.
    `accumulation_dtype`  Sums inside matrix products and convolutions (`preferred_element_type`),
                       statistics of normalizations, softmax, losses, the cell of a recurrent net.
                       Results are rounded to `compute_dtype` once, after the sum.
    `output_dtype`     What a model returns: logits, which losses reduce.
    ================== ============================================================================

    With compute float32 all of it is float32. bfloat16 has float32's exponents and needs no loss
    scaling; its 8 bits of significand are why sums must be float32. float16 has 11 bits but
    underflows below 2^-24 and overflows above 65,504, so it needs `dynamic_loss_scaling`.

    Attributes:
        param_dtype: Of parameters.
        compute_dtype: Of arithmetic.
        output_dtype: Of results.
        accumulation_dtype: Of sums.

    Raises:
        ValueError: A dtype is not a floating one.

    Examples:
        >>> from deepaudio import optim
        >>> policy = optim.Policy.parse("float16")
        >>> print(policy.param_dtype, policy.compute_dtype, policy.needs_loss_scaling)
        float32 float16 True
        >>> print(optim.Policy.parse("params=bfloat16,compute=bfloat16"))
        params=bfloat16,compute=bfloat16,output=float32,accumulation=float32

    References:
        Micikevicius et al., Mixed Precision Training, arXiv 1710.03740, section 3.
    """

    param_dtype: Any = jnp.float32
    compute_dtype: Any = jnp.float32
    output_dtype: Any = jnp.float32
    accumulation_dtype: Any = jnp.float32

    def __post_init__(self):
        for field in _FIELDS.values():
            object.__setattr__(self, field, _floating_dtype(field, getattr(self, field)))

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """Reads a policy.

        Args:
            text: "float32", "bfloat16" or "float16" for that compute dtype and float32 for the
                rest; or any of `params=`, `compute=`, `output=` and `accumulation=` with a dtype,
                joined by commas, those left out being float32.

        Returns:
            The policy; `str` writes it back.

        Raises:
            ValueError: The text is neither, names a part twice, or a dtype that is no floating
                one.
        """
        if text in _SHORT:
            return cls(compute_dtype=text)
        dtypes = {}
        for part in text.split(","):
            name, equals, dtype = (word.strip() for word in part.partition("="))
            if not equals or name not in _FIELDS:
                raise ValueError(
                    f"policy {text!r} must be one of {', '.join(_SHORT)}, "
                    f"or NAME=DTYPE with names of {', '.join(_FIELDS)}, joined by commas"
                )
            if _FIELDS[name] in dtypes:
                raise ValueError(f"policy {text!r} names {name} twice")
            dtypes[_FIELDS[name]] = dtype
        return cls(**dtypes)

    def __str__(self) -> str:
        if self.compute_dtype.name in _SHORT and self == Policy(compute_dtype=self.compute_dtype):
            return self.compute_dtype.name
        return ",".join(f"{name}={getattr(self, field).name}" for name, field in _FIELDS.items())

    @property
    def needs_loss_scaling(self) -> bool:
        """Whether gradients underflow without `dynamic_loss_scaling`: compute is float16."""
        return self.compute_dtype == jnp.float16

    def cast_to_param(self, tree: Any) -> Any:
        """Casts floating arrays of a tree to `param_dtype`; other leaves stay."""
        return _cast_floating(tree, self.param_dtype)

    def cast_to_compute(self, tree: Any) -> Any:
        """Casts floating arrays of a tree to `compute_dtype`; other leaves stay."""
        return _cast_floating(tree, self.compute_dtype)

    def cast_to_output(self, tree: Any) -> Any:
        """Casts floating arrays of a tree to `output_dtype`; other leaves stay."""
        return _cast_floating(tree, self.output_dtype)


def _floating_dtype(field, value):
    try:
        # numpy takes None for float64.
        dtype = None if value is None else jnp.dtype(value)
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{field}={value!r} must be a floating dtype")
    return dtype


def _cast_floating(tree, dtype):
    def cast(leaf):
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if floating else leaf

    return jax.tree.map(cast, tree)
