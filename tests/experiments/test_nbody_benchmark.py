"""The N-body benchmark: all contestants compute the same, and machine code is read rightly."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.nbody import benchmark, energy, machine_code

CODE = """
.L_x_1:
        /*0000*/                   LDS.128 R4, [R2] ;
        /*0010*/                   FADD R5, R6, R7 ;
        /*0020*/              @!P1 MUFU.RSQ R5, R6 ;
        /*0030*/                   FFMA R5, R6, R7, R8 ;
        /*0040*/               @P0 BRA `(.L_x_1) ;
.L_x_2:
        /*0050*/                   MUFU.RSQ R5, R6 ;
        /*0060*/                   FSEL R5, R6, R7, P0 ;
        /*0070*/               @P0 BRA `(.L_x_2) ;
.L_x_3:
        /*0080*/                   SYNCS.PHASECHK R5, R6 ;
        /*0090*/              @!P0 BRA `(.L_x_3) ;
        /*00a0*/               @P0 BRA `(.L_x_1) ;
        /*00b0*/                   EXIT ;
"""


def test_contestants_compute_the_same():
    arrays = benchmark.bodies(512)
    ours = np.asarray(benchmark.jax_run("gravity", arrays)()).T
    wide = np.asarray(benchmark.jax_run("gravity", arrays, wide=True)()).T
    for found in (wide, benchmark.numpy_run(arrays, rows=200)()):
        np.testing.assert_allclose(found, ours, rtol=1e-3, atol=1e-5)
    if importlib.util.find_spec("numba"):
        np.testing.assert_allclose(benchmark.numba_run(arrays)(), ours, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", benchmark.PAPER)
def test_every_law_runs_and_gives_a_row(name):
    run = benchmark.jax_run(name, benchmark.bodies(256))
    seconds = benchmark.take_turns({"ours": run, "again": run}, 2)
    ours, again = benchmark.rows_of(name, 256, seconds, share_of=1e12)
    assert ours["ours_is_faster_times"] == 1.0 and len(again["all_seconds"]) == 2
    operations = benchmark.PAPER[name][0]
    rate = 1e9 * ours["billion_interactions_per_second"]
    np.testing.assert_allclose(ours["gflops_by_the_papers_count"], operations * rate / 1e9)


def test_100_000_bodies_need_less_than_a_gibibyte():
    found = benchmark.memory(100_000)
    assert found["within_a_gibibyte"] and found["bytes"] > 3 * 4 * 100_000


def test_the_loop_over_sources_is_found():
    """Among the loops of a kernel: those that wait, select, or hold others are not it."""
    mix = machine_code.main_loop(CODE)
    assert mix == {"LDS": 1, "FADD": 1, "MUFU": 1, "FFMA": 1, "BRA": 1}
    with pytest.raises(ValueError, match="0 loops"):
        machine_code.main_loop(CODE.replace("MUFU", "FMUL"))


def test_the_laws_of_the_paper_are_all_counted():
    assert {law.name for law in machine_code.laws()} == set(machine_code.MINIMUM)
    assert set(machine_code.MINIMUM) == set(benchmark.PAPER)
    assert machine_code.MINIMUM["gravity"] == 13, "as the facts of the field have it"


def test_cuda_program_builds(tmp_path):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("needs nvcc, which is not installed")
    source = Path(benchmark.__file__).with_name("all_pairs.cu")
    command = [compiler, "-use_fast_math", "-arch=sm_90a", "-cubin", source, "-o", "out.cubin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if done.returncode and "not found" in done.stderr:
        pytest.skip(f"nvcc cannot run here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def test_kernels_compile_to_what_the_goals_allow():
    """In a process of its own, as CUDA's compiler must be chosen before JAX starts."""
    pytest.importorskip("jax_plugins.xla_cuda13", reason="needs the extra gpu")
    program = (
        "from experiments import _machine_code\n"
        "from experiments.nbody import machine_code\n"
        "_machine_code.prepare()\n"
        "row = machine_code.measure(machine_code.laws()[0], 4096)\n"
        "assert row['reached'] and row['spilled_bytes'] == 0, row\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("integrator", ["hermite", "leapfrog"])
def test_energies_are_kept_the_better_the_shorter_the_steps(integrator):
    rough, fine = (
        energy.measure(integrator, eta, "float64", number=32, t_end=0.2) for eta in (0.1, 0.01)
    )
    assert fine["steps"] > 2 * rough["steps"]
    assert fine["largest_energy_error"] < 0.5 * rough["largest_energy_error"]
