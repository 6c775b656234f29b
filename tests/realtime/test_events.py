"""The codec: what the service said comes back to the letter, and nothing it says can hurt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.errors import LocalProtocolError, RemoteProtocolError
from framepipe.realtime import events as wire
from framepipe.realtime.events import MalformedEventError, UnknownEvent

DELTA: dict[str, Any] = {
    "type": "response.output_audio.delta",
    "event_id": "event_1",
    "response_id": "resp_1",
    "item_id": "item_1",
    "output_index": 0,
    "content_index": 0,
    "delta": "AAAA",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_every_recorded_event_comes_back_to_the_letter(golden_dir: Path) -> None:
    seen: set[str] = set()
    for recording in sorted(golden_dir.glob("*.jsonl")):
        for line in recording.read_text().splitlines():
            entry = json.loads(line)
            text = json.dumps(entry["event"])
            decode = wire.decode_server if entry["dir"] == "server" else wire.decode_client
            event = decode(text)
            assert not isinstance(event, UnknownEvent), event.type
            assert event.type == entry["event"]["type"]
            assert json.loads(wire.encode(event)) == entry["event"]
            seen.add(event.type)
    assert len(seen) >= 25


def test_what_is_not_set_in_an_update_is_not_on_the_wire_and_none_is_null() -> None:
    detection_off = wire.AudioInput(turn_detection=None)
    update = wire.SessionUpdate(session=wire.Session(audio=wire.Audio(input=detection_off)))

    assert json.loads(wire.encode(update)) == {
        "type": "session.update",
        "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}},
    }


def test_a_type_that_is_not_known_is_handed_on_with_its_text() -> None:
    text = '{"type": "response.smell.delta", "event_id": "event_9", "delta": [1, 2]}'

    event = wire.decode_server(text)

    assert event == UnknownEvent("response.smell.delta", text, "event_9")
    assert wire.encode(event) == text


def test_an_event_of_the_other_direction_is_unknown() -> None:
    assert isinstance(wire.decode_server('{"type":"response.cancel"}'), UnknownEvent)
    assert isinstance(wire.decode_client('{"type":"session.created"}'), UnknownEvent)


def test_fields_that_are_new_are_passed_over() -> None:
    event = wire.decode_server(json.dumps({**DELTA, "mood": {"deep": [True]}}))

    assert isinstance(event, wire.ResponseOutputAudioDelta)
    assert event.delta == "AAAA"


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("", "invalid_event", None),
        ("no json", "invalid_event", None),
        ("[]", "invalid_event", None),
        ("{}", "invalid_event", "type"),
        ('{"type": 3}', "invalid_event", "type"),
        ('{"type":"input_audio_buffer.append"}', "missing_required_parameter", "audio"),
        ('{"type":"input_audio_buffer.append","audio":7}', "invalid_type", "audio"),
        (
            '{"type":"session.update","session":{"audio":{"input":{"turn_detection":{}}}}}',
            "missing_required_parameter",
            "session.audio.input.turn_detection.type",
        ),
        ('{"type":"response.cancel","x":"\ud800"}', "invalid_event", None),
        ("[" * 10_000, "invalid_event", None),
        ('{"type":"session.update","session":{"tools":[' + "[" * 10_000, "invalid_event", None),
    ],
)
def test_what_is_no_event_is_refused_with_what_a_server_answers(
    text: str, code: str, param: str | None
) -> None:
    with pytest.raises(MalformedEventError) as caught:
        wire.decode_client(text)

    assert (caught.value.code, caught.value.param) == (code, param)
    assert len(str(caught.value)) < 400


def test_a_malformed_event_still_tells_its_event_id() -> None:
    with pytest.raises(MalformedEventError) as caught:
        wire.decode_client('{"type":"input_audio_buffer.append","event_id":"mine"}')

    assert caught.value.event_id == "mine"
    assert isinstance(caught.value, RemoteProtocolError)


@given(st.sampled_from(sorted(DELTA)), json_values)
def test_a_field_of_any_shape_is_an_event_or_malformed(field: str, value: object) -> None:
    try:
        event = wire.decode_server(json.dumps({**DELTA, field: value}))
    except MalformedEventError:
        return
    assert event.type


@given(st.sampled_from(sorted(wire.SERVER_EVENT_TYPES | wire.CLIENT_EVENT_TYPES)), json_values)
def test_any_body_under_any_type_is_an_event_or_malformed(name: str, value: object) -> None:
    text = json.dumps({"session": value, "item": value, "response": value, "type": name})
    for decode in (wire.decode_server, wire.decode_client):
        try:
            event = decode(text)
        except MalformedEventError:
            continue
        assert event.type == name


@given(st.text(max_size=40))
def test_any_text_is_an_event_or_malformed(text: str) -> None:
    with pytest.raises(MalformedEventError):
        wire.decode_server(text)


@given(st.binary(max_size=200))
def test_audio_survives_the_wire(pcm: bytes) -> None:
    append = wire.InputAudioBufferAppend(audio=wire.encode_audio(pcm))

    event = wire.decode_client(wire.encode(append))

    assert event == append
    assert wire.decode_audio(append.audio) == pcm


def test_audio_that_is_no_base64_is_malformed() -> None:
    with pytest.raises(MalformedEventError, match="not base64"):
        wire.decode_audio("a*b=")


def test_text_that_is_no_unicode_is_not_sent() -> None:
    event = wire.ResponseCreate(response=wire.ResponseParams(instructions="\ud800"))

    with pytest.raises(LocalProtocolError, match=r"response\.create cannot be written"):
        wire.encode(event)
