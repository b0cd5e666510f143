"""The documentation: its examples run, and the commands, names and links in it exist."""

import ast
import doctest
import importlib
import io
import pkgutil
import re
import shlex
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import jax
import pytest
import typer.main

import deepaudio
from deepaudio import cli
from experiments import _arguments, readme_tables

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [page.relative_to(REPOSITORY).as_posix() for page in readme_tables.pages()]
# What `experiments/configs/FILE.py:VARIANT` and the like stand for in a text.
_PLACEHOLDER = re.compile(r"[A-Z]{2,}|…|\.\.\.")
# A worked example of a page that makes files; those are not in the repository.
_MADE_BY_EXAMPLES = {"docs/adding_a_model.md"}


def text_of(page):
    return (REPOSITORY / page).read_text(encoding="utf-8")


def code_blocks(page, language):
    """The fenced blocks of a language, as text."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


# Examples in docstrings.


def documented_modules():
    """All modules of the package whose source has an example."""
    for module in pkgutil.walk_packages(deepaudio.__path__, "deepaudio."):
        path = REPOSITORY / module.name.replace(".", "/")
        path = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
        if ">>>" in path.read_text(encoding="utf-8"):
            yield module.name


@pytest.mark.parametrize("name", list(documented_modules()))
def test_examples_in_docstrings(name):
    # optax's Adam raises a float to an integer power, which strict promotion forbids.
    lenient = name.startswith("deepaudio.optim.")
    said = io.StringIO()
    with jax.numpy_dtype_promotion("standard") if lenient else nullcontext(), redirect_stdout(said):
        results = doctest.testmod(importlib.import_module(name))
    assert results.attempted, f"{name} has examples that doctest does not find"
    assert not results.failed, said.getvalue()


# Code in texts.


@pytest.mark.parametrize("page", [page for page in PAGES if code_blocks(page, "python")])
def test_python_in_texts_compiles(page):
    for block in code_blocks(page, "python"):
        compile(block, page, "exec")


def test_the_worked_example_runs(tmp_path, monkeypatch):
    """The blocks of the page are one program, in a folder of its own."""
    page = "docs/adding_a_model.md"
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    # As in training: optax does not keep to strict promotion.
    with jax.numpy_dtype_promotion("standard"):
        for number, block in enumerate(code_blocks(page, "python"), 1):
            exec(compile(block, f"{page}, block {number}", "exec"), names)
    assert list(tmp_path.glob("*.safetensors"))


# Commands in texts.


def commands(page):
    """The commands of a page's shell blocks and lines, as words; the parts of a pipe apart."""
    # Captions of tables tell how something was measured once.
    prose = re.sub(
        r"^```.*?^```|<!-- records.*?<!-- /records -->", "", text_of(page), flags=re.M | re.S
    )
    for line in re.findall(r"`((?:python -m experiments\.|deepaudio |make )[^`]+)`", prose):
        yield from pieces(line.replace("\n", " "))
    for block in code_blocks(page, "bash"):
        block = re.sub(r"\\\n\s*", " ", block)
        for quoted in re.findall(r'[= ]"([^"$]*python -m[^"]*)"', block):
            yield from pieces(quoted.replace("\n", " "))
        for line in re.sub(r'="[^"]*"', "=''", block).splitlines():
            yield from pieces(line)


def pieces(line):
    words = shlex.split(line.replace("…", ""), comments=True)
    piece = []
    for word in [*words, "|"]:
        if word in ("|", "&&", "&", ";"):
            if piece:
                yield piece
            piece = []
        else:
            piece.append(word)


