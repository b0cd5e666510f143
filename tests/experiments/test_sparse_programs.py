"""The programs that measure sparse inference: contestants agree, code is read, sizes are real."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import sparse
from deepaudio.models import Convolution, DeepSpeech2Config
from deepaudio.tasks.recognition import RecognitionConfig, RecognitionTask
from experiments.sparse import benchmark, machine_code, recognition

CODE = """
.L_x_1:
        /*0000*/                   LDS R4, [R2] ;
.L_x_2:
        /*0010*/                   SYNCS.PHASECHK R5, R6 ;
        /*0020*/              @!P0 BRA `(.L_x_2) ;
        /*0030*/                   FFMA R5, R6, R7, R8 ;
        /*0040*/               @P0 BRA `(.L_x_1) ;
.L_x_3:
        /*0050*/                   FADD R5, R6, R7 ;
        /*0060*/               @P0 BRA `(.L_x_3) ;
        /*0070*/                   EXIT ;
"""


@pytest.fixture
def case():
    matrix = machine_code.draw(150, 50, 0.9)
    vectors = np.random.default_rng(0).normal(0, 1, (2, 50)).astype(np.float32)
    # What bfloat16 holds, so that dense and packed multiply with the same.
    matrix = matrix.astype(jnp.bfloat16).astype(np.float32)
    return matrix, vectors, sparse.pack(matrix)


def test_contestants_compute_the_same(case):
    matrix, vectors, packed = case
    expected = vectors @ matrix
    for found in (
        benchmark.repeated(sparse.matvec, packed, vectors, 2)(),
        benchmark.repeated(benchmark.dense, matrix, vectors, 2)(),
        benchmark.csr_run(matrix, vectors, 2)(),
        # The sum of two products, three times.
        benchmark.in_turn(sparse.matvec, packed, vectors, 2, 3)()[1] / 6,
        benchmark.in_turn(benchmark.dense, matrix, vectors, 2, 3)()[1] / 6,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    ours, theirs = (
        benchmark.scanned(multiply, weights, vectors, 3)()
        for multiply, weights in ((sparse.matvec, packed), (benchmark.dense, matrix))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_row_for_each_contestant():
    seconds = {"ours": [1.0, 2.0, 4.0], "dense": [3.0, 4.0, 8.0]}
    ours, dense = benchmark.rows_of({"batch": 1}, "alone", seconds, 10)
    assert ours["ours_is_faster_times"] == 1.0
    assert dense["microseconds"] == pytest.approx(4e5)
    assert [dense[f"{name}_times"] for name in ("ours_is_faster", "least", "most")] == [2, 2, 3]


def test_both_measures_give_rows(monkeypatch):
    monkeypatch.setattr(benchmark, "take_turns", lambda runs, n: {k: [1.0] * n for k in runs})
    rows = benchmark.measure_cpu([(96, 48, 0.9, 1), (50, 48, 0.9, 1)], 2)
    assert [row["setting"] for row in rows] == ["alone"] * 3 + ["in a scan"] * 2 + ["alone"] * 3
    # Nothing of it runs, so it need not be a GPU.
    monkeypatch.setattr(benchmark, "_COLD_BYTES", 1)
    rows = benchmark.measure_gpu([(96, 48, 0.9, 1)], 2)
    assert [row["contestant"] for row in rows] == ["deepaudio", "dense bfloat16"]
    assert rows[1]["bytes"] == 2 * 96 * 48 and rows[0]["largest_error"] < 1e-6


def test_the_loop_over_nonzeros_is_found():
    """It may hold loops that wait."""
    assert machine_code.main_loop(CODE) == {"LDS": 1, "SYNCS": 1, "FFMA": 1, "BRA": 2}
    with pytest.raises(ValueError, match="no loop"):
        machine_code.main_loop(CODE.replace("FFMA", "FMUL"))


def test_gather_passes_are_counted_from_the_indices():
    """Lanes that all want one bank wait 32 times; one word for all is one pass."""
    steps = sparse.PackConfig(4)

    def passes(place):
        matrix = np.zeros((2048, 64), np.float32)
        for output in range(64):
            matrix[place(output), output] = 1.0
        packed = sparse.pack(matrix, config=steps)
        # Of one lane an output in its first step; all other steps stay where they are.
        return machine_code.gather_passes(packed, 1)

    # Two warps of outputs, of eight in the block; the others hold input 0.
    assert passes(lambda output: 32 * (output % 32)) == pytest.approx((2 * 32 + 6) / 8)
    assert passes(lambda output: output) == passes(lambda output: 5) == 1.0


def test_predictions_follow_the_sizes():
    small, large = (
        machine_code.predict(sparse.pack(machine_code.draw(*size, 0.9)), 1, 9.0, 2)
        for size in ((600, 200), (2400, 800))
    )
    assert large["memory_us"] > 10 * small["memory_us"]
    assert large["predicted_dense_us"] > small["predicted_dense_us"]
    for row in (small, large):
        longest = max(row[f"{part}_us"] for part in ("memory", "shared_memory", "instructions"))
        assert row["predicted_us"] == pytest.approx(longest + 3.0)


def test_the_kernel_compiles_without_spills():
    """In a process of its own, as CUDA's compiler must be chosen before JAX starts."""
    pytest.importorskip("jax_plugins.xla_cuda13", reason="needs the extra gpu")
    program = (
        "from experiments import _machine_code\n"
        "from experiments.sparse import machine_code\n"
        "_machine_code.prepare()\n"
        "for batch in (1, 8):\n"
        "    row = machine_code.measure(1536, 512, 0.9, batch)\n"
        "    assert row['spilled_bytes'] == 0 and row['registers'] <= 128, row\n"
        "    assert row['mix']['FFMA'] == 16 * batch, row\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def model():
    config = RecognitionConfig(
        model=DeepSpeech2Config(
            convolutions=(Convolution(8, 5, None, 3),),
            cell="gru",
            layers=1,
            units=64,
            bidirectional=False,
            dense_units=0,
        )
    )
    task = RecognitionTask(config)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    drawn = jax.tree.map(lambda s: 0.1 * rng.standard_normal(s.shape, np.float32), shapes)
    drawn["batch_stats"] = jax.tree.map(np.abs, drawn["batch_stats"])
    return task, drawn


def test_pruning_keeps_the_largest(model):
    _, variables = model
    before = variables["params"]["recurrent_0"]["recurrent_kernel"]
    after = recognition.prune(variables, 0.9)["params"]
    found = after["recurrent_0"]["recurrent_kernel"]
    assert sparse.zero_share(found) == pytest.approx(0.9, abs=1e-3)
    assert np.abs(before[found == 0]).max() <= np.abs(found[found != 0]).min() + 1e-4
    assert sparse.zero_share(after["logits"]["kernel"]) == 0


def test_every_form_has_a_size_and_the_networks_agree(model, monkeypatch):
    task, variables = model
    monkeypatch.setattr(recognition, "_SECONDS_OF_SOUND", 1)
    rows = recognition.measure("tiny", task, recognition.prune(variables, 0.9), None, [], 1)
    assert [row["form"] for row in rows] == ["float32", "bfloat16", "packed"]
    sizes = [row["bytes"] for row in rows]
    assert sizes[0] > 1.7 * sizes[1] > 1.7 * sizes[2]
    assert rows[2]["seconds_of_sound_a_second"] > 0
    networks = {"a": variables, "b": variables}
    utterances = functools.partial(lambda *_: [], None)
    monkeypatch.setattr(recognition.evaluate_speech, "read_split", utterances)
    heard = [(np.ones((3, 2)), "")]
    monkeypatch.setattr(recognition._speech_scores, "log_probs_of", lambda *_: heard)
    assert recognition.difference(task, networks, "", "") == 0.0


def test_a_dense_model_is_refused():
    class Given:
        workdir, weights, prune = None, "deep_speech_2_small", 0.0

    with pytest.raises(ValueError, match=r"deep_speech_2_small is not pruned \(at most 0.0 % zero"):
        recognition._model(Given)
