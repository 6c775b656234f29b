"""Many calls in one process: one that is slow harms nobody else, and a long one loses nothing."""

from __future__ import annotations

import json

import anyio
import pytest
from attrs import evolve

from benchmarks import soak
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.connection import Connection, memory_pair
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import EmbeddedServer, ServerSettings, serve_connection
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.testing import run_virtual

SETTINGS = ServerSettings(
    mind=Talk(2_000),
    voice=ShippedClips(),
    detector=LoudWindows,
    pace=Pace(first_audio_ms=(250, 250), generation_speed=(4, 4)),
)


async def _asks_three_times(connection: Connection, heard: list[tuple[float, str]]) -> None:
    for _ in range(3):
        await connection.send('{"type": "response.create"}')
        kind = ""
        while kind != "response.done":
            kind = json.loads(await connection.receive())["type"]
            heard.append((anyio.current_time(), kind))
    await connection.aclose()


async def _asks_and_never_reads(connection: Connection) -> None:
    await connection.send('{"type": "response.create"}')
    await anyio.sleep(30)
    await connection.aclose()


def _heard_by_four(*, with_a_slow_one: bool) -> list[list[tuple[float, str]]]:
    heard: list[list[tuple[float, str]]] = [[] for _ in range(4)]

    async def serve_all() -> None:
        server = EmbeddedServer(SETTINGS)
        async with anyio.create_task_group() as tasks:
            for log in heard:
                near, far = memory_pair()
                tasks.start_soon(serve_connection, far, server.new_session("ws://localhost"))
                tasks.start_soon(_asks_three_times, near, log)
            if with_a_slow_one:
                near, far = memory_pair(capacity=2)
                tasks.start_soon(serve_connection, far, server.new_session("ws://localhost"))
                tasks.start_soon(_asks_and_never_reads, near)

    run_virtual(serve_all)
    return heard


def test_a_client_that_reads_nothing_delays_no_event_of_the_others() -> None:
    alone = _heard_by_four(with_a_slow_one=False)
    assert all(kinds[-1][1] == "response.done" for kinds in alone)
    assert _heard_by_four(with_a_slow_one=True) == alone


def test_a_long_call_adds_up_to_the_sample_over_several_sessions() -> None:
    soaked = soak.long_call(0.2, session_s=300)
    # Sessions of five minutes are too short to be renewed before they expire; all else adds up.
    assert soak.inexact(soaked, soak.ANSWER_MS) == ["{'session_expired': 2}"]
    assert soaked.turns == 24
    assert soaked.sessions == 3
    # One reading a session, where the service holds one answer; and one when it holds none.
    assert len(soaked.memory_kib) == 4
    assert soaked.peak_kib >= max(soaked.memory_kib)


def test_calls_one_after_another_add_up() -> None:
    soaked = soak.many_calls(20, parts=4)
    assert soak.inexact(soaked, 200) == []
    assert soaked.sessions == 20


def test_a_soak_in_which_something_is_missing_says_what() -> None:
    soaked = soak.many_calls(1, parts=1)
    assert soak.inexact(soaked, 300) == [
        "4800 samples of 7200",
        "4800 samples heard of 7200",
    ]


def test_a_soak_that_grows_says_by_how_much() -> None:
    calls = soak.many_calls(1, parts=1)
    flat = evolve(calls, memory_kib=(90_000, 50_000, 50_000, 50_000, 58_192))
    assert soak.grown(flat) == []
    (said,) = soak.grown(evolve(flat, memory_kib=(*flat.memory_kib, 60_240)))
    assert said == "memory grew by 10.0 MiB, at most 8 are flat"


@pytest.mark.parametrize("n_samples", [0, 5])
def test_run_length_silence_is_as_long_as_it_says(n_samples: int) -> None:
    assert len(soak.Silence(n_samples).pcm_bytes()) == 2 * n_samples
