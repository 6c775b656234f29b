"""How many sessions one embedded server carries at the speed of speech.

    python -m benchmarks.sessions [--sessions 200] [--seconds 20] [--append-ms 100] [--servers 2]

Every client is a socket that appends speech in real time, a sentence and then a pause, and reads
all that is answered. The clients run in a process of their own. A server takes one core at most,
so several servers, each a process with its port, can share the sessions.

What counts: whether the servers keep up. One that does not notices speech later and later, so each
client measures, for every turn, the time from the append that held the last sample of the audio
that closed the turn to ``speech_stopped``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio

from benchmarks.measure import Figure, show
from framepipe.audio import silence
from framepipe.realtime.connection import connect
from framepipe.realtime.events import encode_audio
from framepipe.realtime.voice import ShippedClips

_CLIPS = ShippedClips()
_BETWEEN_CALLS_S = 0.03
"""People do not call in the same millisecond."""

_SERVER = """
import resource, signal
from functools import partial
import anyio
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import ServerSettings, serve

async def main():
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            port = await tasks.start(partial(serve, ServerSettings(mind=Talk(2_000)), port=0))
            print(port, flush=True)
            async for _ in signals:
                tasks.cancel_scope.cancel()
anyio.run(main)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, flush=True)
"""


async def _client(
    url: str, nth: int, until: float, append_ms: int, always: bool, late_ms: list[float]
) -> int:
    """One user; returns how many turns were answered."""
    sentence = _CLIPS.clips[nth % len(_CLIPS.clips)].pcm
    stream = sentence + (_CLIPS.talk(2_000).pcm if always else silence(24 * 2_000))
    appended_at: list[float] = []
    answered = 0

    async with connect(url, {}) as connection, anyio.create_task_group() as tasks:

        async def listen() -> None:
            nonlocal answered
            while True:
                event: Any = json.loads(await connection.receive())
                if event["type"] == "input_audio_buffer.speech_stopped":
                    held_in = -(-int(event["audio_end_ms"]) // append_ms) - 1
                    late_ms.append((anyio.current_time() - appended_at[held_in]) * 1e3)
                answered += event["type"] == "response.done"

        tasks.start_soon(listen)
        at, place, size = anyio.current_time(), 0, 48 * append_ms
        while at < until:
            piece = (stream[place:] + stream)[:size]
            place = (place + size) % len(stream)
            at += append_ms / 1000
            await anyio.sleep(max(0.0, at - anyio.current_time()))
            text = json.dumps({"type": "input_audio_buffer.append", "audio": encode_audio(piece)})
            appended_at.append(anyio.current_time())
            await connection.send(text)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    return answered


async def _clients(
    urls: list[str], sessions: int, seconds: float, append_ms: int, always: bool
) -> tuple[list[float], int]:
    late_ms: list[float] = []
    turns: list[int] = []
    until = anyio.current_time() + sessions * _BETWEEN_CALLS_S + seconds

    async def one(nth: int) -> None:
        await anyio.sleep(nth * _BETWEEN_CALLS_S)
        turns.append(await _client(urls[nth % len(urls)], nth, until, append_ms, always, late_ms))

    async with anyio.create_task_group() as tasks:
        for nth in range(sessions):
            tasks.start_soon(one, nth)
    return late_ms, sum(turns)


def measure(
    sessions: int, seconds: float, append_ms: int, servers: int, *, always: bool
) -> list[Figure]:
    """Serve so many sessions for so long, and say what it cost."""
    folder = Path(__file__).parents[1]
    program = [sys.executable, "-c", _SERVER]
    running = [
        subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=folder)
        for _ in range(servers)
    ]
    urls = [f"ws://127.0.0.1:{int(_line(server))}/v1/realtime" for server in running]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = peak_mb = 0.0
    try:
        late_ms, answered = anyio.run(_clients, urls, sessions, seconds, append_ms, always)
    finally:
        for server in running:
            server.terminate()
            used_s, used_mb = map(float, _line(server).split())
            cpu_s, peak_mb = cpu_s + used_s, peak_mb + used_mb
            server.wait()
    took_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    clients_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    late_ms.sort()
    return [
        Figure("sessions", sessions, ""),
        Figure("turns that ended", len(late_ms), ""),
        Figure("responses that were done", answered, ""),
        Figure("speech_stopped after its audio, median", statistics.median(late_ms), "ms"),
        Figure("speech_stopped after its audio, p99", late_ms[len(late_ms) * 99 // 100], "ms", 200),
        Figure("servers, CPU of one core", 100 * cpu_s / took_s, "%"),
        Figure("servers, CPU per session and second", 1e3 * cpu_s / (sessions * seconds), "ms"),
        Figure("servers, memory at most", peak_mb, "MB"),
        Figure("clients, CPU of one core", 100 * clients_s / took_s, "%"),
        Figure("load of the machine", os.getloadavg()[0], ""),
    ]


def _line(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline()


def figures() -> list[Figure]:
    """200 sessions for a while."""
    return measure(200, 15, 100, 2, always=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--append-ms", type=int, default=100)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--always", action="store_true", help="everybody speaks without a pause")
    asked = parser.parse_args()
    show(
        f"{asked.sessions} sessions, {asked.servers} servers, appends of {asked.append_ms} ms",
        measure(asked.sessions, asked.seconds, asked.append_ms, asked.servers, always=asked.always),
    )


if __name__ == "__main__":
    main()
