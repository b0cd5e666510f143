"""Bodies of requests: within their limits, to a file; and the sound in them."""

import asyncio
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from deepaudio import audio
from deepaudio.serving._guard import ApiError
from deepaudio.serving.settings import Limits

_COPIED_BYTES = 1 << 20
_MOST_FIELDS = 16


async def receive_upload(request: Request, folder: Path, limits: Limits) -> Path:
    """Writes a request's body, or the file in it if it is multipart, into a folder.

    Args:
        request: Whose body has not been read.
        folder: Where the file goes; its name tells nothing.
        limits: For size and time.

    Returns:
        The file.

    Raises:
        ApiError: 400, 408 or 413.
        ClientDisconnect: The client has gone.
    """
    most = limits.max_body_bytes
    too_large = ApiError(413, f"the body is larger than {most} bytes", Connection="close")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large
    path = folder / "upload"
    limited = Request(request.scope, _counted(request.receive, most, too_large))
    try:
        async with asyncio.timeout(limits.body_seconds):
            if request.headers.get("content-type", "").startswith("multipart/form-data"):
                size = await _save_part(limited, path)
            else:
                size = await _save_body(limited, path)
    except TimeoutError:
        seconds = f"{limits.body_seconds:g} s"
        raise ApiError(408, f"the body did not come within {seconds}", Connection="close") from None
    if not size:
        raise ApiError(400, "the body is empty; send a sound file")
    return path


def _counted(receive, most, error):
    """Messages as they come, until there is too much in them."""
    received = 0

    async def counted():
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise error
        return message

    return counted


async def _save_body(request, path) -> int:
    size = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            size += file.write(chunk)
    return size


async def _save_part(request, path) -> int:
    size = 0
    try:
        async with request.form(max_files=1, max_fields=_MOST_FIELDS) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if not files:
                raise ApiError(400, "the multipart body holds no file")
            with path.open("wb") as file:
                while chunk := await files[0].read(_COPIED_BYTES):
                    size += file.write(chunk)
    except HTTPException as error:
        raise ApiError(400, f"the multipart body cannot be read: {error.detail}") from None
    return size


def upload_folder() -> tempfile.TemporaryDirectory:
    """A folder for one request's files, which goes when it is left."""
    return tempfile.TemporaryDirectory(prefix="deepaudio-", ignore_cleanup_errors=True)


class Sound:
    """The sound of an uploaded file, a block at a time.

    Attributes:
        seconds: Length of what has been read.
    """

    def __init__(self, path: Path, *, sample_rate: int, block_seconds: float, max_seconds: float):
        """Nothing is read yet.

        Args:
            path: A sound file.
            sample_rate: Wanted, in Hz.
            block_seconds: Length of a block.
            max_seconds: Of all of it.
        """
        self.seconds = 0.0
        self._path, self._rate = path, sample_rate
        self._block, self._most = round(block_seconds * sample_rate), max_seconds

    def blocks(self) -> Iterator[np.ndarray]:
        """(n,) float32 mono blocks.

        Raises:
            ApiError: 422: it is no sound, or too long.
        """
        try:
            yield from self._limited(
                audio.iter_blocks(self._path, sample_rate=self._rate, block_samples=self._block)
            )
        except audio.AudioError as error:
            raise ApiError(422, f"the sound cannot be used: {error}") from error

    def _limited(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.seconds += len(block) / self._rate
            if self.seconds > self._most:
                raise ApiError(422, f"the sound is longer than {self._most:g} s")
            yield block
