"""What the socket library writes into the log: one line at a time, and never a key.

At the level DEBUG the library logs every header of the opening request. The keys in them are
replaced by dots before any handler sees the record. A failure is a line; its traceback is for who
debugs.
"""

from __future__ import annotations

import logging
from typing import Final

from framepipe.realtime.address import hidden

KEY_PROTOCOL: Final = "openai-insecure-api-key."
"""Browsers cannot set headers: the key comes as a subprotocol with this prefix."""

_HEADERS: Final = frozenset(
    {"authorization", "api-key", "cookie", "proxy-authorization", "sec-websocket-protocol"}
)
"""Headers whose value is, or holds, a key."""

_parent: Final = logging.getLogger("framepipe")


class _Discreet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args
        if isinstance(args, tuple):
            record.args = _without_keys(args)
        if record.exc_info and not _parent.isEnabledFor(logging.DEBUG):
            record.msg = f"{record.getMessage()}: {record.exc_info[1]!r}"
            record.args, record.exc_info = (), None
        return True


def _without_keys(args: tuple[object, ...]) -> tuple[object, ...]:
    """The arguments of a line: a header and its value, or the path of a request among others."""
    if len(args) == 2 and isinstance(args[0], str) and args[0].lower() in _HEADERS:
        return (args[0], "…")
    return tuple(hidden(a) if isinstance(a, str) and a.startswith("/") else a for a in args)


socket_log: Final = _parent.getChild("socket")
"""The logger that both ends give to the socket library."""

socket_log.addFilter(_Discreet())
