"""Whatever a client sends: no crash, no hang, bounded memory, and it hears of it by an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from framepipe.realtime.events import CLIENT_EVENT_TYPES, decode_client, encode_audio
from framepipe.realtime.mind import Scripted, ToolUse, given_words
from tests.examples import about
from tests.realtime.test_server_protocol import SILENCE, SPEECH, Client, types

AUDIO = st.sampled_from(
    [encode_audio(SPEECH * 4), encode_audio(SILENCE * 20), "", "!", "AAAA", "AAA=", "AA" * 999]
)
IDS = st.sampled_from(["mine", "root", "", "x" * 33, "item_1", "ä\0\n", "resp_1"])
NUMBERS = st.sampled_from([0, 1, -1, 99, 2**31, 2**70, 1.5, True])
WORDS = st.sampled_from(["hello", "", "\ud800", "a" * 5_000, "item_reference", "auto", "none"])
ANY = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS | IDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
FORMATS = st.fixed_dictionaries(
    {"type": st.sampled_from(["audio/pcm", "audio/pcmu", "audio/pcma", "audio/mp3"])},
    optional={"rate": st.sampled_from([24_000, 8_000, "24000"])},
)


def shaped(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Any]:
    """An object of the grammar; now and then one of its fields is anything."""
    right = st.fixed_dictionaries(required, optional=optional)
    names = st.sampled_from([*required, *optional, "unknown"])
    wrong = st.tuples(right, names, ANY).map(lambda made: {**made[0], made[1]: made[2]})
    return st.one_of(right, right, right, wrong)


TURNS = st.none() | shaped(
    {"type": st.sampled_from(["server_vad", "semantic_vad", "none"])},
    {
        "threshold": st.sampled_from([0, 0.5, 1, 2]),
        "silence_duration_ms": st.sampled_from([0, 200, 10_001]),
        "prefix_padding_ms": st.sampled_from([0, 300, -1]),
        "idle_timeout_ms": st.sampled_from([None, 1_000, 5]),
        "create_response": st.booleans(),
        "interrupt_response": st.booleans(),
        "eagerness": st.sampled_from(["low", "high", "never"]),
    },
)
SESSION = shaped(
    {"type": st.sampled_from(["realtime", "realtime", "transcription"])},
    {
        "instructions": WORDS,
        "output_modalities": st.sampled_from([["audio"], ["text"], ["audio", "text"], []]),
        "max_output_tokens": st.sampled_from([1, 4_096, "inf", 0, "many"]),
        "tools": st.lists(ANY, max_size=2),
        "audio": shaped(
            {},
            {
                "input": shaped(
                    {},
                    {
                        "format": FORMATS,
                        "turn_detection": TURNS,
                        "transcription": st.sampled_from([None, {}, {"model": "m"}]),
                    },
                ),
                "output": shaped(
                    {}, {"format": FORMATS, "voice": WORDS, "speed": st.sampled_from([0, 0.5, 1.5])}
                ),
            },
        ),
    },
)
PART = shaped(
    {"type": st.sampled_from(["input_text", "input_audio", "output_text", "input_image"])},
    {"text": WORDS, "audio": AUDIO, "transcript": WORDS},
)
ITEM = shaped(
    {"type": st.sampled_from(["message", "function_call", "function_call_output", "song"])},
    {
        "id": IDS,
        "role": st.sampled_from(["user", "assistant", "system", "robot"]),
        "content": st.lists(PART, max_size=2),
        "call_id": IDS,
        "output": WORDS,
        "name": WORDS,
        "arguments": WORDS,
    },
)
RESPONSE = shaped(
    {},
    {
        "conversation": st.sampled_from(["auto", "none", "mine"]),
        "input": st.lists(ITEM, max_size=2),
        "output_modalities": st.sampled_from([["audio"], ["text"]]),
        "max_output_tokens": st.sampled_from([1, 5, "inf"]),
        "metadata": st.dictionaries(WORDS, WORDS, max_size=2),
        "audio": shaped({}, {"output": shaped({}, {"format": FORMATS})}),
    },
)
FIELDS: dict[str, Any] = {
    "session.update": shaped({"session": SESSION}, {}),
    "input_audio_buffer.append": shaped({"audio": AUDIO}, {}),
    "input_audio_buffer.commit": shaped({}, {}),
    "input_audio_buffer.clear": shaped({}, {}),
    "conversation.item.create": shaped({"item": ITEM}, {"previous_item_id": IDS}),
    "conversation.item.retrieve": shaped({"item_id": IDS}, {}),
    "conversation.item.truncate": shaped(
        {"item_id": IDS, "content_index": NUMBERS, "audio_end_ms": NUMBERS}, {}
    ),
    "conversation.item.delete": shaped({"item_id": IDS}, {}),
    "response.create": shaped({}, {"response": RESPONSE}),
    "response.cancel": shaped({}, {"response_id": IDS}),
    "output_audio_buffer.clear": shaped({}, {}),
}
EVENT = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda kind: st.tuples(FIELDS[kind], st.sampled_from([{}, {"event_id": "mine"}])).map(
        lambda made: json.dumps({"type": kind, **made[0], **made[1]})
    )
)
GARBAGE = st.one_of(
    st.text(max_size=40),
    ANY.map(json.dumps),
    EVENT.flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end])),
    st.sampled_from(["[" * 5_000, '{"type":' * 2_000, '{"type": "session.update"}' * 2]),
)
STEPS = st.lists(st.tuples(st.one_of(EVENT, EVENT, EVENT, GARBAGE), st.integers(0, 600)))


def test_the_grammar_knows_every_client_event() -> None:
    assert set(FIELDS) == CLIENT_EVENT_TYPES


def reachable_bytes(value: Any, seen: set[int] | None = None) -> int:
    """About how much memory a session holds in bytes objects and text."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, (bytes, bytearray, str)):
        return sys.getsizeof(value)
    inner: list[Any]
    if isinstance(value, dict):
        pairs = cast("Mapping[Any, Any]", value)
        inner = [*pairs.keys(), *pairs.values()]
    elif isinstance(value, (list, tuple)):
        inner = [*cast("Sequence[Any]", value)]
    else:
        kind: Any = type(cast("object", value))
        names = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__slots__", ())
        inner = [getattr(value, name, None) for name in names]
        inner += list(getattr(value, "__dict__", {}).values())
    return sum(reachable_bytes(one, seen) for one in inner)


@settings(max_examples=about(80))
@given(steps=STEPS)
def test_no_client_breaks_the_server_and_every_wrong_event_is_answered(
    steps: list[tuple[str, int]],
) -> None:
    client = Client(
        mind=Scripted(["Hello there.", [ToolUse(name="t")], 700]), ears=given_words(["One."])
    )
    for text, wait_ms in steps:
        came = client.send_text(text)
        if not is_event(text):
            assert types(came)[-1:] == ["error"]
        assert len(came) < 200
        client.wait(wait_ms)
    client.wait(20_000)
    assert client.server.active_response_ids == ()
    assert reachable_bytes(client.server.__dict__) < 3_000_000 + 2 * sum(
        len(text) for text, _ in steps
    )
    fresh = client.send("session.update", session={"type": "realtime"}, event_id="still")
    assert types(fresh) == ["session.updated"], "the session goes on"


def is_event(text: str) -> bool:
    """Whether a text is at least of the shape of a client event that exists."""
    try:
        event = decode_client(text)
    except Exception:
        return False
    return event.type in CLIENT_EVENT_TYPES
