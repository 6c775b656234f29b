"""Other people's client: the official ``openai`` package against the embedded server."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from framepipe import Pipeline
from framepipe.audio import silence
from framepipe.demo import USER_WAV
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.events import (
    CLIENT_EVENT_TYPES,
    SERVER_EVENT_TYPES,
    decode_audio,
    encode_audio,
)
from framepipe.realtime.mind import Output, Scripted, Talk, ToolUse, Words, given_words
from framepipe.realtime.server import ServerSettings, serve, server_in_process
from framepipe.realtime.session import SessionSettings
from framepipe.realtime.voice import default_voice
from framepipe.realtime.window_detectors import SileroWindows
from framepipe.testing import run_virtual
from framepipe_processors import BargeIn, LocalVad, Playout, Realtime, WavSink, WavSource
from tests.realtime.oracle import complaints, models

openai = pytest.importorskip("openai", reason="needs the openai package: pip install openai")

VOICE = default_voice()
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class Line:
    """A connection of the package, and a user who speaks and writes."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def until(self, *kinds: str) -> list[Any]:
        """Events until each of some types has come, as the package parses them."""
        came: list[Any] = []
        with anyio.fail_after(10):
            while not set(kinds) <= {event.type for event in came}:
                came.append(await self.connection.recv())
        return came

    async def say(self, text: str, silent_ms: int = 1_000) -> None:
        """Speak as a user, and be silent for a while."""
        await self.append(silence(12_000) + VOICE.speak(text) + silence(24 * silent_ms))

    async def append(self, pcm: bytes) -> None:
        for begin in range(0, len(pcm), 4_800):
            piece = pcm[begin : begin + 4_800]
            await self.connection.input_audio_buffer.append(audio=encode_audio(piece))

    async def write(self, text: str) -> None:
        await self.connection.conversation.item.create(
            item={
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": text}],
            }
        )


@asynccontextmanager
async def called(
    answers: Sequence[str | int | Sequence[Output]],
    *,
    words: Sequence[str] = (),
    pace: Pace | None = None,
) -> AsyncGenerator[Line, None]:
    """The package, connected by base URL to a server on a port; afterwards all is validated."""
    wire: list[tuple[Any, str]] = []
    settings = ServerSettings(
        mind=Scripted(answers),
        voice=VOICE,
        detector=SileroWindows,
        ears=given_words(words),
        pace=pace or Pace(first_audio_ms=(5, 5), generation_speed=(200, 200), cancel_latency_ms=20),
        key="sk-test",
        tap=lambda _session, sender, text: wire.append((sender, text)),
    )
    async with anyio.create_task_group() as tasks:

        async def listen(*, task_status: Any) -> None:
            await serve(settings, port=0, task_status=task_status)

        port = await tasks.start(listen)
        async with (
            openai.AsyncOpenAI(api_key="sk-test", base_url=f"http://127.0.0.1:{port}/v1") as client,
            client.realtime.connect(model="gpt-realtime-2.1") as connection,
        ):
            line = Line(connection)
            await line.until("session.created")
            yield line
        tasks.cancel_scope.cancel()
    assert {sender for sender, _ in wire} == {"client", "server"}
    wrong = [what for sender, text in wire for what in complaints(sender, text)]
    assert wrong == []


def types(events: Sequence[Any]) -> list[str]:
    return [event.type for event in events]


def only(events: Sequence[Any], kind: str) -> Any:
    (found,) = (event for event in events if event.type == kind)
    return found


def audio_of(events: Sequence[Any]) -> bytes:
    return b"".join(
        decode_audio(event.delta) for event in events if event.type == "response.output_audio.delta"
    )


@pytest.fixture
def anyio_backend() -> str:
    """The package speaks asyncio only."""
    return "asyncio"


@pytest.mark.anyio
async def test_a_spoken_turn() -> None:
    async with called(["Good day to you."], words=["Hello there."]) as line:
        await line.connection.session.update(
            session={
                "type": "realtime",
                "instructions": "Be kind.",
                "audio": {"input": {"transcription": {"model": "gpt-realtime-whisper"}}},
            }
        )
        updated = only(await line.until("session.updated"), "session.updated").session
        assert updated.instructions == "Be kind."
        await line.say("hello there, my good friend")
        came = await line.until("response.done")
        order = [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "response.created",
            "response.done",
        ]
        assert [kind for kind in types(came) if kind in order] == order
        done = only(came, "response.done").response
        assert done.status == "completed"
        assert done.output[0].content[0].transcript == "Good day to you."
        assert audio_of(came) == VOICE.speak("Good day to you.")
        completed = "conversation.item.input_audio_transcription.completed"
        heard = (await line.until(completed))[-1]
        assert heard.transcript == "Hello there."


@pytest.mark.anyio
async def test_a_tool_round() -> None:
    call = ToolUse(name="get_weather", arguments='{"city": "London"}')
    async with called([[Words(text="Let me look."), call], "It is foggy."]) as line:
        await line.connection.session.update(
            session={"type": "realtime", "tools": [WEATHER], "tool_choice": "auto"}
        )
        await line.write("What is the weather in London?")
        await line.connection.response.create()
        came = await line.until("response.done")
        made = only(came, "response.function_call_arguments.done")
        assert (made.name, json.loads(made.arguments)) == ("get_weather", {"city": "London"})
        items = only(came, "response.done").response.output
        assert [item.type for item in items] == ["message", "function_call"]
        await line.connection.conversation.item.create(
            item={"type": "function_call_output", "call_id": made.call_id, "output": "fog"}
        )
        await line.connection.response.create()
        answer = only(await line.until("response.done"), "response.done").response
        assert answer.output[0].content[0].transcript == "It is foggy."


