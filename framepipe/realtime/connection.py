"""Text messages over a WebSocket, or over nothing at all.

`Connection` is all that the Realtime shells know of the world. `connect` makes one over the
running backend's own driver of the ``websockets`` library; `memory_pair` makes two that are
each other's peer, without sockets and threads, so that they work in virtual time.

Libraries' exceptions end here: what leaves is `TransportClosed` (we closed it) or
`TransportBroken` (somebody else did), each with one line that says what happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, current_token

from framepipe.errors import RemoteProtocolError, TransportBroken, TransportClosed
from framepipe.realtime.socket_log import socket_log

OPEN_TIMEOUT_S: Final = 10.0
"""How long a server may take to open a connection."""

CLOSE_TIMEOUT_S: Final = 2.0
"""How long we wait for the other side's goodbye; the socket is closed after it in any case."""

PING_INTERVAL_S: Final = 10.0
"""How often the other side is asked whether it is still there, however silent the call is."""

PING_TIMEOUT_S: Final = 10.0
"""How long its answer may take; then the connection is broken. A network that swallows packets
says nothing by itself for many minutes."""

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""Longest message taken from a server: an item that is retrieved brings up to 15 MiB of audio, 20
in base64. Whatever is longer is no event, and the connection is closed with code 1009."""

MEMORY_CAPACITY: Final = 1_024
"""Messages that wait in one direction of a memory pair before the sender does."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class HandshakeRefused(TransportBroken):
    """The server answered the opening request, and did not open the connection.

    Attributes:
        status: Its HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_final(self) -> bool:
        """Whether the same request will be refused again: it is wrong, not the moment."""
        return 400 <= self.status < 500 and self.status not in (408, 425, 429)


class Connection(Protocol):
    """Text messages in both directions, in order, to one peer."""

    async def send(self, text: str) -> None:
        """Send one message; waits while the peer is slow.

        Cancellation may leave it sent or not sent, never in part.

        Raises:
            TransportClosed: We closed the connection.
            TransportBroken: It is gone.
        """
        ...

    async def receive(self) -> str:
        """The next message; waits for it. Cancellation loses none.

        Raises:
            TransportClosed: We closed the connection.
            TransportBroken: It is gone; the message says why, with the close code.
            RemoteProtocolError: A binary message came.
        """
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye and close; a second time does nothing.

        Args:
            code: WebSocket close code.
            reason: For the peer, at most 123 bytes.
        """
        ...


Connect: TypeAlias = Callable[[str, Mapping[str, str]], AbstractAsyncContextManager[Connection]]
"""How a connection is made from a URL and headers; leaving the context closes it."""


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    return host in _LOOPBACK or (host.startswith("127.") and host.replace(".", "").isdigit())


@asynccontextmanager
async def connect(
    url: str,
    headers: Mapping[str, str],
    *,
    open_timeout_s: float = OPEN_TIMEOUT_S,
    ping_interval_s: float = PING_INTERVAL_S,
    ping_timeout_s: float = PING_TIMEOUT_S,
) -> AsyncGenerator[Connection, None]:
    """Open a WebSocket and close it at the end of the context.

    Args:
        url: ``ws://…`` or ``wss://…``.
        headers: Sent with the opening request.
        open_timeout_s: Seconds that the server may take to open it.
        ping_interval_s: Seconds between two pings.
        ping_timeout_s: Seconds that the answer to a ping may take.

    Raises:
        HandshakeRefused: The server says no; a `TransportBroken` with an HTTP status.
        TransportBroken: No connection came about; the message says why in one line and never
            holds a header.
    """
    from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

    async with AsyncExitStack() as stack:
        try:
            socket = await stack.enter_async_context(
                _driver().connect(
                    url,
                    additional_headers=dict(headers),
                    logger=socket_log,
                    # Compression makes base64 audio five times dearer.
                    compression=None,
                    max_size=MAX_MESSAGE_BYTES,
                    proxy=None if is_loopback(url) else True,
                    open_timeout=open_timeout_s,
                    close_timeout=CLOSE_TIMEOUT_S,
                    ping_interval=ping_interval_s,
                    ping_timeout=ping_timeout_s,
                )
            )
        except TimeoutError as error:
            why = f"it did not open the connection within {open_timeout_s:g} s"
            raise TransportBroken(f"{_where(url)}: {why}") from error
        except InvalidStatus as error:
            status = error.response.status_code
            raise HandshakeRefused(f"{_where(url)}: {_why_refused(status)}", status) from error
        except (OSError, InvalidHandshake) as error:
            raise TransportBroken(f"{_where(url)}: {_why_not_open(error)}") from error
        except InvalidURI as error:
            raise TransportBroken(f"{url!r} is no WebSocket URL; write wss://host/path") from error
        connection = WebSocketConnection(socket)
        try:
            yield connection
        finally:
            # Shielded: a cancelled call still says goodbye, so the server need not wait for it.
            with anyio.move_on_after(2 * CLOSE_TIMEOUT_S, shield=True):
                await connection.aclose()


