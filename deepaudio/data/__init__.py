"""Corpora, labels, augmentation and input pipelines."""

from deepaudio.data._common_voice import read_common_voice
from deepaudio.data._librispeech import read_librispeech
from deepaudio.data._ljspeech import read_ljspeech
from deepaudio.data._maestro import read_maestro
from deepaudio.data._manifest import read_manifest
from deepaudio.data._maps import read_maps, read_maps_text
from deepaudio.data._recording import Recording
from deepaudio.data._truth import read_truth
from deepaudio.data._utterance import Utterance
from deepaudio.data._vctk import read_vctk
from deepaudio.data.notes import Notes, read_midi, write_midi

__all__ = [
    "Notes",
    "Recording",
    "Utterance",
    "read_common_voice",
    "read_librispeech",
    "read_ljspeech",
    "read_maestro",
    "read_manifest",
    "read_maps",
    "read_maps_text",
    "read_midi",
    "read_truth",
    "read_vctk",
    "write_midi",
]
