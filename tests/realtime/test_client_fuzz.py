"""Whatever a server says, the client neither breaks nor grows nor stops.

The grammar is read from the event types themselves: every field gets what its type allows, ids come
from a small pool so that they meet, and now and then a field is missing or is anything at all.
"""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec.inspect as inspect
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framepipe.errors import ProcessorError
from framepipe.frames import Frame, Heard, Interrupt, Problem, ToolCall
from framepipe.realtime import events as wire
from framepipe.realtime.client_outputs import OpenTurn, Output, Send
from framepipe.realtime.client_protocol import ClientProtocol
from framepipe.realtime.session import SessionSettings
from tests.examples import about
from tests.realtime_service import Mic, Service, call

POOLS: dict[str, list[str]] = {
    "id": ["R1", "A1", "U1"],
    "Response.id": ["R1", "R1", "R2"],
    "Item.id": ["A1", "A2", "U1", "F1"],
    "Item.type": ["message", "function_call", "function_call", "function_call_output"],
    "response_id": ["R1", "R1", "R2", ""],
    "item_id": ["A1", "A2", "U1", "U2", "F1"],
    "previous_item_id": ["A1", "U1", "nobody"],
    "call_id": ["c1", "c2"],
    "conversation_id": ["conv"],
    "event_id": ["create-1", "cancel-1", "update-1", "beside-1", "retrieve-U1", "seed-1", ""],
    "status": ["completed", "incomplete", "in_progress", "cancelled", "failed"],
    "role": ["user", "assistant", "system"],
    "name": ["weather", "create-1"],
    "arguments": ["{}", "{"],
    "code": ["session_expired", "response_cancel_not_active", "invalid_value", "unheard_of"],
    "delta": ["AAAA", "AQIDBAUG" * 50, "AQIDBAUG" * 500, "AAA=", "not base64!", ""],
    "audio": ["AAAA", "%"],
    "kind": ["audio/pcm", "audio/pcmu"],
}
"""Words that mean something to the client, by field."""

NUMBERS = st.sampled_from([0, 1, 20, 500, 3_000, -1, 2**31, 2**60, -(2**60)])
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def of_type(kind: inspect.Type, field: str, depth: int = 0) -> st.SearchStrategy[Any]:
    """JSON values of a type, for a field of this name."""
    match kind:
        case inspect.UnionType():
            return st.one_of([of_type(one, field, depth) for one in kind.types])
        case inspect.StructType():
            return of_struct(kind, depth + 1)
        case inspect.ListType():
            return st.lists(of_type(kind.item_type, field, depth), max_size=2)
        case inspect.DictType():
            marks = st.sampled_from(["create-1", "create-2", "beside-1", "x"])
            return st.fixed_dictionaries({}, optional={"framepipe": marks})
        case inspect.StrType():
            return st.sampled_from(POOLS[field]) if field in POOLS else st.text(max_size=6)
        case inspect.IntType():
            return NUMBERS
        case inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case _:
            return JUNK


def of_struct(kind: inspect.StructType, depth: int = 0) -> st.SearchStrategy[Any]:
    """JSON objects of a struct; deep ones are small."""
    needed: dict[str, st.SearchStrategy[Any]] = {}
    maybe: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.fields:
        own = f"{kind.cls.__name__}.{field.encode_name}"
        values = of_type(field.type, own if own in POOLS else field.encode_name, depth)
        if field.required or (depth < 2 and field.name in POOLS):
            needed[field.encode_name] = values
        elif depth < 3:
            maybe[field.encode_name] = values
    if kind.tag is not None:
        needed["type"] = st.just(kind.tag)
    return st.fixed_dictionaries(needed, optional=maybe)


EVENTS = {
    str(cls.__struct_config__.tag): of_struct(info)
    for cls in get_args(wire.KnownServerEvent)
    if isinstance(info := inspect.type_info(cls), inspect.StructType)
}
LIKELY = [
    "response.created",
    "response.created",
    "response.output_audio.delta",
    "response.output_audio.delta",
    "response.output_audio_transcript.delta",
    "response.output_item.done",
    "response.done",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "error",
]
"""What a call is made of; all others come too."""


@st.composite
def server_events(draw: st.DrawFn) -> str:
    """One message of a server: mostly an event, sometimes nearly one, sometimes nothing."""
    name = draw(st.sampled_from(LIKELY) | st.sampled_from(sorted(EVENTS)))
    event = dict(draw(EVENTS[name]))
    flaw = draw(st.integers(0, 19))
    if flaw == 0 and event:
        event.pop(draw(st.sampled_from(sorted(event))))
    elif flaw == 1:
        event[draw(st.sampled_from(sorted(event)))] = draw(JUNK)
    elif flaw == 2:
        event["brand_new"] = draw(JUNK)
    elif flaw == 3:
        return str(draw(st.sampled_from(["", "{", "[]", "null", '{"type":"brand.new"}', "\ud800"])))
    return json.dumps(event)


