"""The embedded Realtime server: sessions over memory or over a real WebSocket.

`server_in_process` serves sessions inside the caller's own event loop, without sockets and
threads, so that a conversation runs in virtual time. `serve` listens on a port for any client of
the protocol. Both are the same dull loop around `ServerProtocol`: wait for a message or for the
session's next deadline, hand it in, send what comes out.

The server is for this machine: it listens on the loopback unless it is told otherwise, and it
asks for a key only when it is given one.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import math
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.lowlevel import current_token
from attrs import field, frozen

from framepipe.errors import (
    FramepipeError,
    RemoteProtocolError,
    TransportClosed,
    TransportError,
    WiringError,
)
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.connection import (
    Connection,
    HandshakeRefused,
    WebSocketConnection,
    memory_pair,
)
from framepipe.realtime.events import ErrorDetail, ErrorEvent, Json, encode
from framepipe.realtime.limits import SessionMeter, SocketLimits
from framepipe.realtime.mind import Ears, Mind, Talk
from framepipe.realtime.server_agenda import Sent
from framepipe.realtime.server_faults import Faults as Faults
from framepipe.realtime.server_faults import FaultyLine
from framepipe.realtime.server_protocol import ServerProtocol
from framepipe.realtime.server_session import SESSION_LIMIT_S
from framepipe.realtime.server_vad import SpeechDetector
from framepipe.realtime.socket_log import KEY_PROTOCOL, socket_log
from framepipe.realtime.speech import Voice
from framepipe.realtime.voice import default_voice
from framepipe.realtime.window_detectors import SileroWindows

DEFAULT_PORT: Final = 8765

REMEMBERED_SESSIONS: Final = 16
"""Sessions of a server in process that stay at hand for inspection, newest kept.

