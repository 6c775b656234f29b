"""The page of `framepipe talk`: a few files and one WebSocket, on this machine.

Who may talk: a page that this server gave out itself (the ``Origin`` and the ``Host`` of its
requests say so), and that knows the token of this run. The key of the service never leaves this
process. Names in a URL are looked up in a table of the page's files; no path reaches the disk.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import TaskGroup
from attrs import field, frozen

from framepipe.errors import (
    FramepipeError,
    RemoteProtocolError,
    TransportBroken,
    TransportError,
    WiringError,
)
from framepipe.realtime.connection import is_loopback
from framepipe.talk.assembly import Assemble
from framepipe.talk.page_call import PageCall
from framepipe_processors.transports.browser import MAX_MESSAGE_BYTES
from framepipe_processors.transports.page_link import Wire

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError as missing:
    raise ImportError(
        f"framepipe talk needs {missing.name}: install framepipe[server]"
    ) from missing

DEFAULT_PORT: Final = 8080

MAX_CALLS: Final = 8
"""Pages that may talk at the same time; one person has no more tabs in use."""

HELLO_TIMEOUT_S: Final = 5.0
"""How long a socket may take to say who it is."""

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'self'; img-src data:; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

WRONG_TOKEN: Final = 4401
"""Close code: the page does not know the token of this run."""

TOO_MANY: Final = 4429
"""Close code: `MAX_CALLS` pages talk already."""

BROKE_RULES: Final = 4400
"""Close code: the page sent what no page sends."""


class _Hello(msgspec.Struct, tag="hello", tag_field="type"):
    token: str
    session: str
    had_seq: int = 0


_log: Final = logging.getLogger("framepipe")

_SESSION: Final = re.compile(r"[0-9a-f-]{36}")


@frozen(kw_only=True)
class TalkSettings:
    """What `serve_page` serves.

    Attributes:
        assemble: Makes the pipeline of each call.
        host: Address to listen at.
        port: 0 takes a free one.
        token: What pages must know; made anew for each run.
    """

    assemble: Assemble
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str = field(factory=lambda: secrets.token_urlsafe(16), repr=False)


async def serve_page(settings: TalkSettings, ready: Callable[[str], None]) -> None:
    """Serve the page until cancelled.

    Args:
        settings: What is served.
        ready: Is told the page's address, token included, as soon as it can be opened.

    Raises:
        WiringError: ``host`` is not the loopback.
        TransportError: The port is taken, or may not be opened.

    Cancellation ends every call and closes the port.
    """
    if not is_loopback(f"http://{_named(settings.host)}"):
        raise WiringError(
            f"{settings.host} can be reached from other machines, and browsers give a page no "
            "microphone there without https; listen at 127.0.0.1"
        )
    listener = _listen(settings.host, settings.port)
    port = int(listener.getsockname()[1])
    try:
        async with anyio.create_task_group() as tasks:
            page = _Page(settings, port, tasks)
            server = uvicorn.Server(
                uvicorn.Config(
                    page.app,
                    ws="websockets-sansio",
                    ws_max_size=MAX_MESSAGE_BYTES,
                    ws_per_message_deflate=False,
                    lifespan="off",
                    log_config=None,
                    timeout_graceful_shutdown=2,
                )
            )
            ready(f"http://{_named(settings.host)}:{port}/?token={settings.token}")
            try:
                await server.serve(sockets=[listener])
            finally:
                server.should_exit = True
                tasks.cancel_scope.cancel()
    finally:
        listener.close()


class _Page:
    """The page's files, and its calls."""

    def __init__(self, settings: TalkSettings, port: int, tasks: TaskGroup) -> None:
        self._settings = settings
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        self._tasks = tasks
        self._calls: dict[str, PageCall] = {}
        self._files = _page_files()
        self.app = Starlette(
            routes=[
                WebSocketRoute("/call", self._call),
                Route("/", self._file),
                Route("/{name}", self._file),
            ]
        )

    async def _file(self, request: Request) -> Response:
        if request.headers.get("host") not in self._hosts:
            return Response("this page is served at another address\n", 421)
        name = request.path_params.get("name", "index.html")
        found = self._files.get(name)
        if found is None:
            return Response("there is no such file\n", 404)
        kind, content = found
        return Response(content, media_type=kind, headers=_HEADERS)

    async def _call(self, ws: WebSocket) -> None:
        origin = ws.headers.get("origin", "")
        host = ws.headers.get("host")
        if host not in self._hosts or origin.partition("://")[2] != host:
            _log.warning("a page of another origin was turned away: %.100r", origin)
            await ws.close()  # before it was accepted: HTTP 403
            return
        await ws.accept()
        try:
            hello = await self._hello(ws)
            call = self._call_of(hello)
        except _RefusedError as refused:
            _log.warning("a page was turned away: %s", refused.why)
            await ws.close(refused.code, refused.why)
            return
        try:
            await call.browser.serve(_StarletteSocket(ws), hello.had_seq)
            code, why = 1000, call.reason or "The call has ended."
        except RemoteProtocolError as error:
            _log.warning("a page was cut off: %s", error)
            code, why = BROKE_RULES, str(error)
        with suppress(RuntimeError, WebSocketDisconnect):  # it had gone by itself
            await ws.close(code, why.encode()[:120].decode(errors="ignore"))

    async def _hello(self, ws: WebSocket) -> _Hello:
        text = ""
        with anyio.move_on_after(HELLO_TIMEOUT_S):
            try:
                text = await ws.receive_text()
            except (WebSocketDisconnect, KeyError) as error:
                raise _RefusedError(BROKE_RULES, "the page did not say hello") from error
        try:
            hello = msgspec.json.decode(text, type=_Hello)
        except msgspec.DecodeError as error:
            raise _RefusedError(BROKE_RULES, "the page did not say hello") from error
        if not hmac.compare_digest(hello.token.encode(), self._settings.token.encode()):
            raise _RefusedError(
                WRONG_TOKEN, "Wrong token: open the address that framepipe printed."
            )
        if not _SESSION.fullmatch(hello.session):
            raise _RefusedError(BROKE_RULES, "the page's session has no proper name")
        return hello

    def _call_of(self, hello: _Hello) -> PageCall:
        call = self._calls.get(hello.session)
        if call is not None:
            return call
        if hello.had_seq:
            raise _RefusedError(1000, "The call has ended.")
        if len(self._calls) >= MAX_CALLS:
            raise _RefusedError(TOO_MANY, f"{MAX_CALLS} pages talk already; close one of them.")
        try:
            call = PageCall(self._settings.assemble)
        except FramepipeError as error:
            raise _RefusedError(BROKE_RULES, str(error)) from error
        self._calls[hello.session] = call
        self._tasks.start_soon(self._hold, hello.session, call)
        return call

    async def _hold(self, session: str, call: PageCall) -> None:
        try:
            await call.run()
        finally:
            del self._calls[session]


