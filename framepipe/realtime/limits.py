"""What one client may take of a server that listens on a socket.

A client that sends more than anybody could say is broken or hostile; it is told so and its
connection is closed, before it takes the time of the others. The limits are far above what an
honest client does: one that comes back after a broken connection sends half a minute of audio and
the conversation at once.

Sans-IO: sizes and times in, a reason to close or ``None`` out.
"""

from __future__ import annotations

from attrs import field, frozen

from framepipe.errors import WiringError
from framepipe.frames import NS_PER_S


@frozen(kw_only=True)
class SocketLimits:
    """What the clients of one listening server may take.

    Attributes:
        sessions: Sessions at a time; more are refused with HTTP status 503.
        message_bytes: Longest message. The default is 15 MiB of audio in base64, the longest
            append that the service takes.
        events_per_s: Messages of one session in the long run.
        events_at_once: Messages that may come beyond that rate, at once.
        bytes_per_s: Characters of one session's messages in the long run. Audio at the speed of
            speech is 64 kB/s; the default is 16 times that.
        bytes_at_once: Characters that may come beyond that rate, at once.

    Raises:
        WiringError: A number is not positive, or the longest message is more than may come at
            once.
    """

    sessions: int = field(default=1_000)
    message_bytes: int = field(default=20 * 1024 * 1024)
    events_per_s: int = field(default=1_000)
    events_at_once: int = field(default=20_000)
    bytes_per_s: int = field(default=1024 * 1024)
    bytes_at_once: int = field(default=64 * 1024 * 1024)

    def __attrs_post_init__(self) -> None:
        numbers = {
            name: getattr(self, name)
            for name in (
                "sessions",
                "message_bytes",
                "events_per_s",
                "events_at_once",
                "bytes_per_s",
                "bytes_at_once",
            )
        }
        for name, value in numbers.items():
            if value <= 0:
                raise WiringError(f"{name} is {value}; it must be 1 or more")
        if self.message_bytes > self.bytes_at_once:
            raise WiringError(
                f"message_bytes is {self.message_bytes} and bytes_at_once {self.bytes_at_once}; "
                "the longest message must be allowed to come at once"
            )


class _Allowance:
    """So much at once, and so much more for each second that passes."""

    def __init__(self, per_s: int, at_once: int, now_ns: int) -> None:
        self._per_s = per_s
        self._at_once = at_once
        self._used = 0.0
        self._at_ns = now_ns

    def take(self, amount: int, at_ns: int) -> bool:
        """Whether so much may be taken now; it is taken in any case."""
        passed_s = max(0, at_ns - self._at_ns) / NS_PER_S
        self._at_ns = max(self._at_ns, at_ns)
        self._used = max(0.0, self._used - passed_s * self._per_s) + amount
        return self._used <= self._at_once


class SessionMeter:
    """Watches what one session sends.

    Args:
        limits: What it may.
        at_ns: Now.
    """

    def __init__(self, limits: SocketLimits, at_ns: int) -> None:
        self._limits = limits
        self._events = _Allowance(limits.events_per_s, limits.events_at_once, at_ns)
        self._bytes = _Allowance(limits.bytes_per_s, limits.bytes_at_once, at_ns)

    def excess(self, n_bytes: int, at_ns: int) -> str | None:
        """A message came: why the connection is to be closed, at most 123 bytes, or ``None``."""
        if not self._events.take(1, at_ns):
            return f"too many messages; at most {self._limits.events_per_s} a second"
        if not self._bytes.take(n_bytes, at_ns):
            return f"too much audio; at most {self._limits.bytes_per_s} bytes a second"
        return None
