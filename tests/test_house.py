"""The house itself: imports point down, the wheel works elsewhere, the texts tell the truth."""

import ast
import configparser
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import venv
import warnings
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

TOP = "the command and serving"  # with the package's own __init__, which hands out their names
BELOW = ["training", "evaluation", "tasks", "decoding", "models", "losses", "optim", "data"]
BELOW = [f"deepaudio.{name}" for name in (*BELOW, "audio", "kernels")]
MAY_IMPORT = {
    "experiments": {"experiments", TOP, "deepaudio.simulation", *BELOW},
    TOP: {TOP, "deepaudio.simulation", *BELOW},
    **{room: set(BELOW[i:]) for i, room in enumerate(BELOW[:4])},
    "deepaudio.simulation": {"deepaudio.simulation", "deepaudio.kernels"},
    "deepaudio.models": {"deepaudio.models", "deepaudio.kernels"},
    "deepaudio.losses": {"deepaudio.losses"},
    "deepaudio.optim": {"deepaudio.optim"},
    "deepaudio.data": {"deepaudio.data", "deepaudio.audio"},
    "deepaudio.audio": {"deepaudio.audio"},
    "deepaudio.kernels": {"deepaudio.kernels"},
}


def parts_of(path):
    """A source file's module name in parts, with the link to the kernels followed."""
    parts = list(path.with_suffix("").parts)
    if parts[0] == "kernels":
        parts = ["deepaudio", *parts]
    return parts[:-1] if parts[-1] == "__init__" else parts


def room_of(parts):
    if parts[0] == "experiments":
        return "experiments"
    room = ".".join(parts[:2])
    return room if room in MAY_IMPORT else TOP


def imported(tree, path):
    """Every module that a parsed file imports, in parts; `from a import b` gives a.b."""
    package = parts_of(path) if path.name == "__init__.py" else parts_of(path)[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                base = package[: len(package) - node.level + 1] + base
            for alias in node.names:
                yield [*base, alias.name]


def sources(repository, *folders):
    for folder in folders:
        for path in sorted((repository / folder).rglob("*.py")):
            relative = path.relative_to(repository)
            if relative.parts[:2] != ("deepaudio", "kernels"):
                yield relative


def violations(tree, path):
    """The imports of a file that point up."""
    room = room_of(parts_of(path))
    for parts in imported(tree, path):
        if parts[0] in ("deepaudio", "experiments", "kernels", "tests"):
            if parts[0] in ("kernels", "tests") or room_of(parts) not in MAY_IMPORT[room]:
                yield f"{path}: {room} imports {'.'.join(parts)}"


def test_imports_point_down(repository):
    found = [
        line
        for path in sources(repository, "deepaudio", "kernels", "experiments")
        for line in violations(ast.parse((repository / path).read_text()), path)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("deepaudio/models/x.py", "from deepaudio import tasks"),
        ("deepaudio/models/x.py", "from deepaudio.tasks.transcription import Rolls"),
        ("deepaudio/models/x.py", "from ..data import Notes"),
        ("deepaudio/audio/__init__.py", "import deepaudio.data.notes"),
        ("deepaudio/training/x.py", "def f():\n    from deepaudio import transcribe"),
        ("deepaudio/tasks/x.py", "import deepaudio"),
        ("deepaudio/cli.py", "from experiments import records"),
        ("deepaudio/simulation/x.py", "from deepaudio import models"),
        ("deepaudio/training/x.py", "from deepaudio import simulation"),
        ("kernels/nbody/api.py", "from deepaudio.models import wavenet"),
        ("experiments/x.py", "import kernels.nbody"),
    ],
)
def test_an_import_that_points_up_is_seen(path, line):
    assert list(violations(ast.parse(line), Path(path)))


def test_every_folder_is_a_room(repository):
    folders = {path.parent for path in (repository / "deepaudio").glob("*/__init__.py")}
    assert {f"deepaudio.{f.name}" for f in folders} - {"deepaudio.serving"} <= set(MAY_IMPORT)


def setup_cfg(repository):
    parser = configparser.ConfigParser()
    parser.read(repository / "setup.cfg")
    return parser


def requirements(text):
    return {
        re.match(r"[\w.-]+", line)[0].lower().replace("_", "-")
        for line in text.strip().splitlines()
    }


def test_third_party_imports_are_declared(repository):
    """At the top of a module by install_requires; within a function an extra may do."""
    parser = setup_cfg(repository)
    always = requirements(parser["options"]["install_requires"])
    extras = {name: requirements(v) for name, v in parser["options.extras_require"].items()}
    optional = set().union(*(extras[name] for name in ("scores", "lm", "voice", "serve", "speech")))
    owners = importlib.metadata.packages_distributions()
    missing = []
    for path in sources(repository, "deepaudio", "experiments"):
        tree = ast.parse((repository / path).read_text())
        top = ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
        # Only `deepaudio serve` and what measures it import the server, within a function.
        ever = always | extras["serve"] if "serving" in path.parts else always
        for scope, allowed in ((top, ever), (tree, always | optional)):
            for parts in imported(scope, path):
                if parts[0] in {"deepaudio", "experiments", *sys.stdlib_module_names}:
                    continue
                packages = {name.lower().replace("_", "-") for name in owners.get(parts[0], [])}
                if not packages & allowed:
                    missing.append(f"{path} imports {parts[0]}")
    assert not missing, "\n".join(sorted(set(missing)))


def test_kernels_import_only_jax(repository):
    allowed = {"jax", "jaxlib", "numpy", "deepaudio"}
    for path in sources(repository, "kernels"):
        for parts in imported(ast.parse((repository / path).read_text()), path):
            assert parts[0] in allowed or parts[0] in sys.stdlib_module_names, f"{path}: {parts}"


