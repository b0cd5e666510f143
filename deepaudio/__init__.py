"""Deep audio systems in JAX: piano transcription, speech recognition, voices."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepaudio._api import recognize, transcribe, vocode
    from deepaudio.data.notes import Notes
    from deepaudio.tasks.recognizer import Recognition

__version__ = "0.1.0"
__all__ = ["Notes", "Recognition", "__version__", "recognize", "transcribe", "vocode"]


def __getattr__(name: str):
    # JAX takes seconds to import, which `deepaudio --help` should not pay.
    if name in ("recognize", "transcribe", "vocode"):
        from deepaudio import _api

        return getattr(_api, name)
    if name == "Recognition":
        from deepaudio.tasks.recognizer import Recognition

        return Recognition
    if name == "Notes":
        from deepaudio.data.notes import Notes

        return Notes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
