"""`deepaudio info`: what a bug report needs."""

import json
from importlib import metadata, resources
from typing import Annotated

import typer

from deepaudio import __version__

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "soundfile", "soxr")


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show versions, devices and the models that are installed."""
    import platform

    import jax

    facts = {
        "deepaudio": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "devices": [f"{device.platform} {device.device_kind}" for device in jax.devices()],
        "models": _shipped_models(),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"deepaudio  {facts['deepaudio']}")
    typer.echo(f"python     {facts['python']} on {facts['platform']}")
    for name, version in facts["libraries"].items():
        typer.echo(f"{name:10} {version}")
    for device in facts["devices"]:
        typer.echo(f"device     {device}")
    for model in facts["models"]:
        typer.echo(f"model      {model['name']} ({model['megabytes']} MB)")
    if not facts["models"]:
        typer.echo("model      none installed")


def _shipped_models() -> list[dict]:
    folder = resources.files("deepaudio") / "weights"
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if file.name.endswith(".safetensors"))
    return [
        {
            "name": file.name.removesuffix(".safetensors"),
            "megabytes": round(len(file.read_bytes()) / 1e6, 1),
        }
        for file in files
    ]