def committed(repository):
    """Files that git tracks or would track."""
    if not (repository / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=repository, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [repository / name for name in listed.split("\0") if name]


def test_no_text_names_a_machine(repository):
    # Written in pieces, or this file would be found.
    places = re.compile("|".join(f"/{name}/" for name in ("root", "home", "work", "Users")))
    for path in committed(repository):
        if path.is_file():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            found = places.search(re.sub(r"https?://\S+", "", text))
            assert not found, f"{path.relative_to(repository)} contains {found[0]!r}"


def test_links_in_texts_lead_somewhere(repository):
    for page in sorted(repository.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text)
        named = re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|md|cfg|toml|json))`", text)
        for name in {*links, *(n for n in named if "/" in n or n.isupper())}:
            assert (repository / name).exists(), f"{page.name} names {name}, which does not exist"


def test_commands_in_readme_exist(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    makefile = (repository / "Makefile").read_text()
    for target in re.findall(r"\bmake (\w+)  ", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for module in re.findall(r"python -m ([\w.]+)", text):
        path = repository / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for config in re.findall(r"--config=([\w/.]+\.py)", text):
        assert (repository / config).exists(), config


def test_tests_run_strictly():
    assert len(jax.devices("cpu")) == 8
    with pytest.raises(ValueError, match="dtype promotion"):
        jnp.ones(2, jnp.float32) + jnp.ones(2, jnp.int32)
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 2)) + jnp.ones(2)
    with pytest.raises(UserWarning):
        warnings.warn("a warning", stacklevel=1)


def test_tests_cannot_reach_the_network():
    with socket.socket() as far:
        with pytest.raises(pytest.fail.Exception, match="192.0.2.1"):
            far.connect(("192.0.2.1", 80))
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()


# The rest needs one built wheel.


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    """The wheel, built from the sdist, built from a copy: nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("checkout") / "deepaudio"
    copy.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, copy)
    for name in ("deepaudio", "kernels"):
        ignored = shutil.ignore_patterns("__pycache__", "*.tmp")
        shutil.copytree(repository / name, copy / name, symlinks=True, ignore=ignored)
    out = copy.parent / "dist"
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = out.glob("*.whl")
    return found


def test_wheel_holds_the_whole_package(wheel, repository):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.split("/")[0].endswith("info")}
    python = {
        p.relative_to(repository).as_posix() for p in (repository / "deepaudio").rglob("*.py")
    }
    kernels = {
        f"deepaudio/{p.relative_to(repository).as_posix()}"
        for p in (repository / "kernels").rglob("*.py")
    }
    weights = {
        p.relative_to(repository).as_posix()
        for p in (repository / "deepaudio" / "weights").iterdir()
        if p.suffix in (".safetensors", ".npz", ".json", ".md")
    }
    assert any(name.endswith(".safetensors") for name in weights)
    page = {
        p.relative_to(repository).as_posix()
        for p in (repository / "deepaudio" / "serving" / "static").iterdir()
    }
    assert "deepaudio/serving/static/index.html" in page
    assert {n for n in python | kernels | weights | page if "__pycache__" not in n} == held


def outside(environment=()):
    """An environment of variables in which the checkout plays no part."""
    dropped = {"PYTHONPATH", "VIRTUAL_ENV", "XLA_FLAGS"}
    return {k: v for k, v in os.environ.items() if k not in dropped} | dict(environment)


@pytest.fixture(scope="module")
def clean_python(wheel, tmp_path_factory):
    """The Python of a new environment that holds the wheel and what it declares, and no more."""
    folder = tmp_path_factory.mktemp("clean")
    uv = Path(sys.executable).with_name("uv")
    uv = str(uv) if uv.exists() else shutil.which("uv")
    venv.create(folder / "venv", with_pip=uv is None)
    python = folder / "venv" / "bin" / "python"
    if uv:
        install = [uv, "pip", "install", "--python", python]
        attempts = [[*install, "--offline", wheel], [*install, wheel]]
    else:
        attempts = [[python, "-m", "pip", "install", wheel]]
    for attempt in attempts:
        done = subprocess.run(attempt, capture_output=True, text=True, env=outside())
        if done.returncode == 0:
            return python
    if re.search(r"error sending request|dns error|NewConnectionError|timed out", done.stderr):
        pytest.skip("the packages that the wheel needs cannot be fetched")
    pytest.fail(done.stderr)


def test_wheel_works_in_a_clean_environment(clean_python, repository, example, tmp_path):
    def run(*words):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=outside())
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "transcribe" in run(clean_python.with_name("deepaudio"), "--help")
    program = (
        "import json, pathlib, deepaudio, deepaudio.kernels as k, importlib.metadata as m\n"
        "root = pathlib.Path(deepaudio.__file__).parent\n"
        "weights = [p.name for p in root.glob('weights/*.safetensors')]\n"
        "link = pathlib.Path(k.__file__).parent.is_symlink()\n"
        "print(json.dumps([str(root), k.__name__, link, weights, m.version('deepaudio')]))"
    )
    root, name, link, weights, version = json.loads(run(clean_python, "-c", program))
    assert not Path(root).is_relative_to(repository)
    assert (name, link) == ("deepaudio.kernels", False)
    assert weights
    assert version in (repository / "deepaudio" / "__init__.py").read_text()

    sound, _ = example
    run(clean_python.with_name("deepaudio"), "transcribe", sound, "-o", tmp_path)
    assert (tmp_path / f"{sound.stem}.mid").read_bytes().startswith(b"MThd")
