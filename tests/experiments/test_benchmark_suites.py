"""The benchmark suites: what they write, what they skip, and that they go on after failures."""

import csv
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from experiments import _arguments
from experiments.benchmark import __main__ as program
from experiments.benchmark import _cases, _device, _naive, _pictures, _systems, _training, _work
from experiments.benchmark._cases import Case, Skip, Timed, Work
from experiments.benchmark._results import Results
from experiments.nbody import benchmark as nbody

ABOUT = {
    "scale": "smoke", "platform": "cpu", "device": "a computer", "devices": 1, "revision": "1",
    "versions": "jax 1",
}  # fmt: skip


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the program in this process: its exit status, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["benchmark"])
    known = set(flags.FLAGS)

    def run(*words):
        program._define_flags()
        try:
            program.main(_arguments._parse(["benchmark", *map(str, words)]))
            status = 0
        except SystemExit as exit:
            status = exit.code
        finally:
            flags.FLAGS.remove_flag_values(set(flags.FLAGS) - known)
            jax.config.update("jax_disable_most_optimizations", False)
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def smoke(repository, tmp_path_factory):
    """The folder of a whole run at the smallest scale, and what it said."""
    folder = tmp_path_factory.mktemp("smoke")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    program = [sys.executable, "-m", "experiments.benchmark", "--scale=smoke", "--record=suites"]
    done = subprocess.run(
        [*program, f"--output={folder}", f"--records={folder}"],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def rows(smoke):
    return json.loads((smoke[0] / "results.json").read_text())["rows"]


def test_every_suite_is_measured(rows):
    measured = {(row["suite"], row["case"]) for row in rows if "rate" in row}
    laws = {f"nbody_{law}" for law in nbody.PAPER}
    others = {"wavenet_generate", "sparse_matvec", "gru", "gru_gradient"}
    others |= {"ctc_loss_and_gradient", "log_mel"}
    assert {case for suite, case in measured if suite == "kernels"} == laws | others
    assert {case for suite, case in measured if suite == "models"} == set(_systems.SYSTEMS)
    assert ("training", "deep_speech") in measured
    assert ("device", "product") in measured and ("device", "triad") in measured


def test_rows_hold_medians_spread_and_ratios(rows):
    for row in rows:
        if "skipped" in row:
            continue
        assert 0 < row["least_seconds"] <= row["median_seconds"] <= row["most_seconds"]
        assert min(row["all_seconds"]) == pytest.approx(row["least_seconds"], abs=1e-6)
        assert 0 < row["least_ratio"] <= row["ratio"] <= row["most_ratio"]
        if row["contestant"] == row["baseline"]:
            assert row["ratio"] == row["least_ratio"] == row["most_ratio"] == 1
        if row["suite"] == "models":
            assert row["flops"] > 0 and row["bytes"] > 0 and row["unit"] == "second of sound"


def test_what_a_cpu_cannot_do_is_skipped_and_said(smoke, rows):
    skipped = {(row["case"], row["contestant"]): row.get("skipped") for row in rows}
    said = smoke[1].stdout
    for case in (f"nbody_{law}" for law in nbody.PAPER):
        assert "needs an NVIDIA GPU since Hopper" in skipped[case, "mosaic_gpu"]
    assert "Hopper" in skipped["wavenet_generate", "mosaic_gpu"]
    assert "float32" in skipped["deep_speech", "float16, loss scaling"]
    assert "several devices" in skipped["deep_speech", "data parallel"]
    for reason in filter(None, skipped.values()):
        assert reason in said


def test_csv_and_record_hold_the_same_rows(smoke, rows):
    with (smoke[0] / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows)
    for written, row in zip(table, rows, strict=True):
        assert written["contestant"] == row["contestant"]
        assert written["skipped"] == row.get("skipped", "")
        if "rate" in row:
            assert float(written["median_seconds"]) == row["median_seconds"]
            assert float(written["ratio"]) == row["ratio"]
    record = json.loads((smoke[0] / "suites.json").read_text())
    assert record["results"] == rows and record["scale"] == "smoke"
    assert record["ceilings"]["source"] == "measured" and record["ceilings"]["bandwidth"] > 0


def test_the_picture_is_a_png(smoke):
    assert (smoke[0] / "roofline.png").read_bytes().startswith(b"\x89PNG")
    assert not (smoke[0] / "sweep.png").exists()


def test_a_failing_case_gives_exit_1_and_resuming_measures_it_alone(command, monkeypatch, tmp_path):
    runs = []

    def counted():
        return Timed(lambda: runs.append("run"), 1, None)

    def failing():
        raise ValueError("it broke\nin two lines")

    cases = [
        Case("kernels", "bad", 1, "things", "thing", {"plain": counted, "new": failing}),
        Case("kernels", "good", 1, "things", "thing", {"plain": counted, "other": Skip("never")}),
    ]
    monkeypatch.setitem(program.SUITES, "kernels", lambda scale, sweep: cases)
    words = ["kernels", "--scale=smoke", f"--output={tmp_path}"]

    def kept():
        rows = json.loads((tmp_path / "results.json").read_text())["rows"]
        return {(row["case"], row["contestant"]): row for row in rows}

    status, said, errors = command(*words)
    assert status == 1
    failed = "benchmark: 1 failed: kernels/bad 1, new: ValueError: it broke"
    assert failed in errors.splitlines()
    assert "skipped: other of good: never" in said
    rows = kept()
    assert rows["bad", "new"]["error"] == "ValueError: it broke"
    assert rows["bad", "plain"]["ratio"] == rows["good", "plain"]["ratio"] == 1
    assert rows["good", "other"]["skipped"] == "never"
    # One that compiles and two that are timed, in each case.
    assert len(runs) == 6

    assert command(*words)[0] == 1
    assert len(runs) == 9 and kept()["good", "plain"] == rows["good", "plain"]
    # What failed does so no more, and nothing is left to measure.
    cases[0].contestants["new"] = counted
    assert command(*words)[0] == 0
    assert len(runs) == 15
    assert command(*words)[0] == 0
    assert len(runs) == 15
    assert command(*words, "--again")[0] == 0
    assert len(runs) == 24


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kernel"], "benchmark: no such suite kernel; nearest: kernels; there are kernels, "),
        (["--only=x", "kernels"], "benchmark: --only=x: no case of that name"),
        (["--scale=paper"], "benchmark: --scale=paper is for accelerators and this is a CPU; "),
        (["--scale=huge"], "benchmark: flag --scale=huge: value should be one of <smoke|small|"),
    ],
)
def test_wrong_usage_is_one_line(command, tmp_path, words, said):
    status, printed, errors = command(*words, f"--output={tmp_path / 'out'}")
    assert status == 2 and not printed
    assert errors.startswith(said) and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_list_runs_nothing(command, tmp_path):
    status, printed, _ = command("models", "--scale=paper", "--list", f"--output={tmp_path / 'x'}")
    assert status == 0 and not (tmp_path / "x").exists()
    assert (
        "models/wavenet (8 sounds)\n    float32: baseline\n    bfloat16: skipped: a CPU" in printed
    )