class Client:
    """A protocol with a shell that does what it says, or fails the test."""

    def __init__(self) -> None:
        self.protocol = ClientProtocol(SessionSettings().wire())
        self.now_ns = 0
        self.turn = 0
        self.position = 0

    def perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, OpenTurn):
                self.turn += 1
                self.protocol.turn_opened(output.response_id, self.turn)
            elif isinstance(output, Send):
                wire.decode_client(wire.encode(output.event))  # what is sent is an event
            elif isinstance(output, ToolCall):
                self.perform(self.protocol.answer_call(output.call_id, "4", self.now_ns))
            else:
                assert isinstance(output, Frame) or type(output).__module__.startswith("framepipe")

    def hear(self, text: str) -> None:
        try:
            event = wire.decode_server(text)
        except wire.MalformedEventError:
            return  # a Problem, in the shell
        self.perform(self.protocol.receive(event, self.now_ns))

    def be_cut(self, turn: int, samples: int, *, final: bool) -> None:
        account = Heard(
            item_id="A1",
            content_index=0,
            heard_samples=samples,
            received_samples=samples,
            final=final,
        )
        cut = Interrupt(turn=turn or None, onset_sample=self.position, heard=(account,))
        self.perform(self.protocol.cut(cut, self.now_ns))
        self.perform(self.protocol.settle(account, self.now_ns))

    def reconnect(self) -> None:
        outputs, leftover = self.protocol.hand_over(self.now_ns)
        self.perform(outputs)
        self.protocol = ClientProtocol(self.protocol.session, leftover=leftover)

    def size(self) -> int:
        held = [self.protocol, *vars(self.protocol).values()]
        tables = [value for owner in held for value in getattr(owner, "__dict__", {}).values()]
        return sum(len(table) for table in tables if hasattr(table, "__len__"))


@given(data=st.data())
def test_no_events_in_any_order_break_the_client_or_make_it_wait_for_ever(
    data: st.DataObject,
) -> None:
    client = Client()
    if data.draw(st.integers(0, 9)):
        client.hear('{"type":"session.created","session":{"type":"realtime"}}')
    for text in data.draw(st.lists(server_events(), min_size=20, max_size=40)):
        client.hear(text)
        what = data.draw(st.integers(0, 19))
        if what == 0:
            turn = data.draw(st.integers(0, client.turn))
            client.be_cut(turn, 10, final=data.draw(st.booleans()))
        elif what == 1:
            client.perform(client.protocol.append(client.position, bytes(960)))
            client.position += 480
        elif what == 2:
            client.perform(client.protocol.create(None, client.now_ns))
        elif what == 3:
            client.perform(client.protocol.swallow("U1", client.now_ns))
        elif what == 4:
            client.reconnect()
        client.now_ns += data.draw(st.sampled_from([0, 20_000_000, 6_000_000_000]))
        client.perform(client.protocol.advance(client.now_ns))

    for _ in range(200):
        deadline_ns = client.protocol.deadline_ns
        if deadline_ns is None or client.protocol.settled:
            break
        # A deadline is either reached and does something, or lies ahead: time always moves on.
        client.now_ns = max(client.now_ns + 1_000_000, deadline_ns)
        client.perform(client.protocol.advance(client.now_ns))


@settings(max_examples=about(15))
@given(texts=st.lists(server_events(), min_size=5, max_size=15), seed=st.integers(0, 9))
def test_the_client_does_not_grow_with_what_a_server_says(texts: list[str], seed: int) -> None:
    """The same events again and again, under ever new names."""

    def size_after(rounds: int) -> int:
        client = Client()
        client.hear('{"type":"session.created","session":{"type":"realtime"}}')
        for number in range(rounds):
            for text in texts:
                for name in ("R1", "A1", "U1", "F1", "c1", "R2", "A2", "U2", "c2"):
                    text = text.replace(f'"{name}"', f'"{name}-{number}"')
                client.hear(text)
            client.now_ns += 100_000_000
            client.perform(client.protocol.advance(client.now_ns))
        return client.size()

    assert size_after(1_200) <= size_after(600) + 60


@settings(max_examples=about(25))
@given(texts=st.lists(server_events(), min_size=10, max_size=30))
def test_a_call_with_a_server_that_says_anything_ends_as_calls_end(texts: list[str]) -> None:
    async def babbles(service: Service) -> None:
        await service.greet()
        if service.n_sockets == 1:
            for text in texts:
                await service.connection.send(text)
        await service.read_on()

    try:
        _, ear = call(babbles, mic=Mic(1.0))
    except ProcessorError as error:
        pytest.fail(f"{texts}: {error}")
    malformed = 0
    for text in texts:
        try:
            wire.decode_server(text)
        except wire.MalformedEventError:
            malformed += 1
    if not any("session_expired" in text for text in texts):
        told = [problem for problem in ear.of(Problem) if problem.code == "malformed_event"]
        assert len(told) == malformed
