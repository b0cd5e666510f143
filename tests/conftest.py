"""What every test runs under: strict JAX, eight host devices, no network, warnings are errors."""

import ipaddress
import os
import shutil
import socket
from pathlib import Path

import pytest

# All of this must stand before jax and numpy are first imported. One thread a pool, because
# pytest-xdist already runs a process a core; eight devices, so that sharding is really tested.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_pool, "1")
# Compiling is most of the tests' time, and compiling well what runs once is lost time.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=1",
    ]
).strip()

import jax  # noqa: E402
import numpy as np  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = Path(__file__).resolve().parent.parent


def require_program(name):
    """Skips the running test, with a reason, unless the program `name` is on PATH."""
    if shutil.which(name) is None:
        pytest.skip(f"needs the program {name}, which is not installed")


@pytest.fixture
def require():
    """`require("fluidsynth")` skips the test where that program is missing."""
    return require_program


@pytest.fixture(scope="session")
def repository():
    """The top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def example():
    """A recording of the repository and its true notes: paths (sound, midi)."""
    for sound in sorted((REPOSITORY / "examples").glob("*.flac")):
        midi = sound.with_suffix(".mid")
        if midi.exists():
            return sound, midi
    pytest.fail("examples/ holds no recording with its truth beside it")


@pytest.fixture
def rng(request):
    """A numpy generator, the same in every run and another one for each test."""
    return np.random.default_rng(list(request.node.nodeid.encode()))


def _is_local(address):
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = address[0]
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Fails a test that opens a connection to another machine."""
    for name in ("connect", "connect_ex"):
        real = getattr(socket.socket, name)

        def guarded(self, address, real=real):
            if not _is_local(address):
                pytest.fail(f"a test may not use the network, and this one asked for {address}")
            return real(self, address)

        monkeypatch.setattr(socket.socket, name, guarded)
