"""Reads the machine code that a function becomes on an NVIDIA H200, on any machine."""

import collections
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import _h200


class MachineCode(NamedTuple):
    """One kernel's machine code.

    Attributes:
        code: As `nvdisasm` prints it.
        registers: Of a thread.
        spilled_bytes: Stores and loads of registers to memory that a thread does, in bytes.
        notes: What the assembler warned of.
    """

    code: str
    registers: int
    spilled_bytes: int
    notes: tuple[str, ...]


def compile_kernel(function: Callable[..., Any], arguments: Sequence[Any]) -> MachineCode:
    """Compiles a function with one Mosaic GPU kernel for an H200, after `prepare`.

    Args:
        function: What `jax.jit` takes.
        arguments: A tree for each argument, of arrays or `jax.ShapeDtypeStruct`.

    Raises:
        RuntimeError: CUDA's compiler or disassembler is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MOSAIC_GPU_DUMP_TO"] = folder
        try:
            _h200.compile_for_h200(function, arguments)
        finally:
            del os.environ["MOSAIC_GPU_DUMP_TO"]
        code, usage = (_read(folder, suffix) for suffix in (".sass_ctrl", ".ptxas"))
    return MachineCode(
        code,
        int(re.search(r"Used (\d+) registers", usage)[1]),
        sum(int(n) for n in re.findall(r"(\d+) bytes spill", usage)),
        tuple(re.findall(r"\(C\d+\) (.*)", usage)),
    )


def _read(folder, suffix):
    found = sorted(Path(folder).glob(f"*{suffix}"))
    if not found:
        raise RuntimeError(
            "no machine code was written: install nvidia-cuda-nvdisasm beside the extra gpu"
        )
    return found[0].read_text()


def prepare() -> None:
    """Readies this process to compile for an H200; call it before any device is used."""
    _h200.prepare()
    found = [p for site in sys.path for p in Path(site).glob("nvidia/cu*/bin/nvdisasm")]
    if found and shutil.which("nvdisasm") is None:
        os.environ["PATH"] += os.pathsep + str(found[0].parent)


def innermost_loops(code: str) -> list[collections.Counter[str]]:
    """Counts the instructions of every loop that holds no other.

    Args:
        code: Of one kernel, as `nvdisasm` prints it.

    Returns:
        For each loop, in order, how often each instruction stands in it.
    """
    found = loops(code)
    return [
        mix
        for a, b, mix in found
        if not any(a <= c and d <= b and (a, b) != (c, d) for c, d, _ in found)
    ]


def loops(code: str) -> list[tuple[int, int, collections.Counter[str]]]:
    """Counts the instructions of every loop, those of loops inside included.

    Args:
        code: Of one kernel, as `nvdisasm` prints it.

    Returns:
        For each loop, in order, the numbers of its first and last instruction, and how often each
        instruction stands in it.
    """
    labels, lines = {}, []
    for line in code.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(lines)
        elif found := re.search(
            r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)(.*)", line
        ):
            lines.append((found[1], found[2]))
    spans = []
    for last, (name, rest) in enumerate(lines):
        target = re.search(r"\.L_x_\d+", rest) if name == "BRA" else None
        if target and labels.get(target[0], last + 1) <= last:
            spans.append((labels[target[0]], last))
    return [(a, b, collections.Counter(name for name, _ in lines[a : b + 1])) for a, b in spans]
