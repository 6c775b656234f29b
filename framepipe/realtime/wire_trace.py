"""Every message of every session of the embedded server in a file, one JSON line each.

Audio is left out but for its length, so that a line can be read and the file stays small. Keys are
left out, too: a session may name tools of other servers, with what they want to see.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, cast

from framepipe.errors import FramepipeError

_log = logging.getLogger("framepipe")

_SECRET = frozenset({"authorization", "headers", "api_key"})
"""Fields whose values are nobody's business, wherever they stand."""

_AUDIO_IN = {"input_audio_buffer.append": "audio", "response.output_audio.delta": "delta"}


class WireTrace:
    """Writes what a `framepipe.realtime.server.Tap` is told; use it as a context.

    Args:
        path: The file, overwritten; ``None`` writes nothing.

    Raises:
        FramepipeError: The file cannot be written; on entering.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._file = self._path.open("w", encoding="utf-8")
            except OSError as error:
                raise FramepipeError(f"{self._path}: {error.strerror}; choose another") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._give_up()

    def __call__(self, session_id: str, sender: str, text: str, /) -> None:
        """Write one message."""
        if self._file is None:
            return
        try:
            event: Any = _without_secrets(_without_audio(json.loads(text)))
        except ValueError:
            event = text
        at_s = round(time.monotonic(), 4)
        line = {"at_s": at_s, "session": session_id, "dir": sender, "event": event}
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            # A trace is beside the sessions: they go on without it.
            _log.warning("%s: %s; the trace ends here", self._path, error.strerror)
            self._give_up()

    def _give_up(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what could not be written before cannot be now
                file.close()


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        named = cast("dict[str, object]", value)
        return {
            name: "(left out)" if name in _SECRET else _without_secrets(inner)
            for name, inner in named.items()
        }
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in cast("list[object]", value)]
    return value


def _without_audio(event: Any) -> Any:
    field = _AUDIO_IN.get(event.get("type", "")) if hasattr(event, "get") else None
    if field is not None and isinstance(event.get(field), str):
        event[field] = f"({len(event[field])} characters of base64)"
    return event
