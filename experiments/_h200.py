"""Compiles for an NVIDIA H200, also where there is none.

XLA compiles for a GPU that is only described; this needs CUDA's libraries (the extra `gpu`), no
driver and no GPU. What it cannot know without running, such as the fastest of several matrix
products, it takes from its cost model.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh, SingleDeviceSharding

KIND = "NVIDIA H200"
_CORES = 132
# XLA's GpuTargetConfig, in protobuf's text format; figures from NVIDIA's data sheet and the CUDA
# programming guide (compute capability 9.0).
_TARGET = f"""
gpu_device_info {{
  cuda_compute_capability {{ major: 9 minor: 0 }}
  core_count: {_CORES}
  clock_rate_ghz: 1.98
  memory_bandwidth: 4800000000000
  device_memory_size: 150000000000
  l2_cache_size: 62914560
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  fpus_per_core: 128
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}}
platform_name: "CUDA"
runtime_version {{ major: 13 minor: 0 }}
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{KIND}"
"""


def prepare() -> None:
    """Makes the CPU this process's own device; call it before any device is used.

    CUDA's plugin is then loaded for its compiler alone, without asking a driver whether it fits.
    """
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    jax.config.update("jax_platforms", "cpu")


def compile_for_h200(
    function: Callable[..., Any], arguments: Sequence[Any], *, donate_argnums: Sequence[int] = ()
) -> jax.stages.Compiled:
    """Compiles a function for one H200, after `prepare`; nothing runs.

    Args:
        function: What `jax.jit` takes.
        arguments: A tree for each argument, of arrays or `jax.ShapeDtypeStruct`.
        donate_argnums: Arguments whose buffers the results may take.

    Returns:
        The compiled program, whose `memory_analysis` is that of the GPU.

    Raises:
        RuntimeError: CUDA's libraries are not installed.
    """
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", topology_name="h200", topology="1x1x1", target_config=_TARGET
        )
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise RuntimeError(
            f"compiling for {KIND} needs the extra gpu (pip install 'deepaudio[gpu]'): {reason}"
        ) from error
    sharding = SingleDeviceSharding(topology.devices[0])
    placed = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tuple(arguments),
    )
    # Kernels that are chosen by the device at hand are chosen for this one.
    mesh = AbstractMesh((), (), abstract_device=AbstractDevice(KIND, _CORES, "cuda"))
    with jax.sharding.use_abstract_mesh(mesh):
        traced = jax.jit(function, donate_argnums=tuple(donate_argnums)).trace(*placed)
        return traced.lower(lowering_platforms=("cuda",)).compile()
