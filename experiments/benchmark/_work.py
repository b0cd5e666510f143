"""How many operations a program does and how many bytes it moves, as XLA counts them.

XLA counts the body of a loop once, however often it runs, so the bodies of scans are counted apart
and added as often as they run. Loops of unknown length still count once. Operations are those of
the program as traced, since a compiled one hides some in calls of libraries, and lowered for a CPU,
as JAX cannot count them on other devices; bytes are those of the compiled one, in which what is
fused moves nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

from experiments.benchmark._cases import Work


def compile_counted(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Work]:
    """Compiles a function for its arguments.

    Args:
        function: What `jax.jit` takes.
        *arguments: Trees of arrays.

    Returns:
        The compiled program, and what a run of it does.
    """
    traced = jax.jit(function).trace(*arguments)
    compiled = traced.lower().compile()
    once = Work(_flops(function, *arguments), _bytes(compiled))
    return compiled, _with_loops(once, traced.jaxpr.jaxpr, _body)


def count_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of a function, which is not compiled.

    Args:
        function: What `jax.jit` takes.
        *arguments: Trees of arrays or of `jax.ShapeDtypeStruct`.
    """
    traced = jax.jit(function).trace(*arguments)
    once = Work(_flops(function, *arguments), 0.0)
    return _with_loops(once, traced.jaxpr.jaxpr, _body_flops).flops


def _with_loops(once: Work, jaxpr: Any, work_of: Callable[[Any], Work]) -> Work:
    """What a program does if every loop in it is counted once by `once`, by `work_of` a body."""
    flops, moved = once
    for length, body in _scans(jaxpr):
        counted = work_of(body)
        inside = _with_loops(counted, body.jaxpr, work_of)
        flops += length * inside.flops - counted.flops
        moved += length * inside.bytes - counted.bytes
    return Work(flops, moved)


def _body(body) -> Work:
    function, shapes = _callable(body)
    compiled = jax.jit(function).lower(*shapes).compile()
    return Work(_flops(function, *shapes), _bytes(compiled))


def _body_flops(body) -> Work:
    function, shapes = _callable(body)
    return Work(_flops(function, *shapes), 0.0)


def _callable(body):
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in body.in_avals]
    return core.jaxpr_as_fun(body), shapes


def _flops(function, *arguments) -> float:
    shapes = jax.eval_shape(lambda *given: given, *arguments)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        lowered = jax.jit(function).lower(*shapes)
    return (lowered.cost_analysis() or {}).get("flops", 0.0)


def _bytes(compiled) -> float:
    return (compiled.cost_analysis() or {}).get("bytes accessed", 0.0)


def _scans(jaxpr) -> Iterator[tuple[int, Any]]:
    """Length and body of every scan that is not within another."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params["length"], equation.params["jaxpr"]
            continue
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from _scans(inner)
