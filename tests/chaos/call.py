"""One call in which one fault strikes at one moment, and what has to be true of it after."""

from __future__ import annotations

import asyncio
import errno
import io
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import anyio
import numpy as np
from attrs import evolve, frozen

from framepipe import Pipeline
from framepipe.clock import now_ns
from framepipe.errors import FramepipeError, ProcessorError
from framepipe.frames import ConnectionState, Frame, Interrupt, Problem
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.mind import Scripted, ToolUse
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.server_protocol import Truncation
from framepipe.realtime.tools import tool
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.testing import Held
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.wav_sink import WavSink
from tests.chaos.weather import FAULTS, MOMENTS, ChaosMic, JumpyLoop, Weather, asyncio_later

LONGEST_S = 300.0
"""Virtual time in which every call must have come to an end, one way or the other."""

_VOICE = ShippedClips()


def _mic_pcm() -> bytes:
    """Two turns, an interruption between them, and silence in which no block is like another."""
    acts = [(800, 0), (1_000, 1), (2_400, 0), (600, 1), (4_200, 0), (600, 1), (3_000, 0)]
    random = np.random.default_rng(7)
    pieces = [
        (random.standard_normal(24 * ms) * (3_000 if loud else 3)).astype("<i2")
        for ms, loud in acts
    ]
    return b"".join(piece.tobytes() for piece in pieces)


MIC_PCM = _mic_pcm()


@tool(time_limit_s=5)
async def lookup(city: str = "Bern") -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    await anyio.sleep(1)
    return f"rain in {city}"


class _Disk(io.BytesIO):
    """A file on a disk that can be full."""

    def __init__(self, weather: Weather) -> None:
        super().__init__()
        self._weather = weather

    def write(self, data: Any, /) -> int:
        if self._weather.disk_is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@frozen(kw_only=True)
class Outcome:
    """What became of a call.

    Attributes:
        struck: The fault did strike.
        error: With which the call ended, or ``None``.
        held: What was heard, cut and truncated.
        problems: Their codes, and how many milliseconds of audio each reports.
        unaccounted_ms: Microphone audio that reached no server and that nobody reported.
        left: What was still there afterwards: tasks, threads, files, connections.
        took_s: Virtual seconds.
        ended_unaware: The call was over before the client noticed that the line was lost.
    """

    struck: bool
    error: FramepipeError | None
    held: Held
    problems: tuple[str, ...]
    unaccounted_ms: float
    left: tuple[str, ...]
    took_s: float
    ended_unaware: bool


def hold(fault: str, moment: str, seed: int = 0) -> Outcome:
    """Hold the call in virtual time."""
    threads, files = set(threading.enumerate()), _open_files()
    outcome = anyio.run(_hold, fault, moment, seed, backend_options={"loop_factory": JumpyLoop})
    left = [
        *(f"thread {thread.name}" for thread in set(threading.enumerate()) - threads),
        *(f"file {name}" for name in _open_files() - files),
    ]
    return evolve(outcome, left=(*outcome.left, *left))


def _open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return set()
    found: set[str] = set()
    for entry in folder.iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except OSError:
            continue  # the listing itself
    return found


