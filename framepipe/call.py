"""A whole call from files: the way to check a server, a setting or a fault from a script.

The microphone file is played once and as it is, at the speed of speech, and followed by silence,
as a microphone is. The speaker file begins with the call and holds what was heard of the agent,
silence included, so that the two can be laid side by side. However the call ends, both it and the
trace are complete up to that moment.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
from anyio.abc import TaskStatus
from attrs import define, field, frozen

from framepipe import (
    AudioIn,
    ConnectionState,
    Emit,
    Frame,
    Interrupt,
    InterruptionReport,
    Pipeline,
    Played,
    Problem,
    Transcript,
    on,
)
from framepipe.audio import silence
from framepipe.clock import now_ns
from framepipe.errors import FrameError, TransportBroken, only_error
from framepipe.frames import NS_PER_S
from framepipe.realtime.address import OPENAI_MODEL
from framepipe.realtime.connection import Connect, connect
from framepipe.realtime.session import SessionSettings
from framepipe.recorder.trace import Trace
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.mic_gate import MicGate
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.wav_sink import WavSink
from framepipe_processors.wav_source import WavSource

UNTIL_SILENT_S = 3.0
"""Silence of the agent after the recording that ends a call which has no other end: longer than
the end of a turn (0.5 s) and the wait for an answer (up to 2 s) together."""

BLOCK_MS = 20
"""Length of a block of the microphone."""


@frozen(kw_only=True)
class CallSettings:
    """A call from files.

    Attributes:
        url: Where the service is; ``None`` is OpenAI.
        mic: The user's recording: 16-bit mono WAV. At 24 kHz its samples are sent as they are.
        speaker: File for what was heard; overwritten.
        until_silent_s: Seconds without a sound of the agent, after the recording, that end it.
        seconds: Length of the call, whatever happens in it. Goes before ``until_silent_s``.
        trace: File for everything that happened, as JSON lines.
        model: Goes into the URL, unless that names one.
        key: ``None`` takes it from the environment.
        greeting: What the agent says first.
        session: What the session shall be.
        gate: The recording holds the agent's own voice, as a loudspeaker makes it: a `MicGate`
            keeps that from the service, so the recording is not sent as it is.
        connect: Makes the connection.

    Raises:
        FrameError: A length is not positive.
    """

    mic: Path
    speaker: Path
    url: str | None = None
    until_silent_s: float = UNTIL_SILENT_S
    seconds: float | None = None
    trace: Path | None = None
    model: str = OPENAI_MODEL
    key: str | None = field(default=None, repr=False)
    greeting: str | None = None
    session: SessionSettings = SessionSettings()  # noqa: RUF009 - frozen
    gate: bool = False
    connect: Connect = connect

    def __attrs_post_init__(self) -> None:
        for name, value in (("seconds", self.seconds), ("until_silent_s", self.until_silent_s)):
            if value is not None and not value > 0:
                raise FrameError(f"{name} is {value}; it must be more than 0")


@frozen
class CallResult:
    """What became of a call.

    Attributes:
        reports: One account for each interruption.
        problems: Errors that did not end it.
        stopped: Somebody stopped it by a signal.
        seconds: How long it lasted.
    """

    reports: tuple[InterruptionReport, ...]
    problems: tuple[Problem, ...]
    stopped: bool
    seconds: float


class CallMic:
    """A recording, then silence until the agent has been silent for a while.

    Args:
        path: The recording.
        until_silent_s: As in `CallSettings`.
        is_endless: The call has another end.
    """

    def __init__(self, path: Path, until_silent_s: float, *, is_endless: bool) -> None:
        self._recording = WavSource(path, block_ms=BLOCK_MS)
        self._quiet_ns = round(until_silent_s * NS_PER_S)
        self._is_endless = is_endless
        self._heard_ns = 0
        self._played_samples = 0
        self.rate_hz = self._recording.rate_hz
        self.made_rates_hz = self._recording.made_rates_hz

    def attach(self, emit: Emit[AudioIn]) -> None:
        """Keep the way to the time."""
        self._emit = emit

    @on(Played)
    def listen(self, frame: Played) -> Played:
        """Something of the agent was heard."""
        if frame.played_samples > self._played_samples:
            self._played_samples = frame.played_samples
            self._heard_ns = self._emit.now_ns()
        return frame

    async def run(self, emit: Emit[AudioIn]) -> None:
        """Emit block by block, each at its time. Cancellation leaves no file open."""
        start_ns = emit.now_ns()
        await self._recording.run(emit)
        self._heard_ns = max(self._heard_ns, emit.now_ns())
        position = self._recording.n_samples
        n_samples = self.rate_hz * BLOCK_MS // 1_000
        while self._is_endless or emit.now_ns() < self._heard_ns + self._quiet_ns:
            captured_ns = start_ns + (position + n_samples) * NS_PER_S // self.rate_hz
            while not await emit.until(captured_ns):
                pass
            emit(
                AudioIn(
                    pcm=silence(n_samples),
                    rate_hz=self.rate_hz,
                    start_sample=position,
                    at_ns=captured_ns,
                )
            )
            position += n_samples


@define
class _Watcher:
    """Tells the story as it happens, and keeps the accounts."""

    tell: Callable[[str], None]
    began_ns: int = field(factory=now_ns)
    reports: list[InterruptionReport] = field(factory=list[InterruptionReport])
    problems: list[Problem] = field(factory=list[Problem])
    was_open: bool = False

    def __call__(self, what: str, stage: str, frame: Frame) -> None:
        if what == "cut" and isinstance(frame, Interrupt):
            self._say(f"the agent is cut ({frame.cause})")
        elif what != "emitted":
            return
        elif isinstance(frame, Transcript):
            if frame.final and not frame.estimate:
                self._say(f"{frame.who}: {frame.text}")
        elif isinstance(frame, ConnectionState):
            self.was_open = self.was_open or frame.state == "open"
            self._say(": ".join(filter(None, (frame.state, frame.reason))))
        elif isinstance(frame, Problem):
            self.problems.append(frame)
            self._say(f"problem: {frame.code}: {frame.message}")
        elif isinstance(frame, InterruptionReport):
            self.reports.append(frame)

    def _say(self, words: str) -> None:
        self.tell(f"{(now_ns() - self.began_ns) / NS_PER_S:8.3f} s  {words}")


def run_call(settings: CallSettings, tell: Callable[[str], None] = lambda _: None) -> CallResult:
    """Hold a call, in real time. SIGINT and SIGTERM end it with everything written.

    Args:
        settings: What the call is.
        tell: Is told, line by line, what happens.

    Raises:
        FrameError: The recording cannot be used, the speaker file cannot be written, or two of
            the files are the same.
        TraceError: The trace cannot be written.
        ProcessorError: The call failed.
        TransportBroken: It was over before a session was open.
    """
    return anyio.run(hold_call, settings, tell)


async def hold_call(
    settings: CallSettings, tell: Callable[[str], None] = lambda _: None
) -> CallResult:
    """As `run_call`, in a loop that runs. Signals are the caller's, unless it is the main thread's.

    Cancellation leaves both files complete up to that moment.
    """
    _refuse_one_file_twice(settings)
    mic = CallMic(settings.mic, settings.until_silent_s, is_endless=settings.seconds is not None)
    gate = (MicGate(),) if settings.gate else ()
    pipeline = Pipeline(
        mic,
        LocalVad(),
        *gate,
        Realtime(
            settings.session,
            url=settings.url,
            model=settings.model,
            key=settings.key,
            greeting=settings.greeting,
            connect=settings.connect,
        ),
        Playout(),
        BargeIn(),
        WavSink(settings.speaker),
    )
    watcher = _Watcher(tell)
    pipeline.observe(watcher)
    stop = _Stop()
    try:
        with ExitStack() as files:
            if settings.trace is not None:
                pipeline.observe(files.enter_context(Trace(settings.trace, now_ns)))
            async with anyio.create_task_group() as tasks:
                await tasks.start(stop.on_signal)
                with stop.scope, anyio.move_on_after(settings.seconds):
                    await pipeline.run()
                tasks.cancel_scope.cancel()
    except ExceptionGroup as group:
        error = only_error(group)
        raise error from error.__cause__  # a stage's own error stays the cause
    seconds = (now_ns() - watcher.began_ns) / NS_PER_S
    if settings.seconds is not None:
        seconds = min(seconds, settings.seconds)  # the goodbye of a dead line is no part of it
    if not (watcher.was_open or stop.signalled):
        raise TransportBroken(
            f"no session was open when the call was over after {seconds:.1f} s: the "
            "service is not there, or it is slow; give the call more seconds"
        )
    return CallResult(tuple(watcher.reports), tuple(watcher.problems), stop.signalled, seconds)


def _refuse_one_file_twice(settings: CallSettings) -> None:
    """Before anything is opened for writing, or the recording would be lost."""
    named = {"mic": settings.mic, "speaker": settings.speaker, "trace": settings.trace}
    taken: dict[Path, str] = {}
    for name, path in named.items():
        if path is None:
            continue
        first = taken.setdefault(path.resolve(), name)
        if first != name:
            raise FrameError(
                f"{path} is {first} and {name}; one would overwrite the other, choose another file"
            )


class _Stop:
    """Ends a scope when a signal comes; where there are no signals, never."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.signalled = False

    async def on_signal(self, *, task_status: TaskStatus[None]) -> None:
        try:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for _ in signals:
                    self.signalled = True
                    self.scope.cancel()
        except (NotImplementedError, ValueError, RuntimeError):
            task_status.started()  # Windows, or not the main thread
