"""Who may talk to the page's server, and what it serves."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.lowlevel
import pytest
import websockets.asyncio.client as client
from anyio.abc import TaskStatus
from websockets.exceptions import ConnectionClosed, InvalidStatus

from framepipe import Emit, Pipeline, on
from framepipe.errors import TransportError, WiringError, only_error
from framepipe.frames import AudioIn, AudioOut, TextIn
from framepipe.talk.app import (
    BROKE_RULES,
    MAX_CALLS,
    TOO_MANY,
    WRONG_TOKEN,
    TalkSettings,
    serve_page,
)
from framepipe.talk.assembly import Assemble, Assembly

SESSION = "00000000-0000-4000-8000-00000000000"


class Parrot:
    """Says a fixed sound for each typed word, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.volume = 1

    def attach(self, emit: Emit[AudioOut]) -> None:
        self._emit = emit

    @on(TextIn)
    def speak(self, frame: TextIn) -> AudioOut:
        turn = self._emit.new_turn()
        return AudioOut(pcm=b"\x01\x00" * len(frame.text), rate_hz=24_000, turn=turn)

    @on(AudioIn)
    def listen(self, _: AudioIn) -> None:
        pass

    async def set_volume(self, value: Any) -> None:
        self.volume = int(value)


def assemble(mic: object, speaker: object) -> Assembly:
    parrot = Parrot()
    return Assembly(
        pipeline=Pipeline(mic, parrot, speaker, accepts=(TextIn,)),
        values={"volume": 1},
        settings={"volume": parrot.set_volume},
    )


class Served:
    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host = parts.netloc
        self.token = parse_qs(parts.query)["token"][0]

    def socket(self, **options: Any) -> Any:
        options.setdefault("origin", f"http://{self.host}")
        return client.connect(f"ws://{self.host}/call", proxy=None, **options)

    async def call(self, socket: Any, number: int = 0, **changes: Any) -> None:
        hello = {"type": "hello", "token": self.token, "session": f"{SESSION}{number}"}
        await socket.send(json.dumps({**hello, **changes}))

    async def get(self, path: str, host: str | None = None) -> tuple[int, bytes]:
        address, _, port = self.host.partition(":")
        lines = (f"GET {path} HTTP/1.1", f"host: {host or self.host}", "connection: close", "", "")
        async with await anyio.connect_tcp(address, int(port)) as stream:
            await stream.send("\r\n".join(lines).encode())
            answer = b""
            with anyio.fail_after(5):
                try:
                    while True:
                        answer += await stream.receive()
                except anyio.EndOfStream:
                    pass
        return int(answer.split()[1]), answer


@asynccontextmanager
async def served(assemble: Assemble = assemble, port: int = 0) -> AsyncGenerator[Served, None]:
    addresses: list[str] = []
    async with anyio.create_task_group() as tasks:
        settings = TalkSettings(assemble=assemble, port=port)
        tasks.start_soon(serve_page, settings, addresses.append)
        while not addresses:
            await anyio.lowlevel.checkpoint()
        yield Served(addresses[0])
        tasks.cancel_scope.cancel()


async def closed(socket: Any) -> tuple[int, str]:
    with anyio.fail_after(5), suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code, socket.close_reason


async def message(socket: Any, kind: str) -> Any:
    with anyio.fail_after(5):
        while True:
            got = await socket.recv()
            if isinstance(got, bytes):
                if kind == "sound":
                    return got
            elif (found := json.loads(got))["type"] == kind:
                return found


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn knows no other


pytestmark = pytest.mark.anyio


async def test_the_pages_files_are_served_and_nothing_else_is() -> None:
    async with served() as page:
        status, answer = await page.get("/?token=x")
        assert status == 200
        assert b"framepipe talk" in answer
        assert b"default-src 'self'" in answer
        assert (await page.get("/playback-core.js"))[0] == 200
        for path in ("/nothing", "/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/page/page.js"):
            assert (await page.get(path))[0] == 404


async def test_a_request_for_another_host_gets_nothing() -> None:
    async with served() as page:
        assert (await page.get("/", host="evil.example"))[0] == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
async def test_a_page_of_somebody_else_may_not_call(origin: str | None) -> None:
    async with served() as page:
        with pytest.raises(InvalidStatus):
            async with page.socket(origin=origin):
                pass


async def test_a_page_without_this_runs_token_is_told_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as page, page.socket() as socket:
        await page.call(socket, token="guess")
        code, why = await closed(socket)
        assert code == WRONG_TOKEN
        assert "open the address that framepipe printed" in why
    assert "a page was turned away: Wrong token" in caplog.text
    assert page.token not in caplog.text


@pytest.mark.parametrize(
    "hello", ["{", "[]", '{"type": "hello"}', '{"type": "bye"}', b"\x00", "x" * 5_000]
)
async def test_a_socket_that_does_not_say_hello_is_closed(hello: str | bytes) -> None:
    async with served() as page, page.socket() as socket:
        await socket.send(hello)
        assert (await closed(socket))[0] == BROKE_RULES


