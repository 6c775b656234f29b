"""A call in virtual time whose ears and whose service are scripts; all between them is real.

The microphone is silent: what the detectors would say stands in the script, at its time. Both
ends speak of the same clock: the service's is the audio that it was sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from attrs import define

from framepipe import Pipeline
from framepipe.clock import now_ns
from framepipe.conversation.bargein import SecondStageReady
from framepipe.conversation.speaker import HeardRun
from framepipe.frames import (
    AudioIn,
    Frame,
    Interrupt,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
)
from framepipe.processor import on
from framepipe.realtime import events as wire
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.testing import run_virtual
from framepipe_processors.bargein import BargeIn
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.wav_sink import WavSink
from tests.realtime_service import Mic, Service

MS = 1_000_000
PER_MS = 24

_F = TypeVar("_F", bound=Frame)
_E = TypeVar("_E")


def edge(at_ms: int) -> tuple[int, Frame]:
    """The local detector hears something that began 20 ms ago."""
    return at_ms, SpeechStarted(source="local", onset_sample=(at_ms - 20) * PER_MS)


def quiet(at_ms: int) -> tuple[int, Frame]:
    """The local detector hears nothing any more."""
    return at_ms, SpeechStopped(source="local", end_sample=(at_ms - 150) * PER_MS)


def yes(at_ms: int, onset_ms: int) -> tuple[int, Frame]:
    """The second stage says that what began then is speech."""
    onset = onset_ms * PER_MS
    return at_ms, SpeechConfirmed(source="silero", onset_sample=onset, probability=0.95)


def no(at_ms: int, onset_ms: int) -> tuple[int, Frame]:
    """The second stage says that it is none."""
    onset = onset_ms * PER_MS
    return at_ms, SpeechRejected(source="silero", onset_sample=onset, probability=0.05)


class Ears:
    """Say what stands in the script, with the microphone audio of that moment."""

    def __init__(self, *steps: tuple[int, Frame], two: bool = True) -> None:
        self.steps = sorted(steps, key=lambda step: step[0])
        self.two = two

    @on(AudioIn)
    def listen(self, frame: AudioIn) -> Iterator[Frame]:
        if self.two and not frame.start_sample:
            yield SecondStageReady(source="silero")
        end_ms = (frame.start_sample + frame.n_samples) // PER_MS
        while self.steps and self.steps[0][0] <= end_ms:
            yield self.steps.pop(0)[1]
        yield frame


class Outside:
    """Stands above the service, for what the application says at its times."""

    def __init__(self, *steps: tuple[int, Frame]) -> None:
        self.steps = sorted(steps, key=lambda step: step[0])

    @on(AudioIn)
    def listen(self, frame: AudioIn) -> Iterator[Frame]:
        end_ms = (frame.start_sample + frame.n_samples) // PER_MS
        yield frame
        while self.steps and self.steps[0][0] <= end_ms:
            yield self.steps.pop(0)[1]


@define
class Call:
    """What became of it. Times are milliseconds since the call began."""

    frames: list[tuple[int, Frame]]
    sent: list[wire.ClientEvent]
    heard: list[HeardRun]
    service: Service
    barge_in: BargeIn

    def of(self, kind: type[_F]) -> list[_F]:
        return [frame for _, frame in self.frames if isinstance(frame, kind)]

    def when(self, kind: type[Frame]) -> list[int]:
        return [at for at, frame in self.frames if isinstance(frame, kind)]

    def sent_of(self, kind: type[_E]) -> list[_E]:
        return [event for event in self.sent if isinstance(event, kind)]

    def order(self, *kinds: type[wire.ClientEvent]) -> list[str]:
        """Names of the orders that the service got, in order."""
        return [type(event).__name__ for event in self.sent if isinstance(event, kinds)]

    def samples(self, item_id: str) -> list[tuple[int, int]]:
        """What was heard of an item, as stretches of its own samples."""
        return [
            (run.start_sample, run.start_sample + run.n_samples)
            for run in self.heard
            if run.item_id == item_id
        ]

    def lossless(self, item_id: str) -> int:
        """How many samples were heard of an item: from its first on, none lost, none twice."""
        end = 0
        for start, stop in self.samples(item_id):
            assert start == end, f"{item_id}: {self.samples(item_id)}"
            end = stop
        return end


def call(
    script: Callable[[Service], Awaitable[None]],
    *,
    ears: Ears | None = None,
    outside: Outside | None = None,
    seconds: float = 6.0,
    transcripts: bool = True,
    device_ms: int = 0,
    barge_in: BargeIn | None = None,
    sink: WavSink | None = None,
    stages: tuple[object, ...] = (),
    **options: Any,
) -> Call:
    """Hold a call.

    Args:
        script: The service.
        ears: What the detectors say.
        outside: What the application says.
        seconds: Length of the microphone audio.
        transcripts: The session asks for the user's words.
        device_ms: From the speaker's block to the ear.
        barge_in: Other than the usual one.
        sink: Other than the usual one.
        stages: Between `BargeIn` and the speaker.
        options: Of `Realtime`.
    """
    service = Service(script)
    barge_in = barge_in or BargeIn()
    sink = sink or WavSink(device_ms=device_ms)
    settings = SessionSettings(transcription=Transcription() if transcripts else None)
    realtime = Realtime(settings, key="sk-secret", seed=1, connect=service.connect, **options)
    frames: list[tuple[int, Frame]] = []
    began: list[int] = []

    def watch(what: str, stage: str, frame: Frame) -> None:
        began[:] = began or [now_ns()]
        is_cut = what == "cut" and isinstance(frame, Interrupt)
        if is_cut or (what == "emitted" and not isinstance(frame, Interrupt)):
            frames.append(((now_ns() - began[0]) // MS, frame))

    pipeline = Pipeline(
        Mic(seconds),
        ears or Ears(),
        outside or Outside(),
        realtime,
        Playout(),
        barge_in,
        *stages,
        sink,
    )
    pipeline.observe(watch)
    run_virtual(pipeline.run)
    return Call(frames, service.got, sink.heard_log, service, barge_in)


# --- what the service does ----------------------------------------------------------------------


async def hears(service: Service, start_ms: int, item_id: str, *, late_ms: int = 100) -> None:
    """It tells of speech that began then, ``late_ms`` later."""
    await service.until(wire.InputAudioBufferAppend, audio_ms=start_ms + late_ms)
    await service.send(
        wire.InputAudioBufferSpeechStarted(item_id=item_id, audio_start_ms=start_ms - 300)
    )


async def commits(service: Service, end_ms: int, item_id: str, *, silence_ms: int = 500) -> None:
    """It tells that the speech ended then, after its silence."""
    await service.until(wire.InputAudioBufferAppend, audio_ms=end_ms + silence_ms)
    await service.send(
        wire.InputAudioBufferSpeechStopped(item_id=item_id, audio_end_ms=end_ms + silence_ms),
        wire.InputAudioBufferCommitted(item_id=item_id),
    )


async def writes(service: Service, item_id: str, text: str) -> None:
    """It tells the words of a user item."""
    await service.send(wire.InputAudioTranscriptionCompleted(item_id=item_id, transcript=text))


async def says(service: Service, response_id: str, text: str) -> None:
    """It tells the words of an answer, which run ahead of the voice."""
    await service.send(
        wire.ResponseOutputAudioTranscriptDelta(
            response_id=response_id, item_id=f"A-{response_id}", delta=text
        )
    )


async def cancelled(service: Service, response_id: str) -> None:
    """It ends a response when it is told to, a moment later."""
    while not any(
        isinstance(event, wire.ResponseCancel) and event.response_id == response_id
        for event in service.got
    ):
        await service.until(wire.ResponseCancel)
    await service.until(wire.InputAudioBufferAppend, audio_ms=service.audio_ms + 100)
    await service.finish(response_id, "cancelled")


async def first_turn(
    service: Service, *, reply_ms: int = 3_000, done: bool = True, words: bool = True
) -> None:
    """The user speaks from 500 to 900 ms, and is answered at 1,500."""
    await service.greet()
    await hears(service, 500, "U1")
    await commits(service, 900, "U1")
    await service.begin("R1")
    if words:
        await writes(service, "U1", "tell me about it")
    await service.until(wire.InputAudioBufferAppend, audio_ms=1_500)
    await service.speak("R1", reply_ms)
    if done:
        await service.finish("R1")
