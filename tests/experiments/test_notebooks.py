"""The Colab notebooks: clean in git, and each runs from top to bottom in smoke mode."""

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from traitlets.config import Config

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "colab"
PATHS = sorted(FOLDER.glob("*.ipynb"))
NAMES = ["distil", "galaxies", "recognize", "sparse_training", "transcribe"]
COLAB = "https://colab.research.google.com/github/deepaudio/deepaudio/blob/main/experiments/colab"


class _ThisPython(AsyncKernelManager):
    """Starts kernels by the Python that runs the tests, which need not be known to Jupyter."""

    @property
    def kernel_spec(self):
        arguments = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=[sys.executable, *arguments], display_name="this", language="python")


class Run:
    """What a notebook has shown.

    Attributes:
        text: All that was printed.
        outputs: By cell id: a MIME bundle for every output that is not text.
    """

    def __init__(self, notebook):
        """Collects the outputs of an executed notebook."""
        self.text, self.outputs = "", {}
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                if output.output_type == "stream":
                    self.text += output.text
                elif "data" in output:
                    self.outputs.setdefault(cell.id, []).append(output.data)

    def numbers(self, pattern):
        """The numbers of the first printed line that matches, as floats."""
        found = re.search(pattern, self.text)
        assert found, f"{pattern!r} is nowhere in:\n{self.text}"
        return [float(group) for group in found.groups()]

    def count(self, mime, cell=None):
        """How many outputs of a MIME type there are, of one cell or of all."""
        chosen = self.outputs.values() if cell is None else [self.outputs.get(cell, [])]
        return sum(mime in data for outputs in chosen for data in outputs)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run(name)` executes a notebook in a folder of its own."""
    # What a notebook run by hand would not see: pytest's pictures without a display, eight devices.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=1")
    monkeypatch.setenv("DEEPAUDIO_SMOKE", "1")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = tmp_path / "notebook"
    folder.mkdir()

    def execute(name):
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        # Unix sockets: of ports, two tests at once might choose the same. Their path must be short.
        with tempfile.TemporaryDirectory(prefix="nb-") as short:
            sockets = {"transport": "ipc", "connection_file": f"{short}/kernel.json"}
            NotebookClient(
                notebook,
                config=Config({"AsyncKernelManager": sockets}),
                kernel_manager_class=_ThisPython,
                resources={"metadata": {"path": str(folder)}},
                timeout=600,
            ).execute()
        return Run(notebook)

    return execute


def test_all_notebooks_are_here():
    assert [path.stem for path in PATHS] == NAMES


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    nbformat.validate(notebook)
    first, second = notebook.cells[:2]
    assert first.cell_type == second.cell_type == "markdown"
    assert f"({COLAB}/{path.name})" in first.source
    assert "colab-badge.svg" in first.source
    assert second.source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert 'COLAB = "google.colab" in sys.modules' in code[0].source
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(cell.metadata == {} for cell in notebook.cells)
    # Chosen by hand: a tool would draw new ones whenever it writes the file.
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", cell.id) for cell in notebook.cells)


def test_notebooks_install_the_same_way():
    first = [
        next(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        for path in PATHS
    ]
    assert len(set(first)) == 1
    assert 'REPOSITORY = "https://github.com/deepaudio/deepaudio"' in first[0]


def test_transcribe(run, tmp_path):
    shown = run("transcribe")
    (count,) = shown.numbers(r"(\d+) notes, the first")
    assert count > 20
    (f1,) = shown.numbers(r"note +F1 ([\d.]+)")
    assert f1 > 0.5
    # The recording, the notes played, and both at once.
    assert [shown.count("text/html", cell) for cell in ("recording", "listen", "both")] == [1] * 3
    assert [shown.count("image/png", cell) for cell in ("roll", "heads", "thresholds")] == [1] * 3
    assert (tmp_path / "notebook" / "transcription.mid").read_bytes().startswith(b"MThd")


def test_recognize(run, require):
    require("flite")
    shown = run("recognize")
    assert "twenty" in shown.text.split("recognised:")[1].splitlines()[0]
    assert shown.count("image/png", "letters") == 1
    # Some text was shown while it could still change.
    assert re.search(r"s  \[\w.*\]", shown.text)
    assert "the same as of the whole recording: True" in shown.text
    assert re.search(r"\{'emma': 10.0\} .* emma ", shown.text)


def test_recognize_without_synthesizers(run, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    shown = run("recognize")
    assert "these are tones" in shown.text
    assert "the same as of the whole recording: True" in shown.text


def test_sparse_training(run):
    shown = run("sparse_training")
    (dense,) = shown.numbers(r"dense: F1 ([\d.]+)")
    threshold, f1 = shown.numbers(r"threshold: sparsity ([\d.]+), F1 ([\d.]+)")
    (cubic,) = shown.numbers(r"cubic: sparsity ([\d.]+)")
    assert dense > 0.9
    assert cubic == pytest.approx(0.9, abs=0.002)
    assert 0.8 < threshold < 0.95
    assert 0.5 < f1 <= 1
    # The mask is lifted in the end: only what no gradient reaches stays zero.
    (redense,) = shown.numbers(r"dense-sparse-dense: sparsity ([\d.]+) at the end")
    assert redense < 0.2
    (zeros,) = shown.numbers(r"matrix, ([\d.]+)% zeros")
    (smaller,) = shown.numbers(r"packed .* ([\d.]+) times smaller")
    (difference,) = shown.numbers(r"largest difference of the products ([\d.]+)")
    assert zeros == pytest.approx(90, abs=0.2)
    assert smaller > 4  # 10 times fewer weights of 3 bytes for 4, less the lanes' ends
    assert 0 < difference < 2**-7  # bfloat16 keeps 8 bits
    cells = ("data", "masks", "curves", "bands")
    assert [shown.count("image/png", cell) for cell in cells] == [1] * 4


def test_distil(run):
    shown = run("distil")
    before, after = shown.numbers(r"bits a sample: ([\d.]+) to ([\d.]+)")
    assert after < before - 2
    before, after = shown.numbers(r"KL in nats a sample: ([\d.]+) to ([\d.]+)")
    assert 0 <= after < 0.6 * before
    assert shown.numbers(r"the student is ([\d.]+) times as fast")[0] > 0
    assert shown.count("text/html", "listen") == 3
    assert shown.count("image/png") == 3


def test_galaxies(run):
    shown = run("galaxies")
    (energy,) = shown.numbers(r"largest energy error: ([\d.]+) %")
    assert energy < 0.5
    before, after = shown.numbers(r"error of the velocity: ([\d.]+) to ([\d.]+)")
    assert after < 0.3 * before
    before, after = shown.numbers(r"mismatch of sharp pictures: ([\d.]+) to ([\d.]+)")
    assert after < 0.3 * before
    assert shown.count("image/gif", "film") == 1
    cells = ("galaxy", "pictures", "energy", "result")
    assert [shown.count("image/png", cell) for cell in cells] == [1, 1, 1, 2]


@pytest.mark.parametrize("name", NAMES)
def test_no_setting_of_smoke_mode_is_left_on(name):
    """Smoke mode comes from the environment alone."""
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert os.environ.get("DEEPAUDIO_SMOKE") is None
    assert len(re.findall(r"SMOKE = ", text)) == 1
