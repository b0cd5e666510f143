import importlib.util
import sys

import numpy as np
import pytest

pytest.importorskip("ray.serve", reason="needs Ray: pip install 'deepaudio[ray]'")


@pytest.mark.filterwarnings("default")  # Ray's own
def test_ray_serve_says_what_the_recognizer_says(repository, weights, single, noise):
    import ray
    from ray import serve

    spec = importlib.util.spec_from_file_location(
        "ray_serve", repository / "examples" / "ray_serve.py"
    )
    example = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False)
    try:
        ray.cloudpickle.register_pickle_by_value(example)
        serve.run(example.Recognize.bind(weights["recognizer"]))
        handle = serve.get_app_handle("default")
        sounds = [noise(2 + number).astype(np.float32) / 32768 for number in range(4)]
        asked = [handle.recognize.remote(sound) for sound in sounds]
        for sound, answer in zip(sounds, asked, strict=True):
            assert answer.result(timeout_s=60)["text"] == single.recognize([sound]).text
    finally:
        serve.shutdown()
        ray.shutdown()