Each holds its conversation and up to ten minutes of its audio, some 30 MB.
"""

_CLOSE_TIMEOUT_S: Final = 2.0
_POLICY_VIOLATION: Final = 1008
_BETA_DISABLED: Final = "beta_api_shape_disabled"

_log = logging.getLogger("framepipe")


Tap: TypeAlias = Callable[[str, str, str], None]
"""Told every message of every session: its id, "client" or "server" (who sent it), and the text."""


@frozen(kw_only=True)
class ServerSettings:
    """What the sessions of one server have in common.

    Attributes:
        mind: What is answered.
        voice: How that sounds; espeak-ng where it is installed, shipped clips otherwise.
        detector: Makes the speech detector of one session.
        ears: The user's words, where they are known.
        pace: How fast answers come and how slowly they stop.
        model: For clients whose URL names none.
        seed: Sessions of the same seed, number and input are the same.
        limit_s: Length at which a session ends itself, in seconds.
        key: What clients must present; ``None`` lets everybody in.
        faults: What goes wrong on purpose.
        tap: Sees every message as the server receives and sends it.
        mcp_servers: The tools of MCP servers, by label; others cannot be reached.

    Raises:
        WiringError: ``limit_s`` is not positive.
    """

    mind: Mind = field(factory=Talk)
    voice: Voice = field(factory=default_voice)
    detector: Callable[[], SpeechDetector] = SileroWindows
    ears: Ears | None = None
    pace: Pace = field(factory=Pace)
    model: str = "gpt-realtime-2.1"
    seed: int = 0
    limit_s: float = SESSION_LIMIT_S
    key: str | None = field(default=None, repr=False)
    faults: Faults = field(factory=Faults)
    tap: Tap | None = None
    mcp_servers: Mapping[str, Sequence[dict[str, Json]]] = field(factory=dict[str, Any])

    def __attrs_post_init__(self) -> None:
        if not self.limit_s > 0:
            raise WiringError(f"limit_s is {self.limit_s}; a session lasts longer than 0 seconds")


async def serve_connection(
    connection: Connection,
    session: ServerProtocol,
    faults: Faults | None = None,
    tap: Tap | None = None,
) -> None:
    """Serve one session until the client leaves or the session ends itself.

    Args:
        connection: To the client; closed at the end.
        session: A fresh session.
        faults: What goes wrong on purpose.
        tap: Sees every message.

    Cancellation closes the connection and leaves nothing behind. A mind that raises ends the
    session with code 1011, and its exception goes on.
    """
    serving = _Serving(connection, session, faults or Faults(), tap)
    code, reason = 1011, "the embedded server failed"
    try:
        code, reason = await serving.run()
    except anyio.get_cancelled_exc_class():
        code, reason = 1001, "the embedded server stops"
        raise
    except TransportError as error:
        _log.debug("session %s: %s", session.session.id, error)
    finally:
        with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await connection.aclose(code, reason)


class _Serving:
    """One session and its connection: wait for whichever comes first, hand it on, repeat."""

    def __init__(
        self, connection: Connection, session: ServerProtocol, faults: Faults, tap: Tap | None
    ) -> None:
        self._connection, self._session, self._faults, self._tap = connection, session, faults, tap
        self._line = FaultyLine(faults)
        self._left = math.inf if faults.close_after_events is None else faults.close_after_events
        self._began_ns = _now_ns()

    async def run(self) -> tuple[int, str]:
        """Serve; returns how to say goodbye."""
        faults = self._faults
        if faults.hang == "session":
            while True:
                await self._connection.receive()
        self._answer(self._session.open(_now_ns()))
        while True:
            for text in self._line.for_client(_now_ns()):
                if self._left > 0:
                    await self._connection.send(text)
                    self._left -= 1
            if self._left <= 0:
                return faults.close_code, "closed on purpose"
            ended = self._session.ended
            if ended is not None and self._line.deadline_ns is None:
                return ended.code, ended.reason
            if self._is_past(faults.drop_after_s):
                await _drop(self._connection)
                raise TransportClosed("dropped on purpose")
            if self._is_past(faults.half_open_after_s):
                await _freeze(self._connection)
                raise TransportClosed("half open on purpose")
            await self._step()

    async def _step(self) -> None:
        due_ns = self._due_ns()
        deadline = math.inf if due_ns is None else due_ns / 1e9
        with anyio.CancelScope(deadline=deadline) as waiting:
            try:
                self._line.from_client(await self._connection.receive(), _now_ns())
            except RemoteProtocolError as error:
                self._answer(self._session.refuse(str(error), _now_ns()))
        # A clock in floating point may wake a hair before the deadline.
        now_ns = max(_now_ns(), due_ns or 0) if waiting.cancelled_caught else _now_ns()
        for text in self._line.for_server(now_ns):
            if self._tap is not None:
                self._tap(str(self._session.session.id), "client", text)
            self._answer(self._session.receive_text(text, now_ns))
        if waiting.cancelled_caught:
            self._answer(self._session.advance(now_ns))

    def _answer(self, sent: Sequence[Sent]) -> None:
        events = [event for _, event in sent]
        if self._tap is not None:
            for event in events:
                self._tap(str(self._session.session.id), "server", encode(event))
        self._line.from_server(events, _now_ns())

    def _is_past(self, after_s: float | None) -> bool:
        return after_s is not None and _now_ns() >= self._began_ns + after_s * 1e9

    def _due_ns(self) -> int | None:
        faults = self._faults
        ends = [
            self._began_ns + round(after_s * 1e9)
            for after_s in (faults.drop_after_s, faults.half_open_after_s)
            if after_s is not None
        ]
        own = (self._session.deadline_ns, self._line.deadline_ns)
        return min((at_ns for at_ns in (*ends, *own) if at_ns is not None), default=None)


class EmbeddedServer:
    """Makes sessions and decides who gets one.

    Args:
        settings: What the sessions have in common.
    """

    def __init__(self, settings: ServerSettings | None = None) -> None:
        self.settings = settings or ServerSettings()
        self._begun = 0

    def new_session(self, url: str, started_unix_s: int = 0) -> ServerProtocol:
        """A fresh session for a client; the query of ``url`` may name a model and an intent."""
        chosen = self.settings
        asked = parse_qs(urlsplit(url).query)
        session = ServerProtocol(
            mind=chosen.mind,
            voice=chosen.voice,
            detector=chosen.detector(),
            ears=chosen.ears,
            pace=chosen.pace,
            model=asked.get("model", [chosen.model])[0],
            seed=chosen.seed + self._begun,
            started_unix_s=started_unix_s,
            limit_s=chosen.limit_s,
            transcribes_only=asked.get("intent") == ["transcription"],
            mcp_servers=chosen.mcp_servers,
        )
        self._begun += 1
        return session

    def refusal(self, headers: Mapping[str, str]) -> int | None:
        """HTTP status with which a client is turned away; ``None`` lets it in."""
        if self.settings.faults.refuse_status is not None:
            return self.settings.faults.refuse_status
        key = self.settings.key
        if key is None:
            return None
        offered = _offered_key({name.lower(): value for name, value in headers.items()})
        return None if hmac.compare_digest(offered.encode(), key.encode()) else 401


class InProcessServer(EmbeddedServer):
    """An `EmbeddedServer` for clients in the same event loop; see `server_in_process`.

    Attributes:
        sessions: The last `REMEMBERED_SESSIONS` sessions, oldest first, for those who check what
            a client did: ``sessions[-1].truncations``, ``.appended_ms``, ``.conversation``.
    """

    def __init__(self, settings: ServerSettings | None, tasks: TaskGroup) -> None:
        super().__init__(settings)
        self.sessions: deque[ServerProtocol] = deque(maxlen=REMEMBERED_SESSIONS)
        self._tasks = tasks

    @asynccontextmanager
    async def connect(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[Connection, None]:
        """Connect to a session of its own, as `framepipe.realtime.connection.connect` does.

        Args:
            url: Only its query is looked at.
            headers: As of an HTTP request.

        Raises:
            HandshakeRefused: The server turns the client away.
        """
        status = self.refusal(headers)
        if status is not None:
            hint = "; is the key right?" if status == 401 else ""
            raise HandshakeRefused(
                f"the embedded server refused the connection with HTTP status {status}{hint}",
                status,
            )
        if self.settings.faults.hang == "opening":
            await anyio.sleep_forever()
        near, far = memory_pair()
        self._tasks.start_soon(self._serve, far, url, headers)
        try:
            yield near
        finally:
            await near.aclose()

    async def _serve(self, far: Connection, url: str, headers: Mapping[str, str]) -> None:
        if await _turned_away(far, headers):
            return
        session = self.new_session(url)
        self.sessions.append(session)
        await serve_connection(far, session, self.settings.faults, self.settings.tap)


@asynccontextmanager
async def server_in_process(
    settings: ServerSettings | None = None,
) -> AsyncGenerator[InProcessServer, None]:
    """An embedded server in this event loop: no socket, no thread, virtual time if you like.

    Its sessions end with the context. A mind that raises is seen at the end of the context, as
    an exception group.

    Args:
        settings: What its sessions have in common.

    Returns:
        The server; its ``connect`` goes where a client wants to know how to connect.
    """
    async with anyio.create_task_group() as tasks:
        yield InProcessServer(settings, tasks)
        tasks.cancel_scope.cancel()


async def serve(
    settings: ServerSettings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    allow_remote: bool = False,
    limits: SocketLimits | None = None,
    task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Listen for WebSocket clients of the protocol until cancelled.

    Args:
        settings: What the sessions have in common.
        host: Address to listen on.
        port: TCP port, 0 to 65535; 0 takes a free one.
        allow_remote: Listen also where other machines can reach it. The log says that they can.
        limits: What clients may take; ``None`` are the defaults.
        task_status: Told the port as soon as clients can connect.

    Raises:
        WiringError: ``host`` is not the loopback and ``allow_remote`` is not set, or the port is
            no port.
        TransportError: The port is taken, or may not be opened.

    Cancellation closes the port and every session, and waits for at most a few seconds.
    """
    if not 0 <= port <= 65535:
        raise WiringError(f"port {port} is none; choose one from 0 (any) to 65535")
    if not allow_remote and not _is_loopback(host):
        raise WiringError(
            f"{host} can be reached from other machines; listen on 127.0.0.1, or allow it in a "
            "program of your own: serve(..., allow_remote=True)"
        )
    if not _is_loopback(host):
        who = "who has the key" if settings is not None and settings.key else "anybody"
        _log.warning("%s can be reached from other machines, by %s", host, who)
    server = _SocketServer(settings, limits or SocketLimits())
    try:
        if _running_on_trio():
            await server.run_on_trio(host, port, task_status)
        else:
            await server.run_on_asyncio(host, port, task_status)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise TransportError(
            f"cannot listen on {host}:{port}: {why}; choose another port, or stop the program "
            "that has it"
        ) from error


