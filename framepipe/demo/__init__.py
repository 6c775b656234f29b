"""The demo: one recorded user, one embedded server, two interruptions and a cough.

Nothing is faked for it: the same processors, protocol and detectors that run in a real call, the
server on a real WebSocket on this machine, or, with ``fast``, in memory and in virtual time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
from attrs import field, frozen

from framepipe import (
    AudioIn,
    Frame,
    Interrupt,
    InterruptionReport,
    Mute,
    Pipeline,
    SpeechStarted,
    Unmute,
)
from framepipe.clock import now_ns
from framepipe.demo.stereo import write_stereo
from framepipe.errors import FrameError
from framepipe.frames import NS_PER_S
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.connection import Connect, connect
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import ServerSettings, serve, server_in_process
from framepipe.realtime.session import SessionSettings
from framepipe.recorder.trace import Trace
from framepipe.testing import run_virtual
from framepipe.wav import WavReader
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.wav_sink import WavSink
from framepipe_processors.wav_source import WavSource

USER_WAV = Path(__file__).with_name("user.wav")
"""The user who comes with framepipe; ``scripts/make_demo_user.py`` made it."""

ANSWER_MS = 7_000
"""Each answer, so that the shipped user's later sentences fall into one."""

GENERATION_SPEED = (1.7, 2.0)
"""Slower than the service (8 to 12), so that the first interruption meets a response that is still
being made and must be cancelled; the second one meets audio that only plays."""

TAIL_MS = 1_500
"""Silence after the recording: the server must hear that the user has finished."""


@frozen
class DemoResult:
    """What the demo leaves behind.

    Attributes:
        reports: One account for each interruption.
        wav: Left the user, right what was heard of the agent.
        trace: Everything that happened, as JSON lines.
    """

    reports: tuple[InterruptionReport, ...]
    wav: Path
    trace: Path


@frozen
class _Watcher:
    """Tells the story as it happens, and keeps the reports."""

    tell: Callable[[str], None]
    progress: Callable[[float], None]
    reports: list[InterruptionReport] = field(factory=list[InterruptionReport])
    began_ns: int = field(factory=now_ns)

    def __call__(self, what: str, stage: str, frame: Frame) -> None:
        if what == "cut" and isinstance(frame, Interrupt):
            self._say(f"agent cut, confirmed by the {frame.cause}")
        elif what != "emitted":
            return
        elif isinstance(frame, InterruptionReport):
            self.reports.append(frame)
        elif isinstance(frame, AudioIn) and stage.startswith("WavSource"):
            self.progress(frame.start_sample / frame.rate_hz)
        elif isinstance(frame, SpeechStarted):
            self._say(f"the {frame.source} detector hears speech")
        elif isinstance(frame, Mute):
            self._say("agent muted")
        elif isinstance(frame, Unmute):
            self._say("not confirmed: the agent goes on with the very next sample")

    def _say(self, words: str) -> None:
        self.tell(f"{(now_ns() - self.began_ns) / NS_PER_S:7.3f} s  {words}")


def run_demo(
    *,
    user: Path = USER_WAV,
    out: Path = Path("out"),
    fast: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    progress: Callable[[float], None] = lambda _: None,
) -> DemoResult:
    """Run the demo conversation.

    Args:
        user: The user's recording: 16-bit mono WAV.
        out: Folder for the results; made if it is not there.
        fast: In virtual time and in memory, as fast as the machine can.
        tell: Is told, line by line, what happens.
        progress: Is told how many seconds of the recording have been played.

    Raises:
        FrameError: The recording cannot be used, or the folder cannot be written.
        ProcessorError: The conversation failed.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FrameError(f"{out}: {error.strerror}; choose another folder with --out") from error
    source = WavSource(user, block_ms=10, tail_ms=TAIL_MS)
    run = run_virtual if fast else anyio.run
    return run(_converse, source, user, out, fast, tell, progress)


def user_seconds(user: Path) -> float:
    """Length of a recording and of the silence after it.

    Raises:
        FrameError: It cannot be used.
    """
    with WavReader(user) as wav:
        return wav.n_samples / wav.rate_hz + TAIL_MS / 1000


@asynccontextmanager
async def _server(*, fast: bool) -> AsyncGenerator[tuple[str, Connect], None]:
    settings = ServerSettings(mind=Talk(ANSWER_MS), pace=Pace(generation_speed=GENERATION_SPEED))
    settings.voice.talk(ANSWER_MS)  # espeak-ng takes a moment, which would make the first mute late
    if fast:
        async with server_in_process(settings) as server:
            yield "ws://127.0.0.1/v1/realtime", server.connect
        return
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(partial(serve, settings, port=0))
        yield f"ws://127.0.0.1:{port}/v1/realtime", connect
        tasks.cancel_scope.cancel()


async def _converse(
    source: WavSource,
    user: Path,
    out: Path,
    fast: bool,
    tell: Callable[[str], None],
    progress: Callable[[float], None],
) -> DemoResult:
    heard_wav, trace_file = out / "heard.wav", out / "trace.jsonl"
    async with _server(fast=fast) as (url, connect_to):
        pipeline = Pipeline(
            source,
            LocalVad(),
            Realtime(SessionSettings(), url=url, connect=connect_to),
            Playout(),
            BargeIn(),
            WavSink(heard_wav),
        )
        watcher = _Watcher(tell, progress)
        with Trace(trace_file, now_ns) as trace:
            pipeline.observe(trace)
            pipeline.observe(watcher)
            await pipeline.run()
    wav = out / "conversation.wav"
    write_stereo(wav, user, heard_wav)
    return DemoResult(tuple(watcher.reports), wav, trace_file)
