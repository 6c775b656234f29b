"""What goes wrong on purpose between the embedded server and its client.

`Faults` says what; `FaultyLine` does the part of it that needs no socket: it stands between the
session and the connection, holds messages back in either direction, puts errors in between, says
some events twice or late. Two lines with the same seed and the same input do the same.

Only what the service is known to do: events that are ordered against others stay in order, and
audio is neither doubled nor moved. Slow generation, slow cancels and late deltas are no faults of
the line; they are in `Pace`.

Sans-IO: messages and times in, messages and a deadline out.

Source: realtime reference, sections 1.3 (what is ordered), 3.3 ("the ack may come after other
events"), 3.6 and 4.3.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, Literal

from attrs import field, frozen
from msgspec.structs import replace

from framepipe.errors import FramepipeError
from framepipe.realtime.events import ErrorDetail, ErrorEvent, KnownServerEvent, encode

UNORDERED: Final = frozenset(
    {
        "conversation.item.truncated",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "conversation.item.input_audio_transcription.failed",
        "rate_limits.updated",
    }
)
"""Events that recordings show at various places: only these may come late or twice."""

_MS: Final = 1_000_000


class FaultsError(FramepipeError, ValueError):
    """Faults that cannot be; whoever chose them must choose others."""


def _at_least(low: float) -> Callable[[Any, Any, Any], None]:
    def check(_faults: object, attribute: Any, value: float | None) -> None:
        if value is not None and not value >= low:
            raise FaultsError(f"{attribute.name} is {value}; {low:g} or more is needed")

    return check


def _is_refusal(_faults: object, _attribute: object, status: int | None) -> None:
    if status is not None and not 400 <= status <= 599:
        raise FaultsError(
            f"refuse_status is {status}; a refusal is an HTTP status from 400 to 599, such as 503"
        )


@frozen(kw_only=True)
class Faults:
    """What goes wrong on purpose.

    Attributes:
        refuse_status: HTTP status with which every handshake is refused, 400 to 599, such as 503.
        hang: "opening": the handshake is never answered; "session": it is, and then nothing is.
        close_after_events: Close the connection after this many server events.
        close_code: With which code; one that WebSocket allows to be sent, such as 1011 or 4000.
        drop_after_s: Cut the connection after so many seconds, without a goodbye.
        half_open_after_s: From then on nothing is sent and nothing is read, pings included: the
            socket of a peer that lost its network. (On trio the library still answers pings.)
        delay_to_server_ms: What the client sends arrives so much later.
        delay_to_client_ms: What the server sends arrives so much later.
        jitter_ms: Up to so much on top, drawn for each message; the order stays.
        error_after_events: Put an ``error`` event after every so many server events.
        error_code: Its code.
        late_ms: Events that the service does not order (`UNORDERED`) come up to so much later than
            the others, and so among them.
        repeat: The same events come twice, as after a reconnect inside the service.

    Raises:
        FaultsError: A number is too small, or a status is no refusal.
    """

    refuse_status: int | None = field(default=None, validator=_is_refusal)
    hang: Literal["opening", "session"] | None = None
    close_after_events: int | None = field(default=None, validator=_at_least(0))
    close_code: int = 1011
    drop_after_s: float | None = field(default=None, validator=_at_least(0))
    half_open_after_s: float | None = field(default=None, validator=_at_least(0))
    delay_to_server_ms: float = field(default=0.0, validator=_at_least(0))
    delay_to_client_ms: float = field(default=0.0, validator=_at_least(0))
    jitter_ms: float = field(default=0.0, validator=_at_least(0))
    error_after_events: int | None = field(default=None, validator=_at_least(1))
    error_code: str = "server_error"
    late_ms: float = field(default=0.0, validator=_at_least(0))
    repeat: bool = False


class FaultyLine:
    """Messages in both directions, as late and as wrong as `Faults` says.

    Args:
        faults: What goes wrong.
        seed: Of the jitter.
    """

    def __init__(self, faults: Faults, seed: int = 0) -> None:
        self._faults = faults
        self._chance = Random(seed)
        self._to_server = _Way(faults.delay_to_server_ms, faults.jitter_ms, self._chance)
        self._to_client = _Way(faults.delay_to_client_ms, faults.jitter_ms, self._chance)
        self._events = 0

    @property
    def deadline_ns(self) -> int | None:
        """When something arrives on either side; ``None`` while nothing is under way."""
        due = [way.deadline_ns for way in (self._to_server, self._to_client)]
        return min((at_ns for at_ns in due if at_ns is not None), default=None)

    def from_client(self, text: str, at_ns: int) -> None:
        """A message left the client."""
        self._to_server.put(text, at_ns)

    def for_server(self, at_ns: int) -> list[str]:
        """What has reached the server by now, in order."""
        return self._to_server.take(at_ns)

    def from_server(self, events: Sequence[KnownServerEvent], at_ns: int) -> None:
        """Events left the server."""
        faults = self._faults
        for event in events:
            unordered = event.type in UNORDERED
            late_ms = self._chance.uniform(0, faults.late_ms) if unordered else 0.0
            text = encode(event)
            self._to_client.put(text, at_ns, late_ms)
            if faults.repeat and unordered:
                self._to_client.put(text, at_ns, late_ms)
            self._events += 1
            if faults.error_after_events and self._events % faults.error_after_events == 0:
                self._to_client.put(encode(self._error()), at_ns)

    def for_client(self, at_ns: int) -> list[str]:
        """What has reached the client by now, in order."""
        return self._to_client.take(at_ns)

    def _error(self) -> ErrorEvent:
        detail = ErrorDetail(
            type="server_error",
            code=self._faults.error_code,
            message="The server had an error while processing your request; asked for by a fault.",
        )
        return replace(ErrorEvent(error=detail), event_id=f"event_fault{self._events:08d}")


class _Way:
    """One direction."""

    def __init__(self, delay_ms: float, jitter_ms: float, chance: Random) -> None:
        self._delay_ms, self._jitter_ms, self._chance = delay_ms, jitter_ms, chance
        self._under_way: list[tuple[int, int, str]] = []
        self._put = 0
        self._last_ns = 0

    @property
    def deadline_ns(self) -> int | None:
        return self._under_way[0][0] if self._under_way else None

    def put(self, text: str, at_ns: int, late_ms: float = 0.0) -> None:
        delay_ms = self._delay_ms
        if self._jitter_ms:
            delay_ms += self._chance.uniform(0, self._jitter_ms)
        # A stream: nothing overtakes what was sent before it, unless it is late by itself.
        arrives_ns = max(self._last_ns, at_ns + round(delay_ms * _MS))
        self._last_ns = arrives_ns
        self._put += 1
        heapq.heappush(self._under_way, (arrives_ns + round(late_ms * _MS), self._put, text))

    def take(self, at_ns: int) -> list[str]:
        taken: list[str] = []
        while self._under_way and self._under_way[0][0] <= at_ns:
            taken.append(heapq.heappop(self._under_way)[2])
        return taken
