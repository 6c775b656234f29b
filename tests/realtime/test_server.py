"""The embedded server's shell: over memory in virtual time, and over a real WebSocket."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

import anyio
import pytest
from anyio.abc import TaskGroup

from framepipe.audio import silence
from framepipe.errors import RemoteProtocolError, TransportBroken, TransportError, WiringError
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.connection import Connect, Connection, connect, memory_pair
from framepipe.realtime.events import encode_audio
from framepipe.realtime.mind import Output, Question, Scripted, Talk, given_words
from framepipe.realtime.server import (
    REMEMBERED_SESSIONS,
    EmbeddedServer,
    Faults,
    ServerSettings,
    serve,
    serve_connection,
    server_in_process,
)
from framepipe.realtime.server_protocol import ServerProtocol
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.testing import run_virtual

URL = "ws://127.0.0.1/v1/realtime?model=gpt-realtime"
GREETING = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "Say hello."}],
}


class Broken:
    """A mind that has a bug."""

    def answer(self, question: Question, /) -> Sequence[Output]:
        raise RuntimeError("no idea")


def settings(**fields: Any) -> ServerSettings:
    """Quick to answer, quick to judge."""
    made: dict[str, Any] = {
        "voice": ShippedClips(),
        "detector": LoudWindows,
        "mind": Scripted(["Hello there."]),
        "pace": Pace(first_audio_ms=(5, 5), generation_speed=(100, 100)),
        **fields,
    }
    return ServerSettings(**made)


async def send(connection: Connection, type_: str, /, **fields: Any) -> None:
    await connection.send(json.dumps({"type": type_, **fields}))


async def receive(connection: Connection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(await connection.receive())
    return event


async def until(connection: Connection, type_: str) -> list[str]:
    """Types of the events up to one."""
    types: list[str] = []
    while types[-1:] != [type_]:
        types.append((await receive(connection))["type"])
    return types


async def until_closed(connection: Connection) -> list[str]:
    """Types of the events until the connection breaks, which raises."""
    types: list[str] = []
    try:
        while True:
            types.append((await receive(connection))["type"])
    except TransportBroken as error:
        return [*types, str(error)]


async def a_written_conversation(connection: Connection) -> list[str]:
    await send(connection, "conversation.item.create", item=GREETING)
    await send(connection, "response.create")
    return await until(connection, "rate_limits.updated")


# --- in process -------------------------------------------------------------------------------


def test_a_spoken_conversation_runs_in_virtual_time() -> None:
    async def conversation() -> tuple[list[tuple[float, str]], float]:
        told: list[tuple[float, str]] = []

        async def listen(connection: Connection) -> None:
            while True:
                type_ = (await receive(connection))["type"]
                told.append((anyio.current_time(), type_))

        made = settings(mind=Talk(8_000), pace=Pace(generation_speed=(8, 8)))
        async with server_in_process(made) as server, server.connect(URL, {}) as connection:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen, connection)
                audio = silence(12_000) + ShippedClips().talk(1_000).pcm + silence(12_000)
                audio += silence(24 * 900) + ShippedClips().talk(1_000).pcm + silence(24_000)
                for begin in range(0, len(audio), 960):
                    await anyio.sleep(0.02)
                    pcm = audio[begin : begin + 960]
                    await send(connection, "input_audio_buffer.append", audio=encode_audio(pcm))
                await anyio.sleep(20)
                tasks.cancel_scope.cancel()
            (session,) = server.sessions
            return told, session.appended_ms

    told, appended_ms = run_virtual(conversation)
    assert (told, appended_ms) == run_virtual(conversation), "seeded: the same every time"
    assert appended_ms == 4_900
    types = [type_ for _, type_ in told]
    assert types.count("response.created") == 2
    assert types.count("response.done") == 2
    started = [at for at, type_ in told if type_ == "input_audio_buffer.speech_started"]
    done = [at for at, type_ in told if type_ == "response.done"]
    assert done[0] == pytest.approx(started[1] + 0.2), "the cancel latency"


@pytest.mark.anyio
async def test_a_server_in_process_remembers_its_newest_sessions_and_no_more() -> None:
    async with server_in_process(settings()) as server:
        seen: list[ServerProtocol] = []
        for _ in range(REMEMBERED_SESSIONS + 2):
            async with server.connect(URL, {}) as connection:
                await until(connection, "session.created")
                seen.append(server.sessions[-1])
        assert len(set(map(id, seen))) == REMEMBERED_SESSIONS + 2
        assert list(server.sessions) == seen[2:]


@pytest.mark.anyio
async def test_a_session_in_process_answers_on_either_backend() -> None:
    async with server_in_process(settings()) as server, server.connect(URL, {}) as connection:
        assert await until(connection, "session.created") == ["session.created"]
        types = await a_written_conversation(connection)
        assert types[:3] == [
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
        ]
        assert types[-2:] == ["response.done", "rate_limits.updated"]


@pytest.mark.anyio
async def test_the_url_names_the_model_and_each_session_has_its_own_ids() -> None:
    async with server_in_process(settings()) as server:
        sessions: list[dict[str, Any]] = []
        for url in (URL, "ws://x/"):
            async with server.connect(url, {}) as connection:
                sessions.append((await receive(connection))["session"])
    assert [session["model"] for session in sessions] == ["gpt-realtime", "gpt-realtime-2.1"]
    assert sessions[0]["id"] != sessions[1]["id"]


@pytest.mark.anyio
async def test_a_mind_that_raises_ends_its_session_and_is_seen() -> None:
    async def ask() -> None:
        made = settings(mind=Broken())
        async with server_in_process(made) as server, server.connect(URL, {}) as connection:
            await send(connection, "response.create")
            await until(connection, "response.done")

    with pytest.raises(ExceptionGroup) as caught:
        await ask()
    assert caught.group_contains(RuntimeError, match="no idea")


def test_the_session_limit_closes_the_connection_with_the_reason_of_the_service() -> None:
    async def hour() -> tuple[list[str], float]:
        made = settings(limit_s=3_600)
        async with server_in_process(made) as server, server.connect(URL, {}) as connection:
            return await until_closed(connection), anyio.current_time()

    (*types, why), at_s = run_virtual(hour)
    assert types == ["session.created", "error"]
    assert "1001" in why
    assert "maximum duration of 60 minutes" in why
    assert at_s == 3_600


# --- both ways --------------------------------------------------------------------------------


class OverSocket:
    """A server behind a real port, as an async context."""

    def __init__(self, made: ServerSettings) -> None:
        self._settings = made
        self._tasks: TaskGroup
        self.port = 0

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self.port = await self._tasks.start(self._serve)
        return self

    async def _serve(self, *, task_status: Any) -> None:
        await serve(self._settings, port=0, task_status=task_status)

    async def __aexit__(self, *_: object) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    def connect(
        self, url: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[Connection]:
        return connect(
            url.replace("127.0.0.1", f"127.0.0.1:{self.port}"), headers, open_timeout_s=0.5
        )


WAYS = [pytest.param(server_in_process, id="memory"), pytest.param(OverSocket, id="socket")]


@pytest.mark.anyio
@pytest.mark.parametrize("serving", WAYS)
async def test_several_clients_talk_at_the_same_time(serving: Any) -> None:
    async with serving(settings(ears=given_words(["Good day."]))) as server:
        finished: list[list[str]] = []

        async def talk(dial: Connect) -> None:
            async with dial(URL, {}) as connection:
                await until(connection, "session.created")
                pcm = ShippedClips().talk(500).pcm + silence(24_000)
                await send(connection, "input_audio_buffer.append", audio=encode_audio(pcm))
                finished.append(await until(connection, "rate_limits.updated"))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(talk, server.connect)
    assert len(finished) == 5
    assert all(types[0] == "input_audio_buffer.speech_started" for types in finished)


@pytest.mark.anyio
@pytest.mark.parametrize("serving", WAYS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer s3cret"},
        {"api-key": "s3cret"},
        {"Sec-WebSocket-Protocol": "realtime, openai-insecure-api-key.s3cret"},
    ],
)
async def test_a_client_with_the_key_comes_in(serving: Any, headers: dict[str, str]) -> None:
    if serving is OverSocket and "Sec-WebSocket-Protocol" in headers:
        pytest.skip("the client library sets this header by itself")
    made = settings(key="s3cret")
    async with serving(made) as server, server.connect(URL, headers) as connection:
        assert (await receive(connection))["type"] == "session.created"


@pytest.mark.anyio
@pytest.mark.parametrize("serving", WAYS)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_a_client_without_the_key_is_refused(serving: Any, headers: dict[str, str]) -> None:
    made = settings(key="s3cret")
    assert "s3cret" not in repr(made)
    async with serving(made) as server:
        with pytest.raises(TransportBroken, match=r"HTTP status 401; is the key right\?"):
            async with server.connect(URL, headers):
                pytest.fail("it came in")


@pytest.mark.anyio
@pytest.mark.parametrize("serving", WAYS)
async def test_a_server_that_is_to_refuse_refuses(serving: Any) -> None:
    async with serving(settings(faults=Faults(refuse_status=503))) as server:
        with pytest.raises(TransportBroken, match="HTTP status 503"):
            async with server.connect(URL, {}):
                pytest.fail("it came in")


@pytest.mark.anyio
@pytest.mark.parametrize("serving", WAYS)
async def test_a_server_that_is_to_close_closes_after_so_many_events(serving: Any) -> None:
    made = settings(faults=Faults(close_after_events=3))
    async with serving(made) as server, server.connect(URL, {}) as connection:
        await send(connection, "conversation.item.create", item=GREETING)
        *types, why = await until_closed(connection)
    assert "1011" in why
    assert types == ["session.created", "conversation.item.added", "conversation.item.done"]


@pytest.mark.anyio
@pytest.mark.parametrize("serving", WAYS)
async def test_a_client_of_the_beta_interface_is_told_and_sent_away(serving: Any) -> None:
    beta = {"OpenAI-Beta": "realtime=v1"}
    async with serving(settings()) as server, server.connect(URL, beta) as connection:
        error = await receive(connection)
        assert error["error"]["code"] == "beta_api_shape_disabled"
        with pytest.raises(TransportBroken, match="4000"):
            await connection.receive()


@pytest.mark.anyio
@pytest.mark.parametrize("serving", WAYS)
async def test_nonsense_is_answered_and_the_session_goes_on(serving: Any) -> None:
    async with serving(settings()) as server, server.connect(URL, {}) as connection:
        await connection.send("nonsense")
        assert await until(connection, "error") == ["session.created", "error"]
        assert (await a_written_conversation(connection))[-1] == "rate_limits.updated"


def test_a_server_that_is_to_hang_says_nothing_for_ever() -> None:
    async def wait(faults: Faults) -> bool:
        async with server_in_process(settings(faults=faults)) as server:
            with anyio.move_on_after(1_000) as patience:
                async with server.connect(URL, {}) as connection:
                    await send(connection, "response.create")
                    await connection.receive()
            return patience.cancelled_caught

    assert run_virtual(wait, Faults(hang="opening"))
    assert run_virtual(wait, Faults(hang="session"))


# --- the port ---------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_handshake_that_hangs_is_given_up_and_the_server_still_stops() -> None:
    async with OverSocket(settings(faults=Faults(hang="opening"))) as server:
        with pytest.raises(TransportBroken, match=r"did not open the connection within 0.5 s"):
            async with server.connect(URL, {}):
                pytest.fail("it came in")


@pytest.mark.anyio
@pytest.mark.parametrize("hang", [None, "session"])
async def test_a_server_that_stops_says_goodbye_to_its_clients(hang: Any) -> None:
    stop = anyio.CancelScope()
    made = settings(faults=Faults(hang=hang))

    async def serve_until_stopped(*, task_status: Any) -> None:
        with stop:
            await serve(made, port=0, task_status=task_status)

    async with anyio.create_task_group() as tasks:
        port: int = await tasks.start(serve_until_stopped)
        async with connect(f"ws://127.0.0.1:{port}/", {}) as connection:
            if hang is None:
                await receive(connection)
            stop.cancel()
            with pytest.raises(TransportBroken, match="1001"):
                await connection.receive()
        with pytest.raises(TransportBroken, match="nobody listens"):
            async with connect(f"ws://127.0.0.1:{port}/", {}):
                pytest.fail("it still listens")


@pytest.mark.anyio
async def test_a_binary_message_is_answered_with_an_error() -> None:
    class Binary:
        """A connection whose first message is no text."""

        def __init__(self, inner: Connection) -> None:
            self._inner = inner
            self._told = False

        async def receive(self) -> str:
            if not self._told:
                self._told = True
                raise RemoteProtocolError("a binary message of 4 bytes came")
            return await self._inner.receive()

        async def send(self, text: str) -> None:
            await self._inner.send(text)

        async def aclose(self, code: int = 1000, reason: str = "") -> None:
            await self._inner.aclose(code, reason)

    near, far = memory_pair()
    session = EmbeddedServer(settings()).new_session(URL)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve_connection, Binary(far), session)
        assert await until(near, "error") == ["session.created", "error"]
        assert (await a_written_conversation(near))[-1] == "rate_limits.updated"
        await near.aclose()


@pytest.mark.anyio
async def test_strangers_and_broken_minds_are_worth_a_line_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with OverSocket(settings(mind=Broken())) as server:
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stranger:
            await stranger.send(b"\x16\x03\x01 is no request\r\n\r\n")
            async for _ in stranger:
                pass
        for _ in range(2):
            async with server.connect(URL, {}) as connection:
                await send(connection, "response.create")
                assert "1011" in (await until_closed(connection))[-1]
    lines = [record for record in caplog.records if record.name.startswith("framepipe")]
    assert [line for line in lines if "no idea" in line.getMessage()]
    assert all(line.exc_info is None and "\n" not in line.getMessage() for line in lines)


@pytest.mark.anyio
async def test_a_port_that_is_taken_is_one_line_with_the_way_out() -> None:
    async with anyio.create_task_group() as tasks:

        async def first(*, task_status: Any) -> None:
            await serve(settings(), port=0, task_status=task_status)

        port: int = await tasks.start(first)
        with pytest.raises(TransportError) as caught:
            await serve(settings(), port=port)
        assert f"127.0.0.1:{port}: Address already in use; choose another port" in str(caught.value)
        assert "\n" not in str(caught.value)
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("where", "rule"),
    [
        ({"host": "0.0.0.0"}, "allow_remote=True"),
        ({"host": "example.org"}, "allow_remote=True"),
        ({"port": 70_000}, "0 .any. to 65535"),
    ],
)
async def test_an_address_that_is_not_allowed_is_refused_with_the_rule(
    where: dict[str, Any], rule: str
) -> None:
    with pytest.raises(WiringError, match=rule):
        await serve(settings(), **where)