def test_cases_are_chosen_by_suite_and_pattern():
    def paths(*suites, **options):
        settings = {"sweep": False, "only": None, **options}
        return [case.path for case in program.choose(list(suites), "small", **settings)]

    everything = paths()
    assert paths("models", "kernels") == [p for p in everything if not p.startswith("training")]
    assert paths(only="models/*net") == ["models/wavenet", "models/parallel_wavenet"]
    assert paths("kernels", only="ctc", sweep=True) == 3 * ["kernels/ctc_loss_and_gradient"]
    with pytest.raises(ValueError, match="--only=nothing: no case of that name"):
        paths(only="nothing")
    (case,) = program.choose(
        ["training"], "small", sweep=False, only="deep_speech_2", contestants=["bfloat16"]
    )
    assert list(case.contestants) == [case.baseline, "bfloat16"]
    with pytest.raises(ValueError, match="--contestants=float8: no such contestant"):
        paths("training", contestants=["bfloat16", "float8"])


def test_ratios_are_of_speeds_within_a_turn(monkeypatch):
    seconds = {"usual": [1.0, 2.0, 4.0], "ours": [1.0, 1.0, 1.0]}
    monkeypatch.setattr(_cases, "take_turns", lambda runs, repetitions: seconds)
    # Ours does twice as much in a run.
    case = Case(
        "kernels", "x", 1, "things", "thing",
        {
            "usual": lambda: Timed(lambda: None, 10, None),
            "ours": lambda: Timed(lambda: None, 20, Work(60.0, 30.0)),
        },
    )  # fmt: skip
    usual, ours = _cases.measure(case, 3)
    assert usual["ratio"] == 1 and usual["rate"] == 5 and "flops" not in usual
    assert (ours["least_ratio"], ours["ratio"], ours["most_ratio"]) == (2, 4, 8)
    assert (ours["rate"], ours["flops_per_second"], ours["flops_per_byte"]) == (20, 60, 2)


def test_a_baseline_that_cannot_be_had_leaves_no_ratio():
    made = {"usual": Skip("not here"), "ours": lambda: Timed(lambda: None, 1, None)}
    rows = _cases.measure(Case("kernels", "x", 1, "things", "thing", made), 1, hurried=True)
    assert rows[0]["skipped"] == "not here"
    assert "ratio" not in rows[1] and "rate" in rows[1]


def test_a_run_that_fails_when_timed_is_an_error_of_the_case():
    left = iter([None])
    made = {"ours": lambda: Timed(lambda: next(left), 1, None)}
    (row,) = _cases.measure(Case("kernels", "x", 1, "things", "thing", made), 1, hurried=True)
    assert row["error"] == "StopIteration" and "rate" not in row


