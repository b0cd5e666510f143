"""The vocoders' speeds: both networks run, and rows say what was timed."""

import numpy as np
import pytest

from experiments import benchmark_vocoder


def test_rows():
    rows = benchmark_vocoder.measure("smoke", [1, 2], frames=4, teacher_frames=1, repetitions=2)
    assert [(row["network"][:7], row["batch_size"]) for row in rows] == [
        ("student", 1),
        ("teacher", 1),
        ("student", 2),
        ("teacher", 2),
    ]
    for row in rows:
        rate = row["samples_per_second"] / row["batch_size"] / 16000
        np.testing.assert_allclose(row["times_real_time"], rate)
        assert len(row["all_seconds"]) == 2
    assert rows[1]["times_teacher"] == rows[3]["times_teacher"] == 1.0


def test_unknown_variants_are_named():
    with pytest.raises(ValueError, match="'huge'"):
        benchmark_vocoder.measure("huge", [1], frames=1, teacher_frames=1, repetitions=1)