class WebSocketConnection:
    """A `Connection` over a socket of the ``websockets`` library, client or server side.

    Args:
        socket: From ``websockets.asyncio`` or ``websockets.trio``.
    """

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._closed = False

    async def send(self, text: str) -> None:
        """As `Connection.send`."""
        from websockets.exceptions import ConnectionClosed

        try:
            await self._socket.send(text)
        except ConnectionClosed as error:
            raise self._gone(error) from error

    async def receive(self) -> str:
        """As `Connection.receive`."""
        from websockets.exceptions import ConnectionClosed

        try:
            message = await self._socket.recv()
        except ConnectionClosed as error:
            raise self._gone(error) from error
        if not isinstance(message, str):
            raise RemoteProtocolError(
                f"a binary message of {len(message)} bytes came; the protocol is JSON text"
            )
        return message

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """As `Connection.aclose`."""
        self._closed = True
        # One library, two names: trio's convention is aclose.
        close = getattr(self._socket, "aclose", None) or self._socket.close
        await close(code, reason)

    def _gone(self, error: Any) -> TransportClosed | TransportBroken:
        if self._closed:
            return TransportClosed("the connection was closed here")
        if error.rcvd is None:
            # The library itself says goodbye when pings are not answered.
            why = f": {error.sent.reason}" if error.sent is not None and error.sent.reason else ""
            return TransportBroken(f"the connection broke without a goodbye{why}")
        return TransportBroken(_goodbye(error.rcvd.code, error.rcvd.reason))


def memory_pair(capacity: int = MEMORY_CAPACITY) -> tuple[Connection, Connection]:
    """Two connections that are each other's peer.

    Args:
        capacity: Messages that wait in each direction before the sender does, 1 or more.
    """
    there, back = _OneWay(capacity), _OneWay(capacity)
    return _MemoryConnection(there, back), _MemoryConnection(back, there)


class _OneWay:
    """One direction of a memory pair."""

    def __init__(self, capacity: int) -> None:
        self.goodbye: tuple[int, str] | None = None
        self._capacity = max(1, capacity)
        self._messages: deque[str] = deque()
        self._changed = anyio.Event()

    async def put(self, text: str) -> bool:
        """Whether the message was taken: not after a goodbye."""
        await checkpoint_if_cancelled()
        while self.goodbye is None and len(self._messages) >= self._capacity:
            await self._changed.wait()
        if self.goodbye is not None:
            return False
        self._messages.append(text)
        self._wake()
        await cancel_shielded_checkpoint()
        return True

    async def get(self) -> str | None:
        """The next message; ``None`` after the last one before a goodbye."""
        await checkpoint_if_cancelled()
        while not self._messages:
            if self.goodbye is not None:
                return None
            await self._changed.wait()
        self._wake()
        text = self._messages.popleft()
        await cancel_shielded_checkpoint()
        return text

    def close(self, code: int, reason: str) -> None:
        if self.goodbye is None:
            self.goodbye = (code, reason)
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class _MemoryConnection:
    def __init__(self, outgoing: _OneWay, incoming: _OneWay) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._closed = False

    async def send(self, text: str) -> None:
        if self._closed or not await self._outgoing.put(text):
            raise self._gone()

    async def receive(self) -> str:
        text = None if self._closed else await self._incoming.get()
        if text is None:
            raise self._gone()
        return text

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if not self._closed:
            # Waits for nothing, so a cancelled task can do it. The peer may still read what was
            # sent; it can send no more.
            self._closed = True
            self._outgoing.close(code, reason)
            self._incoming.close(code, reason)

    def _gone(self) -> TransportClosed | TransportBroken:
        if self._closed:
            return TransportClosed("the connection was closed here")
        return TransportBroken(_goodbye(*(self._incoming.goodbye or (1006, ""))))


def _driver() -> Any:
    """The driver of the running backend; imported late, because it brings a network stack."""
    if hasattr(current_token().native_token, "create_future"):
        return import_module("websockets.asyncio.client")
    return import_module("websockets.trio.client")


def _goodbye(code: int, reason: str) -> str:
    return f"the peer closed the connection with code {code}" + (f": {reason}" if reason else "")


def _where(url: str) -> str:
    """A URL without its query, which may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")


def _why_refused(status: int) -> str:
    hint = "; is the key right?" if status in (401, 403) else ""
    return f"it refused the connection with HTTP status {status}{hint}"


def _why_not_open(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError) or "all attempts to connect" in str(error):
        return "nobody listens there"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"it is no WebSocket server ({str(error).splitlines()[0]})"
