"""Deep audio systems in JAX: piano transcription, speech recognition, voices."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepaudio._api import transcribe
    from deepaudio.data.notes import Notes

__version__ = "0.1.0"
__all__ = ["Notes", "__version__", "transcribe"]


def __getattr__(name: str):
    # JAX takes seconds to import, which `deepaudio --help` should not pay.
    if name == "transcribe":
        from deepaudio._api import transcribe

        return transcribe
    if name == "Notes":
        from deepaudio.data.notes import Notes

        return Notes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