@pytest.mark.parametrize("name", ["scale", "device", "devices", "revision", "versions"])
def test_another_scale_device_revision_or_library_is_measured_anew(tmp_path, name):
    case = Case("kernels", "x", 1, "things", "thing", {"a": lambda: Timed(lambda: None, 1, None)})
    Results(tmp_path, ABOUT).add(_cases.measure(case, 1, hurried=True))
    assert Results(tmp_path, ABOUT).measured(case)
    other = Results(tmp_path, {**ABOUT, name: "other"})
    assert not other.measured(case)
    other.add(_cases.measure(case, 1, hurried=True))
    kept = json.loads((tmp_path / "results.json").read_text())["rows"]
    # Figures of other devices stay beside the new ones; those of other code are replaced.
    assert len(kept) == (1 if name in ("revision", "versions") else 2)
    assert len(other.rows([case])) == 1


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds no results of this program"):
        Results(tmp_path, ABOUT)


def test_work_counts_every_step_of_a_scan():
    x, w = jnp.ones((8, 64)), jnp.ones((64, 64))

    def inner(x):
        return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, length=5)[0]

    def outer(x):
        return jax.lax.scan(lambda h, _: (jax.jit(inner)(h), None), x, None, length=7)[0]

    product = 2 * 8 * 64 * 64
    assert _work.count_flops(inner, x) == pytest.approx(5 * product, rel=0.01)
    assert _work.count_flops(outer, x) == pytest.approx(35 * product, rel=0.01)
    compiled, work = _work.compile_counted(outer, x)
    np.testing.assert_allclose(compiled(x), outer(x), rtol=1e-5)
    assert work.flops == pytest.approx(35 * product, rel=0.01)
    # Every step reads the matrix, and the state at least twice.
    assert work.bytes > 35 * w.nbytes


@pytest.mark.parametrize("law", nbody.PAPER)
def test_broadcasting_computes_the_same_forces(law):
    arrays = nbody.bodies(40)
    function, names = nbody.law(law)
    given = [jnp.asarray(arrays[name]) for name in names]
    ours, theirs = jax.tree.leaves(function(*given)), jax.tree.leaves(_naive.force(law, *given))
    for found, expected in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("scale", ["small", "paper"])
@pytest.mark.parametrize("system", _systems.SYSTEMS)
def test_every_system_takes_its_batch_at_every_scale(system, scale):
    load = _systems.workload(system, scale)
    own = jax.eval_shape(load.task.init, jax.random.key(0))
    state = {name: value for name, value in own.items() if name != "params"}
    loss, _ = jax.eval_shape(load.task.loss, own["params"], state, load.batch, jax.random.key(0))
    assert loss.shape == () and load.seconds > 0
    assert len(load.batch["samples"]) == _systems.batch_size(system, scale)
    found = jax.eval_shape(_systems.forward(load.task), own, load.batch)
    assert all(leaf.shape[0] == len(load.batch["samples"]) for leaf in jax.tree.leaves(found))


def test_drawn_variables_have_the_shapes_of_the_task_s_own():
    task = _systems.workload("deep_speech_2", "smoke").task
    own, drawn = jax.eval_shape(task.init, jax.random.key(0)), _systems.variables(task)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (own, drawn))
    assert shapes[0] == shapes[1]
    kernels = [leaf for leaf in jax.tree.leaves(drawn["params"]) if leaf.ndim > 1]
    assert all(np.std(leaf) > 0 for leaf in kernels)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(drawn))


def test_a_float16_step_over_two_devices_runs():
    """On a CPU this is not timed, as it gains nothing there."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with jax.numpy_dtype_promotion("standard"):
            timed = _training.make_step("deep_speech", "smoke", precision="float16", devices=2)
            timed.run()
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
    alone = _systems.workload("deep_speech", "smoke").seconds
    assert timed.units == 2 * alone and timed.work.flops > 0


def test_ceilings_are_the_table_s_or_the_best_that_was_measured():
    assert _device.ceilings([], "NVIDIA H200").bandwidth == 4.8e12
    assert _device.ceilings([], "abacus") is None
    rows = [
        {
            "suite": "device", "case": case, "contestant": "float32", "rate": rate,
            "median_seconds": 2.0, "least_seconds": 1.0,
        }
        for case, rate in (("product", 50.0), ("triad", 5.0))
    ]  # fmt: skip
    found = _device.ceilings(rows, "abacus")
    assert (found.bandwidth, found.peaks) == (10.0, {"float32": 100.0})


def test_a_sweep_is_drawn_over_its_sizes(tmp_path):
    rows = [
        {
            "suite": "kernels", "case": "x", "contestant": name, "baseline": "usual", "size": size,
            "size_of": "things", "unit": "thing", "rate": 1.0 * size, "flops": 2.0 * size,
            "bytes": 3.0, "flops_per_byte": size / 1.5, "flops_per_second": 1.0 * size,
        }
        for size in (1, 10)
        for name in ("usual", "ours")
    ]  # fmt: skip
    rows.append({"suite": "kernels", "case": "x", "contestant": "none", "skipped": "not here"})
    ceilings = _device.Ceilings("measured", 1.0, {"float32": 20.0})
    assert _pictures.roofline(rows, ceilings, "a title", tmp_path / "roofline.png") == 4
    _pictures.sweep(rows, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