class _RefusedError(Exception):
    """A socket that is turned away."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class _StarletteSocket:
    """`PageSocket` over starlette's."""

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws

    async def send(self, message: Wire) -> None:
        """As `PageSocket.send`."""
        try:
            if isinstance(message, bytes):
                await self._ws.send_bytes(message)
            else:
                await self._ws.send_text(message)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise TransportBroken("the page's socket is gone") from error

    async def receive(self) -> Wire:
        """As `PageSocket.receive`."""
        try:
            message: Any = await self._ws.receive()
        except RuntimeError as error:
            raise TransportBroken("the page's socket is gone") from error
        if message["type"] == "websocket.disconnect":
            raise TransportBroken("the page's socket is gone")
        text: str | None = message.get("text")
        return text if text is not None else bytes(message["bytes"])


def _page_files() -> dict[str, tuple[str, bytes]]:
    folder = files("framepipe.talk").joinpath("page")
    return {
        entry.name: (_TYPES[os.path.splitext(entry.name)[1]], entry.read_bytes())
        for entry in folder.iterdir()
        if os.path.splitext(entry.name)[1] in _TYPES
    }


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise WiringError(f"port {port} is none; choose one from 0 (any) to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise TransportError(
            f"cannot listen on {host}:{port}: {error}; choose another port, or stop the program "
            "that has it"
        ) from error
    return listener


def _named(host: str) -> str:
    return f"[{host}]" if ":" in host else host
