"""What the user of the server decides."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one client may ask for.

    Attributes:
        max_body_bytes: Of an upload.
        max_seconds: Of sound in an upload.
        max_message_bytes: Of a WebSocket message.
        max_streams: Live streams at a time.
        requests_per_minute: Of one address, WebSockets counted when they begin; 0 for no limit.
        max_jobs: Uploads worked on at a time; twice as many more may wait.
        body_seconds: In which an upload must have come.
        deadline_seconds: In which it must have been answered, from then on.
        idle_seconds: A WebSocket without a message for so long is closed.
    """

    max_body_bytes: int = 64 * 2**20
    max_seconds: float = 1800.0
    max_message_bytes: int = 2**20
    max_streams: int = 256
    requests_per_minute: int = 120
    max_jobs: int = 8
    body_seconds: float = 60.0
    deadline_seconds: float = 300.0
    idle_seconds: float = 60.0

    def __post_init__(self):
        """Refuses what is no limit.

        Raises:
            ValueError: A number is out of range.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "requests_per_minute" else 1e-3
            if not (value >= least and math.isfinite(value)):
                raise ValueError(f"{field.name}={value} must be at least {least:g}")


@dataclasses.dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: What clients must send as `Authorization: Bearer TOKEN`; None for nothing.
        origins: Origins, e.g. "https://example.org", whose pages may ask besides the server's own.
    """

    token: str | None = None
    origins: tuple[str, ...] = ()
