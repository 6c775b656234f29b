"""What goes wrong on purpose, on the line and over a socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.realtime.connection import Connection
from framepipe.realtime.events import (
    ConversationItemTruncated,
    KnownServerEvent,
    RateLimitsUpdated,
    ResponseOutputAudioDelta,
)
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import server_in_process
from framepipe.realtime.server_faults import UNORDERED, Faults, FaultsError, FaultyLine
from framepipe.testing import run_virtual
from tests.realtime.test_server import (
    GREETING,
    URL,
    WAYS,
    a_written_conversation,
    receive,
    send,
    settings,
    until,
    until_closed,
)

MS = 1_000_000


def delta(n: int) -> ResponseOutputAudioDelta:
    return ResponseOutputAudioDelta(event_id=f"event_{n}", response_id="r", item_id="i", delta="")


def limits(n: int) -> RateLimitsUpdated:
    return RateLimitsUpdated(event_id=f"event_{n}", rate_limits=[])


def truncated(n: int) -> ConversationItemTruncated:
    return ConversationItemTruncated(event_id=f"event_{n}", item_id="i", audio_end_ms=0)


def ids(texts: list[str]) -> list[str]:
    return [json.loads(text)["event_id"] for text in texts]


# --- the line, as scripts ---------------------------------------------------------------------


def test_without_faults_everything_arrives_at_once() -> None:
    line = FaultyLine(Faults())
    line.from_client("a", 5)
    line.from_server([delta(1), limits(2)], 5)
    assert line.deadline_ns == 5
    assert line.for_server(5) == ["a"]
    assert ids(line.for_client(5)) == ["event_1", "event_2"]
    assert line.deadline_ns is None


def test_each_direction_has_its_own_delay() -> None:
    line = FaultyLine(Faults(delay_to_server_ms=30, delay_to_client_ms=80))
    line.from_client("a", 0)
    line.from_server([delta(1)], 0)
    assert line.deadline_ns == 30 * MS
    assert line.for_server(30 * MS - 1) == []
    assert line.for_server(30 * MS) == ["a"]
    assert line.for_client(80 * MS - 1) == []
    assert ids(line.for_client(80 * MS)) == ["event_1"]


@given(gaps_ms=st.lists(st.integers(0, 50), min_size=1, max_size=30), seed=st.integers(0, 100))
def test_jitter_delays_and_never_reorders(gaps_ms: list[int], seed: int) -> None:
    line = FaultyLine(Faults(delay_to_client_ms=20, jitter_ms=200, late_ms=0), seed)
    now_ms, sent_ms, came = 0, dict[str, int](), list[str]()
    for n, gap_ms in enumerate(gaps_ms):
        now_ms += gap_ms
        sent_ms[f"event_{n}"] = now_ms
        line.from_server([delta(n)], now_ms * MS)
        arrived = ids(line.for_client(now_ms * MS))
        assert all(now_ms - sent_ms[event_id] >= 20 for event_id in arrived)
        came += arrived
    came += ids(line.for_client((now_ms + 220) * MS))
    assert came == list(sent_ms)


@given(
    kinds=st.lists(st.sampled_from(["delta", "limits", "truncated"]), max_size=20),
    late_ms=st.sampled_from([0, 300]),
    repeat=st.booleans(),
)
def test_only_what_the_service_leaves_unordered_comes_late_or_twice(
    kinds: list[str], late_ms: int, repeat: bool
) -> None:
    made: dict[str, Callable[[int], KnownServerEvent]] = {
        "delta": delta,
        "limits": limits,
        "truncated": truncated,
    }
    events: list[KnownServerEvent] = [made[kind](n) for n, kind in enumerate(kinds)]
    line = FaultyLine(Faults(late_ms=late_ms, repeat=repeat))
    line.from_server(events, 0)
    at_once = ids(line.for_client(0))
    ordered = [event.event_id for event in events if event.type not in UNORDERED]
    assert [event_id for event_id in at_once if event_id in ordered] == ordered
    everything = at_once + ids(line.for_client(300 * MS))
    for event in events:
        assert everything.count(event.event_id) == (2 if repeat and event.type in UNORDERED else 1)


def test_an_error_comes_after_every_so_many_events() -> None:
    line = FaultyLine(Faults(error_after_events=2, error_code="inference_rate_limit_exceeded"))
    line.from_server([delta(n) for n in range(5)], 0)
    events = [json.loads(text) for text in line.for_client(0)]
    assert [event["type"] == "error" for event in events] == [False, False, True] * 2 + [False]
    assert events[2]["error"]["code"] == "inference_rate_limit_exceeded"
    assert len({event["event_id"] for event in events}) == 7


@pytest.mark.parametrize(
    "wrong", [{"jitter_ms": -1.0}, {"drop_after_s": -0.1}, {"error_after_events": 0}]
)
def test_a_fault_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(FaultsError, match=next(iter(wrong))):
        Faults(**wrong)


# --- over memory and sockets ------------------------------------------------------------------


def test_a_slow_line_delays_a_conversation_by_both_its_directions() -> None:
    async def conversation(faults: Faults) -> float:
        made = settings(faults=faults)
        async with server_in_process(made) as server, server.connect(URL, {}) as connection:
            await until(connection, "session.created")
            began = anyio.current_time()
            await send(connection, "conversation.item.create", item=GREETING)
            await until(connection, "conversation.item.done")
            return anyio.current_time() - began

    slow = Faults(delay_to_server_ms=120, delay_to_client_ms=80)
    assert run_virtual(conversation, Faults()) == 0
    assert run_virtual(conversation, slow) == pytest.approx(0.2)


def test_a_line_that_stutters_loses_nothing_and_says_everything_twice() -> None:
    async def conversation() -> list[str]:
        made = settings(faults=Faults(jitter_ms=90, repeat=True, error_after_events=7))
        async with server_in_process(made) as server, server.connect(URL, {}) as connection:
            types = await a_written_conversation(connection)
            return [*types, (await receive(connection))["type"]]

    types = run_virtual(conversation)
    assert types[-2:] == ["rate_limits.updated"] * 2
    assert types.count("response.done") == 1
    assert "error" in types


@pytest.mark.anyio
@pytest.mark.parametrize("serving", WAYS)
async def test_a_connection_that_is_dropped_breaks_without_a_goodbye(serving: Any) -> None:
    made = settings(faults=Faults(drop_after_s=0.0), mind=Talk(600_000))
    async with serving(made) as server, server.connect(URL, {}) as connection:
        *types, why = await until_closed(connection)
    assert types == ["session.created"]
    assert "without a goodbye" in why or "1006" in why


@pytest.mark.anyio
@pytest.mark.parametrize("serving", WAYS)
async def test_a_half_open_connection_is_silent_and_the_server_still_stops(serving: Any) -> None:
    made = settings(faults=Faults(half_open_after_s=0.0))
    async with serving(made) as server, server.connect(URL, {}) as connection:
        await until(connection, "session.created")
        assert await is_silent(connection)


async def is_silent(connection: Connection) -> bool:
    """Whether a wrong event is not even answered with an error."""
    await send(connection, "response.cancel")
    with anyio.move_on_after(0.3) as patience:
        await connection.receive()
    return patience.cancelled_caught