class _SocketServer(EmbeddedServer):
    """An embedded server behind the ``websockets`` library of either backend."""

    def __init__(self, settings: ServerSettings | None, limits: SocketLimits) -> None:
        super().__init__(settings)
        self._limits = limits
        self._n_open = 0
        self._stopping = anyio.Event()

    async def run_on_asyncio(self, host: str, port: int, task_status: TaskStatus[int]) -> None:
        import websockets.asyncio.server as driver

        server = await driver.serve(self._handle, host, port, **self._options())
        try:
            task_status.started(server.sockets[0].getsockname()[1])
            await anyio.sleep_forever()
        finally:
            self._stopping.set()
            with anyio.CancelScope(shield=True):
                server.close()
                await server.wait_closed()

    async def run_on_trio(self, host: str, port: int, task_status: TaskStatus[int]) -> None:
        import trio

        listeners = await trio.open_tcp_listeners(port, host=host)
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._listen_on_trio, listeners)
            try:
                task_status.started(listeners[0].socket.getsockname()[1])
                await anyio.sleep_forever()
            finally:
                self._stopping.set()

    async def _listen_on_trio(self, listeners: Any, *, task_status: TaskStatus[None]) -> None:
        import websockets.trio.server as driver

        async def listen(*, task_status: TaskStatus[Any]) -> None:
            options = self._options()
            await driver.serve(
                self._handle, listeners=listeners, task_status=task_status, **options
            )

        # Fenced off from the cancellation that stops us: its sessions want to say goodbye first.
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as fenced:
                server = await fenced.start(listen)
                task_status.started()
                await self._stopping.wait()
                await server.aclose()

    def _options(self) -> dict[str, Any]:
        return {
            "logger": socket_log,
            "process_request": self._on_request,
            "select_subprotocol": _subprotocol,
            # Compression makes base64 audio five times dearer.
            "compression": None,
            "max_size": self._limits.message_bytes,
            "close_timeout": _CLOSE_TIMEOUT_S,
            "open_timeout": None if self.settings.faults.hang == "opening" else 10,
        }

    async def _on_request(self, socket: Any, request: Any) -> Any:
        if self.settings.faults.hang == "opening":
            await self._stopping.wait()
        status = self.refusal(dict(request.headers.raw_items()))
        if status is None and self._n_open >= self._limits.sessions:
            _log.warning("a client was refused: %d sessions are open", self._n_open)
            status = 503
        return None if status is None else socket.respond(status, "refused\n")

    async def _handle(self, socket: Any) -> None:
        self._n_open += 1
        try:
            await self._serve_socket(socket)
        finally:
            self._n_open -= 1

    async def _serve_socket(self, socket: Any) -> None:
        connection = _SocketConnection(socket, SessionMeter(self._limits, _now_ns()))
        headers = dict(socket.request.headers.raw_items())
        try:
            if await _turned_away(connection, headers):
                return
            session = self.new_session(socket.request.path, started_unix_s=int(time.time()))
            await serve_connection(connection, session, self.settings.faults, self.settings.tap)
        except FramepipeError as error:
            # One bad session ends alone; the others, and the server, go on.
            _log.warning("session ended: %s", error)


