"""Connections: order, bounds, and one line for everything that can go wrong with a socket."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from framepipe.errors import RemoteProtocolError, TransportBroken, TransportClosed
from framepipe.realtime.connection import (
    Connection,
    HandshakeRefused,
    WebSocketConnection,
    connect,
    is_loopback,
    memory_pair,
)
from framepipe.testing import run_virtual

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def tcp_server(
    handle: Callable[[SocketStream], Awaitable[None]],
) -> AsyncGenerator[str, None]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)

    async def serve_one(stream: SocketStream) -> None:
        async with stream:
            await handle(stream)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve_one)
        yield f"ws://127.0.0.1:{port}/v1/realtime?model=m"
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def websocket_server(
    handle: Callable[[Connection], Awaitable[None]], backend: str
) -> AsyncGenerator[str, None]:
    async def on_socket(ws: object) -> None:
        await handle(WebSocketConnection(ws))

    if backend == "trio":
        from websockets.trio.server import serve as serve_trio

        async with anyio.create_task_group() as tasks:
            server = await tasks.start(_serve_trio, serve_trio, on_socket)
            yield f"ws://127.0.0.1:{server}/"
            tasks.cancel_scope.cancel()
    else:
        from websockets.asyncio.server import serve

        async with serve(on_socket, "127.0.0.1", 0, max_size=None) as asyncio_server:
            port = next(iter(asyncio_server.sockets)).getsockname()[1]
            yield f"ws://127.0.0.1:{port}/"


async def _serve_trio(
    serve: Callable[..., Awaitable[None]],
    on_socket: Callable[[object], Awaitable[None]],
    *,
    task_status: anyio.abc.TaskStatus[int],
) -> None:
    class Told:
        def started(self, server: Any) -> None:
            task_status.started(server.listeners[0].socket.getsockname()[1])

    await serve(on_socket, 0, host="127.0.0.1", max_size=None, task_status=Told())


async def test_messages_cross_a_memory_pair_in_order_both_ways() -> None:
    here, there = memory_pair()
    for number in range(100):
        await here.send(f"to {number}")
        await there.send(f"back {number}")

    assert [await there.receive() for _ in range(100)] == [f"to {n}" for n in range(100)]
    assert [await here.receive() for _ in range(100)] == [f"back {n}" for n in range(100)]
    await here.aclose()
    await there.aclose()


async def test_a_memory_pair_makes_a_fast_sender_wait() -> None:
    here, there = memory_pair(capacity=2)
    await here.send("1")
    await here.send("2")
    with anyio.move_on_after(0.01) as scope:
        await here.send("3")
    assert scope.cancelled_caught
    assert await there.receive() == "1"
    await here.send("4")
    await here.aclose()
    await there.aclose()


async def test_what_was_sent_before_a_goodbye_still_arrives_and_the_code_does_too() -> None:
    here, there = memory_pair()
    await here.send("last words")
    await here.aclose(1001, "the hour is over")

    assert await there.receive() == "last words"
    with pytest.raises(TransportBroken, match="closed the connection with code 1001: the hour"):
        await there.receive()
    with pytest.raises(TransportBroken):
        await there.send("hello?")
    with pytest.raises(TransportClosed):
        await here.send("x")
    with pytest.raises(TransportClosed):
        await here.receive()
    await here.aclose()
    await there.aclose()


def test_a_memory_pair_works_in_virtual_time() -> None:
    async def talk() -> float:
        here, there = memory_pair()

        async def late() -> None:
            await anyio.sleep(3_600)
            await here.send("at last")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(late)
            assert await there.receive() == "at last"
        await here.aclose()
        await there.aclose()
        return anyio.current_time()

    assert run_virtual(talk) == 3_600


async def test_a_websocket_carries_text_and_headers_and_the_close_code(anyio_backend: str) -> None:
    async def echo(connection: Connection) -> None:
        await connection.send(await connection.receive())
        await connection.aclose(4000, "that was all")

    async with (
        websocket_server(echo, anyio_backend) as url,
        connect(url, {"Authorization": "Bearer k"}) as connection,
    ):
        await connection.send("x" * 2_000_000)
        assert len(await connection.receive()) == 2_000_000
        with pytest.raises(TransportBroken, match="with code 4000: that was all"):
            await connection.receive()


async def test_after_our_own_goodbye_the_connection_says_so(anyio_backend: str) -> None:
    async def listen(connection: Connection) -> None:
        with pytest.raises(TransportBroken, match="code 1000"):
            await connection.receive()

    async with (
        websocket_server(listen, anyio_backend) as url,
        connect(url, {}) as connection,
    ):
        await connection.aclose()
        await connection.aclose()
        with pytest.raises(TransportClosed):
            await connection.receive()
        with pytest.raises(TransportClosed):
            await connection.send("x")


async def test_a_binary_message_breaks_the_protocol(anyio_backend: str) -> None:
    async def binary(connection: Connection) -> None:
        await connection.send(b"\x00\x01")  # type: ignore[arg-type]

    async with (
        websocket_server(binary, anyio_backend) as url,
        connect(url, {}) as connection,
    ):
        with pytest.raises(RemoteProtocolError, match="binary message of 2 bytes"):
            await connection.receive()


async def open_and_fail(url: str, *, open_timeout_s: float = 10.0) -> str:
    with pytest.raises(TransportBroken) as caught:
        async with connect(
            url, {"Authorization": "Bearer sk-secret"}, open_timeout_s=open_timeout_s
        ):
            pass
    message = str(caught.value)
    assert "\n" not in message
    assert "secret" not in message
    return message


async def test_nobody_listens() -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        message = await open_and_fail(f"ws://127.0.0.1:{port}/?key=secret")

    assert message == f"ws://127.0.0.1:{port}: nobody listens there"


async def test_a_server_that_hangs_is_left_after_a_limit() -> None:
    async def hang(_: SocketStream) -> None:
        await anyio.sleep_forever()

    async with tcp_server(hang) as url:
        message = await open_and_fail(url, open_timeout_s=0.05)

    assert message.endswith("it did not open the connection within 0.05 s")


async def test_a_refusal_names_the_http_status() -> None:
    async def refuse(stream: SocketStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    async with tcp_server(refuse) as url:
        message = await open_and_fail(url)

    assert message.endswith("it refused the connection with HTTP status 401; is the key right?")


async def test_something_that_is_no_websocket_server() -> None:
    async def mail(stream: SocketStream) -> None:
        await stream.send(b"220 mail.example.org ESMTP\r\n")
        await stream.receive()

    async with tcp_server(mail) as url:
        assert "it is no WebSocket server" in await open_and_fail(url)


async def test_a_server_that_hangs_up_during_the_handshake() -> None:
    async def hang_up(_: SocketStream) -> None:
        return

    async with tcp_server(hang_up) as url:
        assert url.partition("/v1")[0] in await open_and_fail(url)


async def test_a_url_that_is_none() -> None:
    assert "is no WebSocket URL" in await open_and_fail("http://127.0.0.1/")


async def test_a_server_that_falls_silent_is_found_out_by_a_ping() -> None:
    """Half-open: the handshake is done, then nothing is ever read or said again."""

    async def half_open(stream: SocketStream) -> None:
        request = (await stream.receive()).decode()
        (key,) = re.findall(r"Sec-WebSocket-Key: (\S+)", request)
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        accept = base64.b64encode(digest).decode()
        await stream.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        await anyio.sleep_forever()

    with anyio.fail_after(20):
        async with (
            tcp_server(half_open) as url,
            connect(url, {}, ping_interval_s=0.02, ping_timeout_s=0.02) as connection,
        ):
            with pytest.raises(TransportBroken, match="broke without a goodbye: keepalive ping"):
                await connection.receive()


@pytest.mark.parametrize(
    ("status", "is_final"), [(401, True), (404, True), (429, False), (503, False)]
)
async def test_a_refusal_knows_whether_it_is_final(status: int, is_final: bool) -> None:
    async def refuse(stream: SocketStream) -> None:
        await stream.receive()
        await stream.send(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())

    async with tcp_server(refuse) as url:
        with pytest.raises(HandshakeRefused) as caught:
            async with connect(url, {}):
                pass

    assert (caught.value.status, caught.value.is_final) == (status, is_final)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://localhost:8080/x", True),
        ("ws://127.0.0.2", True),
        ("ws://[::1]:1/", True),
        ("wss://api.openai.com/v1/realtime", False),
        ("ws://127.example.org", False),
    ],
)
def test_loopback_is_told_from_the_world(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected
