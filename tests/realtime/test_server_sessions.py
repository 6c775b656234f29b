"""Sessions of another kind, and tools that the service itself uses: scripts for the server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.realtime import events as wire
from framepipe.realtime.mind import McpUse, Scripted, Words, given_words
from framepipe.realtime.server import EmbeddedServer, ServerSettings
from framepipe.realtime.server_protocol import ServerProtocol
from tests.realtime.oracle import complaints
from tests.realtime.test_server_protocol import (
    SILENCE,
    SPEECH,
    Client,
    LoudIsSpeech,
    Tone,
    error_of,
    only,
    types,
    without_deltas,
)

ANSWERING = {"type": "server_vad", "create_response": True}
TOOLS: list[dict[str, Any]] = [{"name": "look_up", "input_schema": {"type": "object"}}]


class Transcriber(Client):
    """A client of a session that only transcribes."""

    def __init__(self) -> None:
        super().__init__()
        self.server = ServerProtocol(
            mind=Scripted(["never said"]),
            voice=Tone(),
            detector=LoudIsSpeech(),
            ears=given_words(["the first words", "the second"]),
            transcribes_only=True,
        )
        self.sent = self.server.open(0)

    def settings(self, **fields: Any) -> list[wire.KnownServerEvent]:
        return self.send("session.update", session={"type": "transcription", **fields})


def assert_valid(client: Client) -> None:
    for _, event in client.sent:
        assert complaints("server", wire.encode(event)) == []


def test_a_transcription_session_shows_only_what_it_has() -> None:
    client = Transcriber()
    (created,) = only([event for _, event in client.sent], "session.created")

    assert created.session.type == "transcription"
    assert created.session.object == "realtime.transcription_session"
    assert created.session.instructions is wire.UNSET
    assert created.session.audio.output is wire.UNSET
    assert created.session.audio.input.turn_detection.create_response is wire.UNSET
    assert_valid(client)


def test_a_transcription_session_writes_what_it_hears_and_answers_nothing() -> None:
    client = Transcriber()

    came = client.say(*[SPEECH] * 10, *[SILENCE] * 40)

    assert without_deltas(came) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
    ]
    (completed,) = only(came, "conversation.item.input_audio_transcription.completed")
    assert completed.transcript == "the first words"
    error = error_of(client.send("response.create", event_id="mine"))
    assert error.event_id == "mine"
    assert_valid(client)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"instructions": "be kind"}, "session.instructions"),
        ({"audio": {"output": {"voice": "cedar"}}}, "session.audio.output"),
        (
            {
                "audio": {
                    "input": {"turn_detection": {"type": "server_vad", "create_response": True}}
                }
            },
            "session.audio.input.turn_detection.create_response",
        ),
    ],
)
def test_a_transcription_session_has_nothing_to_do_with_answers(
    fields: dict[str, Any], param: str
) -> None:
    error = error_of(Transcriber().settings(**fields))
    assert (error.code, error.param) == ("unknown_parameter", param)


def test_a_transcription_session_is_updated_like_any_other() -> None:
    client = Transcriber()
    (updated,) = client.settings(
        audio={
            "input": {
                "transcription": {"model": "gpt-transcribe", "language": "de"},
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 200},
            }
        }
    )
    assert isinstance(updated, wire.SessionUpdated)
    came = client.say(*[SPEECH] * 10, *[SILENCE] * 7)
    assert "input_audio_buffer.committed" in types(came)
    wrong = client.send("session.update", session={"type": "realtime"})
    assert error_of(wrong).param == "session.type"
    assert_valid(client)


def test_a_url_asks_for_a_transcription_session_by_its_intent() -> None:
    server = EmbeddedServer(ServerSettings(detector=LoudIsSpeech))
    plain = server.new_session("ws://host/v1/realtime?model=m")
    other = server.new_session("ws://host/v1/realtime?intent=transcription")

    assert (plain.session.type, other.session.type) == ("realtime", "transcription")


def mcp_client(mind: Scripted | None = None) -> Client:
    client = Client()
    client.server = ServerProtocol(
        mind=mind or Scripted(["hello"]),
        voice=Tone(),
        detector=LoudIsSpeech(),
        mcp_servers={"docs": TOOLS},
    )
    client.sent = client.server.open(0)
    return client


def test_the_tools_of_an_mcp_server_become_an_item_once() -> None:
    client = mcp_client()
    tool = {"type": "mcp", "server_label": "docs", "server_url": "https://docs.example"}

    begun = client.settings(tools=[tool])
    listed = client.wait(500)

    assert types(begun) == [
        "session.updated",
        "conversation.item.added",
        "mcp_list_tools.in_progress",
    ]
    assert types(listed) == ["mcp_list_tools.completed", "conversation.item.done"]
    (done,) = only(listed, "conversation.item.done")
    assert done.item.tools == TOOLS
    assert types(client.settings(tools=[tool])) == ["session.updated"]
    assert_valid(client)


def test_an_mcp_server_that_nobody_knows_cannot_be_reached() -> None:
    client = mcp_client()
    client.settings(
        tools=[{"type": "mcp", "server_label": "moon", "server_url": "https://m.example"}]
    )
    assert types(client.wait(500)) == ["mcp_list_tools.failed"]
    assert_valid(client)


@pytest.mark.parametrize("error", [None, "it is closed"])
def test_an_mcp_tool_is_used_within_the_response(error: str | None) -> None:
    use = McpUse(
        server_label="docs", name="look_up", arguments='{"q": "a b"}', output="found", error=error
    )
    client = mcp_client(Scripted([[use, Words(text="There.")]]))

    client.send("response.create")
    came = client.wait(10_000)

    kinds = without_deltas(came)
    assert kinds[:8] == [
        "response.output_item.added",
        "conversation.item.added",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
        "response.mcp_call.completed" if error is None else "response.mcp_call.failed",
    ]
    (done,) = only(came, "response.done")
    call, words = done.response.output
    assert (call.type, call.arguments) == ("mcp_call", '{"q": "a b"}')
    assert call.output == "found" if error is None else call.error["message"] == error
    assert words.type == "message"
    assert "response.mcp_call_arguments.delta" in types(came)
    assert_valid(client)


def test_an_mcp_call_that_is_cut_off_was_never_made() -> None:
    use = McpUse(server_label="docs", name="look_up", arguments=" ".join(["word"] * 200))
    client = mcp_client(Scripted([[use]]))
    client.send("response.create")
    client.wait(600)
    client.send("response.cancel")
    came = client.wait(2_000)

    assert "response.mcp_call_arguments.done" in types(came)
    assert not any(kind.startswith("response.mcp_call.") for kind in types(came))
    assert only(came, "response.done")[0].response.status == "cancelled"


@given(
    label=st.sampled_from(["docs", "moon", "", 7, None]),
    kind=st.sampled_from(["mcp", "function", 3]),
)
def test_no_tool_of_a_session_breaks_it(label: object, kind: object) -> None:
    client = mcp_client()
    client.settings(tools=[{"type": kind, "server_label": label}])
    client.wait(500)
    assert types(client.settings()) == ["session.updated"]