class _SocketConnection(WebSocketConnection):
    """The server's side of a socket, which has limits and can also fail without a word."""

    def __init__(self, socket: Any, meter: SessionMeter) -> None:
        super().__init__(socket)
        self._meter = meter

    async def receive(self) -> str:
        """As `Connection.receive`; a client that sends too much is sent away."""
        text = await super().receive()
        excess = self._meter.excess(len(text), _now_ns())
        if excess is not None:
            _log.warning("a session was closed: %s", excess)
            with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
                await self.aclose(_POLICY_VIOLATION, excess)
            raise TransportClosed(excess)
        return text

    async def drop(self) -> None:
        """Cut the socket, as a network does."""
        self._closed = True
        transport = getattr(self._socket, "transport", None)
        if transport is not None:
            transport.abort()
        else:
            with anyio.CancelScope(shield=True) as forced:
                forced.cancel()
                await self._socket.stream.aclose()

    async def freeze(self) -> None:
        """Leave the socket open and never look at it again, until the server stops."""
        transport = getattr(self._socket, "transport", None)
        if transport is not None:
            transport.pause_reading()
        await self._socket.wait_closed()


async def _drop(connection: Connection) -> None:
    if isinstance(connection, _SocketConnection):
        await connection.drop()
    else:
        await connection.aclose(1006)


async def _freeze(connection: Connection) -> None:
    if isinstance(connection, _SocketConnection):
        await connection.freeze()
    else:
        await anyio.sleep_forever()


async def _turned_away(connection: Connection, headers: Mapping[str, str]) -> bool:
    """Refuse a client of the beta interface, as the service does since it is gone."""
    named = {name.lower(): value for name, value in headers.items()}
    if "realtime=v1" not in named.get("openai-beta", ""):
        return False
    detail = ErrorDetail(
        code=_BETA_DISABLED,
        message="The Realtime Beta API is no longer supported; leave the OpenAI-Beta header out.",
    )
    try:
        await connection.send(encode(ErrorEvent(event_id="event_beta", error=detail)))
    except TransportError as error:
        _log.debug("a beta client left by itself: %s", error)
    await connection.aclose(4000, f"invalid_request_error.{_BETA_DISABLED}")
    return True


def _subprotocol(_socket: object, offered: Sequence[str]) -> str | None:
    """Browsers offer "realtime" and expect it back; other clients offer nothing."""
    return "realtime" if "realtime" in offered else None


def _offered_key(headers: Mapping[str, str]) -> str:
    """The key that a client presents, in any of the three ways; empty when it has none."""
    bearer = headers.get("authorization", "")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(KEY_PROTOCOL):
            return protocol.strip().removeprefix(KEY_PROTOCOL)
    return headers.get("api-key", "")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _running_on_trio() -> bool:
    return hasattr(current_token().native_token, "run_sync_soon")


def _now_ns() -> int:
    return round(anyio.current_time() * 1e9)
