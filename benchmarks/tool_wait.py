"""How much later a tool with effects runs because it waits for its turn to be committed.

Whole calls in virtual time against the embedded server: the user asks for something, the model says
"One moment" and calls the tool. How long the service takes to its first sound is drawn from the
profiles of `framepipe.bench.service`. The floor is the same call without `Turns`: there the tool
runs when the model calls it.

    python -m benchmarks.tool_wait [calls of each profile]
"""

from __future__ import annotations

import math
import sys
from functools import partial

from benchmarks.measure import Figure, show
from framepipe import Frame, Pipeline, ToolCall
from framepipe.bench.service import Service
from framepipe.clock import now_ns
from framepipe.realtime.mind import Scripted, ToolUse, Words, given_words
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.realtime.tools import tool
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.testing import Pause, ScriptedUser, Speech, run_virtual
from framepipe_processors import BargeIn, LocalVad, Playout, Realtime, Turns, WavSink

SPEECH_END_MS = 1_100
VOICE = ShippedClips()


async def call(service: Service, seed: int, *, turns: bool) -> tuple[float, float]:
    """When the tool was called by the model, and when it ran: milliseconds after the last word."""
    called: list[float] = []
    ran: list[float] = []

    @tool(effects=True)
    async def book() -> str:
        """Book it."""
        ran.append(now_ns() / 1e6 - SPEECH_END_MS)
        return "booked"

    def watch(what: str, stage: str, frame: Frame) -> None:
        if what == "emitted" and isinstance(frame, ToolCall) and not called:
            called.append(now_ns() / 1e6 - SPEECH_END_MS)

    mind = Scripted([[Words(text="One moment."), ToolUse(name="book")], "It is booked."])
    settings = ServerSettings(
        mind=mind,
        ears=given_words(["please book it"]),
        voice=VOICE,
        detector=LoudWindows,
        pace=service.pace,
        seed=seed,
    )
    session = SessionSettings(transcription=Transcription())
    async with server_in_process(settings) as server:
        pipeline = Pipeline(
            ScriptedUser(Pause(500), Speech(600), Pause(5_000), block_ms=20),
            LocalVad(second_stage=False),
            Realtime(session, connect=server.connect, tools=(book,), seed=1),
            *([Turns()] if turns else []),
            Playout(),
            BargeIn(),
            WavSink(),
        )
        pipeline.observe(watch)
        await pipeline.run()
    return called[0], ran[0]


def figures(n: int = 40) -> list[Figure]:
    """What waiting adds, of ``n`` calls with each profile."""
    made: list[Figure] = []
    for service in Service:
        added: list[float] = []
        floor = 0.0
        for seed in range(n):
            called, ran = run_virtual(partial(call, service, seed, turns=True))
            added.append(ran - called)
            if not seed:
                called, ran = run_virtual(partial(call, service, seed, turns=False))
                floor = ran - called
        added.sort()
        p95 = added[math.ceil(0.95 * n) - 1]
        goals = (0.0, 400.0) if service is Service.USUAL else (None, None)
        made += [
            Figure(f"{service.value} service, without Turns", floor, "ms"),
            Figure(f"{service.value} service, added, p50", added[n // 2], "ms", goals[0]),
            Figure(f"{service.value} service, added, p95", p95, "ms", goals[1]),
        ]
    return made


if __name__ == "__main__":
    show("A tool with effects waits", figures(int(sys.argv[1]) if len(sys.argv) > 1 else 40))