async def test_a_session_is_no_path_and_no_essay() -> None:
    async with served() as page, page.socket() as socket:
        await page.call(socket, session="../../etc/passwd")
        assert (await closed(socket))[0] == BROKE_RULES


async def test_a_page_that_sends_nonsense_is_told_and_so_is_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as page, page.socket() as socket:
        await page.call(socket)
        await message(socket, "ready")
        await socket.send("nonsense")
        code, why = await closed(socket)
        assert code == BROKE_RULES
        assert why.startswith("the page sent a message that is none")
    assert "a page was cut off: the page sent a message that is none" in caplog.text


async def test_a_message_that_is_too_long_closes_the_socket() -> None:
    async with served() as page, page.socket() as socket:
        await page.call(socket)
        await message(socket, "ready")
        await socket.send(bytes(100_000))
        assert (await closed(socket))[0] == 1009


async def test_typed_words_reach_the_pipeline_and_its_sound_the_page() -> None:
    async with served() as page, page.socket() as socket:
        await page.call(socket)
        assert (await message(socket, "settings"))["volume"] == 1
        await socket.send(json.dumps({"type": "ask", "what": "text", "value": "abc"}))
        sound = await message(socket, "sound")
        assert sound[12:] == b"\x01\x00" * 3
        await socket.send(json.dumps({"type": "ask", "what": "stop"}))
        assert (await message(socket, "cut"))["line"] == 3
        await socket.send(json.dumps({"type": "bye"}))
        assert await closed(socket) == (1000, "The call has ended.")


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        ({"what": "dance"}, "'dance', which there is not"),
        ({"what": "text", "value": "x" * 3_000}, "'text', which there is not"),
        ({"what": "setting", "value": {"name": "colour", "value": 1}}, "colour cannot be changed"),
        ({"what": "setting", "value": {"name": "volume", "value": "loud"}}, "volume: invalid"),
    ],
)
async def test_what_cannot_be_done_is_said_on_the_page(ask: dict[str, Any], why: str) -> None:
    async with served() as page, page.socket() as socket:
        await page.call(socket)
        await socket.send(json.dumps({"type": "ask", **ask}))
        assert why in (await message(socket, "problem"))["message"]


async def test_several_tabs_are_several_calls_and_too_many_are_refused() -> None:
    async with served() as page, anyio.create_task_group() as tasks:

        async def hold(number: int, *, task_status: TaskStatus[None]) -> None:
            async with page.socket() as socket:
                await page.call(socket, number)
                await message(socket, "ready")
                task_status.started()
                await anyio.sleep_forever()

        for number in range(MAX_CALLS):
            await tasks.start(hold, number)
        async with page.socket() as socket:
            await page.call(socket, MAX_CALLS)
            code, why = await closed(socket)
            assert code == TOO_MANY
            assert "close one of them" in why
        tasks.cancel_scope.cancel()


async def test_a_new_socket_of_the_same_page_goes_on_with_the_call() -> None:
    async with served() as page:
        async with page.socket() as socket:
            await page.call(socket)
            await message(socket, "settings")
            await socket.send(b"\x00\x00\x00\x00" + bytes(480))
            await socket.send(json.dumps({"type": "ask", "what": "text", "value": "abc"}))
            await message(socket, "sound")
        async with page.socket() as socket:
            await page.call(socket, had_seq=1)
            assert (await message(socket, "ready"))["mic_from"] == 240
            assert (await message(socket, "sound"))[12:] == b"\x01\x00" * 3


async def test_a_page_whose_call_is_gone_is_told_so() -> None:
    async with served() as page, page.socket() as socket:
        await page.call(socket, had_seq=7)
        assert await closed(socket) == (1000, "The call has ended.")


async def test_a_pipeline_that_cannot_be_made_is_said_on_the_page() -> None:
    def broken(_mic: object, _speaker: object) -> Assembly:
        raise WiringError("there is no such voice")

    async with served(assemble=broken) as page, page.socket() as socket:
        await page.call(socket)
        assert await closed(socket) == (BROKE_RULES, "there is no such voice")


async def test_a_pipeline_that_fails_ends_the_call_with_its_reason() -> None:
    def failing(mic: object, speaker: object) -> Assembly:
        return Assembly(pipeline=Pipeline(mic, speaker))  # nobody makes what the speaker needs

    async with served(assemble=failing) as page, page.socket() as socket:
        await page.call(socket)
        code, why = await closed(socket)
        assert code == 1000
        assert "no stage before it makes one" in why


async def test_a_port_that_is_taken_and_a_host_for_strangers_are_one_line_errors() -> None:
    async with served() as page:
        port = int(page.host.split(":")[1])
        with pytest.raises(ExceptionGroup) as raised:
            async with served(port=port):
                raise AssertionError("it was free")
        error = only_error(raised.value)
        assert isinstance(error, TransportError)
        assert "choose another port" in str(error)
    with pytest.raises(WiringError, match="can be reached from other machines"):
        await serve_page(TalkSettings(assemble=assemble, host="0.0.0.0"), print)


def test_the_token_and_the_key_are_in_no_repr() -> None:
    settings = TalkSettings(assemble=assemble)
    assert settings.token not in repr(settings)
    assert len(settings.token) >= 20