@pytest.mark.anyio
async def test_a_barge_in_with_truncate() -> None:
    # Two seconds of answer a second: the user speaks while it is still being made.
    slow = Pace(first_audio_ms=(5, 5), generation_speed=(2, 2), cancel_latency_ms=20)
    async with called([60_000, "As you say."], pace=slow) as line:
        await line.say("tell me about the trains in the mountains")
        first = await line.until("response.output_audio.delta")
        created = only(first, "response.created").response
        await line.say("wait, I wanted to know something else", silent_ms=0)
        await line.until("input_audio_buffer.speech_started")
        item_id = only(first, "response.output_item.added").item.id
        await line.connection.conversation.item.truncate(
            item_id=item_id, content_index=0, audio_end_ms=60
        )
        after = await line.until("conversation.item.truncated", "response.done")
        assert "response.output_audio.delta" not in types(after)
        done = only(after, "response.done").response
        assert (done.id, done.status) == (created.id, "cancelled")
        assert done.status_details.reason == "turn_detected"
        assert done.output[0].status == "incomplete"
        cut = only(after, "conversation.item.truncated")
        assert (cut.item_id, cut.audio_end_ms) == (item_id, 60)
        await line.append(silence(24_000))
        rest = await line.until("response.done")
        assert only(rest, "input_audio_buffer.committed").previous_item_id == item_id
        assert only(rest, "response.done").response.output[0].content[0].transcript == "As you say."


@pytest.mark.anyio
async def test_a_text_turn() -> None:
    async with called(["Seven."]) as line:
        await line.write("How many days has a week?")
        await line.connection.response.create(response={"output_modalities": ["text"]})
        came = await line.until("response.done")
        assert only(came, "response.output_text.done").text == "Seven."
        assert audio_of(came) == b""


@pytest.mark.anyio
async def test_what_the_client_may_do_with_items_and_buffers() -> None:
    async with called(["Hi."]) as line:
        connection = line.connection
        await connection.session.update(
            session={"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        )
        await connection.input_audio_buffer.append(audio=encode_audio(silence(4_800)))
        await connection.input_audio_buffer.clear()
        await line.until("input_audio_buffer.cleared")
        await connection.input_audio_buffer.append(audio=encode_audio(silence(4_800)))
        await connection.input_audio_buffer.commit()
        item_id = only(
            await line.until("conversation.item.done"), "input_audio_buffer.committed"
        ).item_id
        await connection.conversation.item.retrieve(item_id=item_id)
        kept = (await line.until("conversation.item.retrieved"))[-1].item
        assert decode_audio(kept.content[0].audio) == silence(4_800)
        await connection.conversation.item.delete(item_id=item_id)
        await line.until("conversation.item.deleted")
        await connection.response.create(
            response={"conversation": "none", "input": [], "metadata": {"topic": "greeting"}}
        )
        beside = only(await line.until("response.done"), "response.done").response
        assert (beside.conversation_id, beside.metadata) == (None, {"topic": "greeting"})
        await connection.response.cancel(event_id="mine")
        error = (await line.until("error"))[-1].error
        assert (error.code, error.event_id) == ("response_cancel_not_active", "mine")


def test_our_own_client_and_our_server_in_a_whole_call(tmp_path: Path) -> None:
    wire: list[tuple[Any, str]] = []
    made = ServerSettings(
        mind=Talk(answer_ms=6_000),
        voice=VOICE,
        detector=SileroWindows,
        tap=lambda _session, sender, text: wire.append((sender, text)),
    )

    async def call() -> None:
        async with server_in_process(made) as server:
            await Pipeline(
                WavSource(USER_WAV, block_ms=10, tail_ms=1_000),
                LocalVad(),
                Realtime(SessionSettings(), connect=server.connect),
                Playout(),
                BargeIn(),
                WavSink(tmp_path / "heard.wav"),
            ).run()

    run_virtual(call)
    assert "conversation.item.truncate" in {json.loads(text)["type"] for _, text in wire}
    assert [what for sender, text in wire for what in complaints(sender, text)] == []


def test_the_recordings_of_the_service_pass_the_oracle_too(golden_dir: Path) -> None:
    wrong: set[str] = set()
    for path in sorted(golden_dir.glob("*.jsonl")):
        for text in path.read_text("utf-8").splitlines():
            line = json.loads(text)
            wrong.update(complaints(line["dir"], json.dumps(line["event"])))
    assert wrong == set()


@pytest.mark.parametrize(
    ("sender", "event", "complaint"),
    [
        ("server", {"type": "response.audio.delta"}, "no server event is called"),
        (
            "server",
            {
                "type": "input_audio_buffer.speech_started",
                "event_id": "event_1",
                "item_id": "item_1",
                "audio_start_ms": "1000",
            },
            "audio_start_ms: Input should be a valid integer",
        ),
        (
            "client",
            {"type": "session.update", "session": {"type": "realtime", "modalities": ["text"]}},
            "session.modalities is in no model",
        ),
    ],
)
def test_the_oracle_sees_what_the_package_itself_lets_through(
    sender: Any, event: dict[str, Any], complaint: str
) -> None:
    (said,) = complaints(sender, json.dumps(event))
    assert complaint in said


def test_the_oracle_and_the_package_know_the_same_events() -> None:
    assert set(models("client")) == CLIENT_EVENT_TYPES
    assert set(models("server")) == SERVER_EVENT_TYPES
