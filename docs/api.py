"""Builds the reference of deepaudio's public Python names, as HTML pages.

    python docs/api.py build/docs

Needs pdoc (extra `docs`). Public are the packages with their `__all__`, and every module whose name
does not begin with an underscore, in no matter what room. A warning ends the build: it is a name
that does not resolve or a reference that leads nowhere.
"""

import pkgutil
import sys
import warnings
from pathlib import Path

import pdoc

import deepaudio


def public_modules() -> list[str]:
    """Names of `deepaudio` and all of its public modules, in order."""
    found = pkgutil.walk_packages(deepaudio.__path__, "deepaudio.")
    names = (module.name for module in found)
    return ["deepaudio", *(name for name in names if "._" not in name)]


def build(output: Path) -> None:
    """Writes a page for each public module, an index and a search index.

    Args:
        output: Folder, made if need be.
    """
    for name in deepaudio.__all__:
        # Names that are imported when first asked for; pdoc looks at what is there.
        setattr(deepaudio, name, getattr(deepaudio, name))
    version = f"deepaudio {deepaudio.__version__}"
    pdoc.render.configure(docformat="google", math=True, footer_text=version)
    specs: list[str] = []
    reached: set[str] = set()
    for name in public_modules():
        # pdoc goes into a package by itself, but only where there is no `__all__`.
        if name not in reached:
            specs.append(name)
            reached.update(pdoc.extract.walk_specs([name]))
    pdoc.pdoc(*specs, output_directory=output)


def main() -> None:
    """Builds into the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/api.py FOLDER")
    warnings.simplefilter("error")
    # optax's name for any tree of arrays refers to itself in a way that nobody can resolve.
    warnings.filterwarnings("ignore", "Error parsing type annotation .*'ArrayTree'")
    output = Path(sys.argv[1])
    build(output)
    print(f"wrote {output / 'index.html'}")


if __name__ == "__main__":
    main()
