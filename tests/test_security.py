"""What strangers can do to a socket, and where a key must never be seen."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from framepipe import Pipeline
from framepipe.errors import FramepipeError, TransportBroken
from framepipe.frames import Problem
from framepipe.realtime import connection as connections
from framepipe.realtime import events as wire
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.connection import Connection, connect
from framepipe.realtime.limits import SocketLimits
from framepipe.realtime.mind import Scripted
from framepipe.realtime.reconnect import RetryPolicy
from framepipe.realtime.server import ServerSettings, serve, server_in_process
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.realtime.wire_trace import WireTrace
from framepipe.recorder.trace import Trace
from framepipe.testing import run_virtual
from framepipe_processors.realtime import Realtime
from scripts import audit
from tests.realtime_service import Ear, Mic

KEY = "sk-proj-7f3a9c"


def settings(**fields: Any) -> ServerSettings:
    made: dict[str, Any] = {
        "voice": ShippedClips(),
        "detector": LoudWindows,
        "mind": Scripted(["Hello there."]),
        "pace": Pace(first_audio_ms=(5, 5), generation_speed=(100, 100)),
        **fields,
    }
    return ServerSettings(**made)


@asynccontextmanager
async def listening(limits: SocketLimits | None = None, **fields: Any) -> AsyncGenerator[str, None]:
    """An embedded server behind a real port; its URL."""
    async with anyio.create_task_group() as tasks:
        port: int = await tasks.start(partial(serve, settings(**fields), port=0, limits=limits))
        yield f"ws://127.0.0.1:{port}/v1/realtime"
        tasks.cancel_scope.cancel()


async def goodbye(connection: Connection) -> str:
    """Read until the connection ends; why it did."""
    try:
        while True:
            await connection.receive()
    except TransportBroken as error:
        return str(error)


async def is_served(url: str) -> bool:
    async with connect(url, {}) as connection:
        await connection.send('{"type": "response.create"}')
        while json.loads(await connection.receive())["type"] != "response.done":
            pass
        return True


# --- what strangers can do --------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_message_that_is_too_long_ends_its_session_alone() -> None:
    async with listening(SocketLimits(message_bytes=10_000)) as url:
        async with connect(url, {}) as connection:
            await connection.send(" " * 10_001)
            assert "code 1009" in await goodbye(connection)
        assert await is_served(url)


@pytest.mark.anyio
async def test_a_client_that_floods_with_messages_is_told_and_sent_away_alone() -> None:
    async with listening(SocketLimits(events_per_s=1, events_at_once=10)) as url:
        async with connect(url, {}) as connection:
            for _ in range(11):
                await connection.send('{"type": "input_audio_buffer.clear"}')
            assert await goodbye(connection) == (
                "the peer closed the connection with code 1008: too many messages; at most 1 a "
                "second"
            )
        assert await is_served(url)


@pytest.mark.anyio
async def test_a_client_that_floods_with_audio_is_told_and_sent_away_alone() -> None:
    limits = SocketLimits(message_bytes=50_000, bytes_per_s=1, bytes_at_once=50_000)
    async with listening(limits) as url:
        async with connect(url, {}) as connection:
            audio = wire.encode_audio(bytes(30_000))
            for _ in range(2):
                await connection.send(wire.encode(wire.InputAudioBufferAppend(audio=audio)))
            assert "code 1008: too much audio" in await goodbye(connection)
        assert await is_served(url)


@pytest.mark.anyio
async def test_no_more_sessions_than_allowed_and_one_that_leaves_makes_room() -> None:
    async with listening(SocketLimits(sessions=1)) as url:
        async with connect(url, {}) as connection:
            await connection.receive()
            with pytest.raises(TransportBroken, match="HTTP status 503"):
                async with connect(url, {}):
                    pytest.fail("a second one came in")
        for _ in range(100):  # the server notices the goodbye in its own time
            try:
                assert await is_served(url)
                break
            except TransportBroken:
                await anyio.lowlevel.checkpoint()
        else:
            pytest.fail("nobody gets in any more")


@pytest.mark.anyio
async def test_a_client_takes_no_message_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_MESSAGE_BYTES", 100)
    async with listening() as url, connect(url, {}) as connection:
        with pytest.raises(TransportBroken, match="exceeds limit of 100 bytes"):
            await connection.receive()


@pytest.mark.anyio
async def test_who_listens_to_the_world_reads_so_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for key, who in ((None, "anybody"), (KEY, "who has the key")):
        async with anyio.create_task_group() as tasks:
            open_to_all = partial(serve, settings(key=key), host="0.0.0.0", allow_remote=True)
            await tasks.start(partial(open_to_all, port=0))
            tasks.cancel_scope.cancel()
        assert caplog.messages[-1] == f"0.0.0.0 can be reached from other machines, by {who}"


@pytest.mark.anyio
async def test_a_server_listens_to_this_machine_unless_told_otherwise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening() as url:
        assert url.startswith("ws://127.0.0.1:")
    assert not [line for line in caplog.messages if "reached" in line]


_opened: list[str] | None = None


def _note_opened(event: str, args: tuple[object, ...]) -> None:
    if _opened is not None and event in {"open", "os.listdir", "os.scandir", "os.mkdir"}:
        _opened.append(str(args[0]))


sys.addaudithook(_note_opened)  # for good: a hook cannot be taken back


@contextmanager
def opened_files() -> Generator[list[str], None, None]:
    """The paths that are opened meanwhile."""
    global _opened
    opened: list[str] = []
    _opened = opened
    try:
        yield opened
    finally:
        _opened = None


def test_the_watch_over_files_sees_what_is_opened(tmp_path: Path) -> None:
    with opened_files() as opened:
        (tmp_path / "a").write_text("b")
    assert opened == [str(tmp_path / "a")]


def test_nothing_from_the_wire_is_a_path() -> None:
    path = "../../../../etc/passwd"
    item = {
        "id": path[:32],
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": path}],
    }
    call = {"id": "c", "type": "function_call", "call_id": path, "name": path, "arguments": path}
    messages: list[dict[str, Any]] = [
        {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "instructions": f"file://{path}",
                "audio": {"output": {"voice": path}},
                "prompt": {"id": path},
            },
        },
        {"type": "conversation.item.create", "item": item},
        {"type": "conversation.item.create", "item": call},
        {"type": "conversation.item.retrieve", "item_id": path},
        {"type": "conversation.item.truncate", "item_id": path, "audio_end_ms": 0},
        {"type": "input_audio_buffer.append", "audio": path},
        {"type": "response.create", "response": {"instructions": path}},
        {"type": path},
    ]

    made = settings()  # the voice reads its clips

    async def converse() -> list[str]:
        types: list[str] = []
        url = f"ws://localhost/{path}?model={path}"
        async with server_in_process(made) as server, server.connect(url, {}) as connection:
            for message in messages:
                await connection.send(json.dumps(message))
            while "response.done" not in types:
                types.append(json.loads(await connection.receive())["type"])
        return types

    run_virtual(converse)  # what is imported late, or read once, is read now
    with opened_files() as opened:
        types = run_virtual(converse)
    assert "error" in types
    assert "conversation.item.added" in types
    assert not opened


@pytest.mark.parametrize(
    ("code", "said", "meaning"),
    [
        (0, "No known vulnerabilities found", 0),
        (1, "Found 2 known vulnerabilities in 1 package", 1),
        (1, "Found 1 known vulnerability in 1 package", 1),
        (1, "ERROR: connection refused", 2),
        (0, "numpy  Dependency not found and could not be audited\nNo known vulnerabilities", 2),
    ],
)
def test_an_audit_that_could_not_look_everything_up_is_no_clean_one(
    code: int, said: str, meaning: int
) -> None:
    assert audit.verdict(code, said) == meaning


# --- where a key must never be seen -----------------------------------------------------------


@pytest.mark.anyio
async def test_no_log_of_a_call_holds_its_key_however_much_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("framepipe").setLevel(logging.DEBUG)
    try:
        async with listening(key=KEY) as url:
            headers = {"Authorization": f"Bearer {KEY}", "api-key": KEY}
            async with connect(f"{url}?api_key={KEY}", headers) as connection:
                await connection.receive()
            with pytest.raises(TransportBroken):
                async with connect(url, {"Authorization": f"Bearer {KEY}x"}):
                    pytest.fail("it came in")
    finally:
        logging.getLogger("framepipe").setLevel(logging.NOTSET)
    assert any("Authorization" in line for line in caplog.messages), "the headers were not logged"
    assert not [line for line in caplog.messages if KEY in line]


@pytest.mark.parametrize("where", ["call", "environment"])
def test_neither_traces_nor_frames_nor_errors_nor_reprs_of_a_call_hold_its_key(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    if where == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    seen: list[str] = []

    async def refused_call() -> None:
        with WireTrace(tmp_path / "wire.jsonl") as tap:
            made = settings(key=KEY, tap=tap)
            seen.append(repr(made))
            async with server_in_process(made) as server:

                @asynccontextmanager
                async def dial(url: str, headers: Any) -> AsyncGenerator[Connection, None]:
                    async with server.connect(url, headers) as connection:
                        yield _Tattling(connection)

                stage = Realtime(
                    key=KEY if where == "call" else None,
                    connect=dial,
                    seed=1,
                    retry=RetryPolicy(limit_s=0),
                )
                ear = Ear()
                pipeline = Pipeline(Mic(1.0), stage, ear)
                with Trace(tmp_path / "call.jsonl", lambda: 0) as trace:
                    pipeline.observe(trace)
                    try:
                        await pipeline.run()
                    except FramepipeError as error:
                        seen.append(f"{error!r} {error} {error.__cause__!r}")
                assert ear.of(Problem), "the service's refusal did not arrive"
                seen.extend((repr(stage), repr(vars(ear)), repr(pipeline), str(pipeline)))

    run_virtual(refused_call)
    assert len(seen) == 6, "the call was not refused"
    texts = [*seen, *caplog.messages, *(path.read_text() for path in tmp_path.iterdir())]
    assert len(list(tmp_path.iterdir())) == 2
    assert not [text for text in texts if KEY in text]


class _Tattling:
    """A service that repeats the key in an error, as the real one does."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self._n_received = 0

    async def send(self, text: str) -> None:
        await self._inner.send(text)

    async def receive(self) -> str:
        self._n_received += 1
        if self._n_received == 3:
            detail = wire.ErrorDetail(code="invalid_api_key", message=f"Incorrect API key: {KEY}")
            return wire.encode(wire.ErrorEvent(error=detail))
        return await self._inner.receive()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._inner.aclose(code, reason)


def test_a_trace_of_the_wire_leaves_the_keys_of_a_sessions_tools_out(tmp_path: Path) -> None:
    update = {
        "type": "session.update",
        "session": {"tools": [{"type": "mcp", "authorization": KEY, "headers": {"x": KEY}}]},
    }
    with WireTrace(tmp_path / "wire.jsonl") as tap:
        tap("sess_1", "client", json.dumps(update))
    written = (tmp_path / "wire.jsonl").read_text("utf-8")
    assert KEY not in written
    assert '"authorization": "(left out)"' in written