async def _hold(fault: str, moment: str, seed: int) -> Outcome:
    when = MOMENTS[moment]
    struck, struck_s = False, 0.0
    cuts: list[tuple[int, int]] = []
    frames: list[tuple[int, str, Frame]] = []
    before = asyncio.all_tasks()
    settings = ServerSettings(
        mind=Scripted([4_000, [ToolUse(name="lookup", arguments='{"city": "Bern"}')], 1_500]),
        voice=_VOICE,
        detector=LoudWindows,
        pace=Pace(first_audio_ms=(250, 250), generation_speed=(8, 8), cancel_latency_ms=150),
        seed=seed,
    )
    error: FramepipeError | None = None
    async with server_in_process(settings) as server:
        weather = Weather(server.connect, seed)
        realtime = Realtime(connect=weather.connect, tools=(lookup,), seed=seed)
        speaker = WavSink(_Disk(weather), block_ms=10)
        pipeline = Pipeline(
            ChaosMic(MIC_PCM, weather),
            LocalVad(second_stage=False),
            realtime,
            Playout(),
            BargeIn(),
            speaker,
        )

        def strike() -> None:
            nonlocal struck_s
            struck_s = anyio.current_time()
            FAULTS[fault](weather)

        def watch(what: str, stage: str, frame: Frame) -> None:
            nonlocal struck
            if what == "cut" and isinstance(frame, Interrupt) and frame.turn:
                cuts.append((now_ns(), frame.turn))
            elif what == "emitted":
                frames.append((now_ns(), stage, frame))
            if not struck and when.moment(what, stage, frame):
                struck = True
                asyncio_later(when.after_s, strike)

        def lose_first(what: str, stage: str, frame: Frame) -> None:
            if MOMENTS["agent-speaks"].moment(what, stage, frame):
                stop_losing()
                asyncio_later(0.5, weather.lose)

        pipeline.observe(watch)
        stop_losing = pipeline.observe(lose_first) if when.loses_first else (lambda: None)
        began_s = anyio.current_time()
        with anyio.fail_after(LONGEST_S):
            try:
                await pipeline.run()
            except ProcessorError as failure:
                error = failure
        took_s = anyio.current_time() - began_s
        truncations: list[Truncation] = [
            cut for session in server.sessions for cut in session.truncations
        ]
        # The server's own tasks notice the goodbye in their own time.
        await anyio.sleep(1)
    left = [f"task {task.get_name()}" for task in asyncio.all_tasks() - before]
    left += ["a connection"] * weather.open_lines
    problems = [frame for _, _, frame in frames if isinstance(frame, Problem)]
    return Outcome(
        struck=struck,
        error=error,
        held=Held(
            device_ms=0,
            cuts=tuple(cuts),
            heard=tuple(speaker.heard_log),
            truncations=tuple(truncations),
            frames=tuple(frames),
        ),
        problems=tuple(problem.code for problem in problems),
        unaccounted_ms=_missing_ms(weather.appended) - sum(map(_reported_ms, problems)),
        left=tuple(left),
        took_s=took_s,
        ended_unaware=not any(
            isinstance(frame, ConnectionState)
            and frame.state == "reconnecting"
            and at_ns >= round(struck_s * 1e9)
            for at_ns, _, frame in frames
        ),
    )


def _reported_ms(problem: Problem) -> float:
    ms = float(problem.message.split()[0]) if problem.code.startswith("audio_") else 0.0
    # Of an overlap it is said how far it reaches back; a block is all that can be dropped.
    return min(ms, 10.0) if problem.code == "audio_overlap" else ms


def _missing_ms(streams: Sequence[bytearray]) -> float:
    """Milliseconds of the microphone that are in no stream, block by block."""
    size = 480
    blocks = [MIC_PCM[at : at + size] for at in range(0, len(MIC_PCM), size)]
    missing = set(range(len(blocks)))
    place = {block: number for number, block in enumerate(blocks)}
    for stream in streams:
        for first in range(min(size, len(stream))):  # where its blocks begin, whatever came before
            number = place.get(bytes(stream[first : first + size]))
            if number is not None:
                break
        missing -= _blocks_in(bytes(stream), place, size)
    return 10.0 * len(missing)


def _blocks_in(stream: bytes, place: dict[bytes, int], size: int) -> set[int]:
    found: set[int] = set()
    at = 0
    while at + size <= len(stream):
        number = place.get(stream[at : at + size])
        if number is None:
            at += 2
        else:
            found.add(number)
            at += size
    return found


def cells(seed: int, n: int | None = None) -> list[tuple[str, str]]:
    """Pairs of a fault and a moment: all of them, or ``n`` in which each of both occurs."""
    pairs = [(fault, moment) for fault in FAULTS for moment in MOMENTS]
    if n is None:
        return pairs
    chance = Random(seed)
    moments = list(MOMENTS)
    chance.shuffle(moments)
    chosen = [(fault, moments[i % len(moments)]) for i, fault in enumerate(FAULTS)]
    rest = [pair for pair in pairs if pair not in chosen]
    chance.shuffle(rest)
    return (chosen + rest)[:n]