def options_of(program):
    """The long options that a launcher defines, read from its source."""
    path = REPOSITORY / program.replace(".", "/")
    path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        return None
    found = {"help"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr.startswith("DEFINE_"):
            found.add(node.args[0].value)
        elif node.func.attr == "add_argument":
            found |= {word.value.lstrip("-") for word in node.args}
        elif node.func.attr == "define_flags":
            found |= options_of(f"experiments.{node.func.value.id}") or set()
    return found


def check_launcher(words):
    """What is wrong with the words after `python -m`; None if nothing is."""
    program, *arguments = words
    known = options_of(program)
    if known is None:
        return f"there is no program {program}"
    given = [word.partition("=") for word in arguments if word.startswith("--")]
    for flag, _, _ in given:
        name = flag.lstrip("-")
        if name.split(".")[0] not in known and name.removeprefix("no") not in known:
            return f"{program} has no option {flag}"
    configs = [value for flag, _, value in given if flag == "--config"]
    grids = [
        after for word, after in zip(arguments, arguments[1:], strict=False) if word == "--grid"
    ]
    overrides = [
        flag.removeprefix("--config.") for flag, *_ in given if flag.startswith("--config.")
    ]
    overrides += [grid.removeprefix("config.").partition("=")[0] for grid in grids]
    return check_config(configs[0], overrides) if configs else None


def check_config(config, overrides):
    if _PLACEHOLDER.search(config):
        return None
    file, _, variant = config.partition(":")
    if not (REPOSITORY / file).exists():
        return f"there is no configuration {file}"
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    known = _arguments.settings(module.get_config(variant) if variant else module.get_config())
    missing = [name for name in overrides if name not in known]
    return f"{config} has no setting {missing[0]}" if missing else None


def check_command(words):
    """What is wrong with the words after `deepaudio`; None if nothing is."""
    command = typer.main.get_command(cli.app)
    name, *arguments = words
    if not name.startswith("-"):
        if name not in command.commands:
            return f"there is no command deepaudio {name}"
        command = command.commands[name]
    else:
        arguments = words
    known = {"-h", "--help"}
    known |= {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
    given = [word.partition("=")[0] for word in arguments if word.startswith("-") and word != "-"]
    missing = [word for word in given if word not in known]
    return f"deepaudio {name} has no option {missing[0]}" if missing else None


def wrong_with(words):
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    words = words[1:] if words[:1] in (["srun"], ["exec"]) else words
    if words[:1] == ["deepaudio"]:
        return check_command(words[1:])
    if words[:2] == ["python", "-m"] and words[2].startswith("experiments"):
        return check_launcher(words[2:])
    if words[:1] == ["make"]:
        makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in words[1:] if "=" not in word]
        missing = [t for t in targets if not re.search(rf"^{t}:", makefile, re.MULTILINE)]
        return f"there is no target {missing[0]}" if missing else None
    return None


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_texts_exist(page):
    faults = [
        f"{' '.join(words)}: {fault}" for words in commands(page) if (fault := wrong_with(words))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "line",
    [
        "deepaudio sing a.wav",
        "deepaudio transcribe a.wav --loud",
        "python -m experiments.no_such_program",
        "python -m experiments.evaluate --data_dir=a --no_such_flag=1",
        "python -m experiments.train --config=experiments/configs/no.py:small --workdir=a",
        "python -m experiments.train --config=experiments/configs/wavenet.py:small --config.sede=1",
        "python -m experiments.sweep --config=experiments/configs/wavenet.py --grid config.sede=1",
        "exec python -m experiments.train --config=experiments/configs/wavenet.py --coordinator=a",
        "make cake",
    ],
)
def test_a_wrong_command_is_seen(line):
    (words,) = pieces(line)
    assert wrong_with(words)


# Links and names in texts.


def anchors(page):
    """What a link may name after #, by GitHub's rule."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target, _, anchor in re.findall(
        r"\]\((?!https?://)([^)#\s]*)(#?)([^)\s]*)\)", text_of(page)
    ):
        found = (REPOSITORY / page).parent / target if target else REPOSITORY / page
        assert found.exists(), f"{page} links to {target}"
        if anchor:
            other = found.resolve().relative_to(REPOSITORY).as_posix()
            assert anchor in anchors(other), f"{page} links to {target}#{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in _MADE_BY_EXAMPLES])
def test_named_files_exist(page):
    named = re.findall(r"`((?:[\w.-]+/)+(?:[\w-]+\.(?:py|md|toml|cfg|cu|sh))?)`", text_of(page))
    tops = {path.name for path in REPOSITORY.iterdir()}
    for name in named:
        if name.split("/")[0] in tops:
            assert (REPOSITORY / name).exists(), f"{page} names {name}"


def resolves(dotted):
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            fields = getattr(found, "__dataclass_fields__", {}) | getattr(
                found, "__annotations__", {}
            )
            if not hasattr(found, part):
                return part in fields
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES)
def test_python_names_in_texts_exist(page):
    named = re.findall(r"`((?:deepaudio|experiments)(?:\.\w+)+)(?:\(.*?\))?`", text_of(page))
    missing = [name for name in dict.fromkeys(named) if not resolves(name)]
    assert not missing, f"{page} names {missing}"


def test_every_page_is_in_the_index():
    index = REPOSITORY / "docs" / "README.md"
    linked = set(re.findall(r"\]\(([^)#\s]+\.md)", index.read_text(encoding="utf-8")))
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert pages - {"README.md"} <= linked


def test_lines_of_pages_are_not_too_long():
    for page in PAGES:
        if page.startswith("docs/"):
            prose = re.sub(r"<!-- records.*?<!-- /records -->", "", text_of(page), flags=re.DOTALL)
            long = [line for line in prose.splitlines() if len(line) > 120 and "|" not in line]
            assert not long, f"{page}: {long[0]}"
