"""A scripted Realtime service over memory, for the client: what it is told and what it says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio

from framepipe import Pipeline
from framepipe.errors import TransportBroken
from framepipe.frames import NS_PER_S, AudioIn, AudioOut, Frame, Heard, Hold, Interrupt
from framepipe.processor import Emit, on
from framepipe.realtime import events as wire
from framepipe.realtime.connection import Connection, memory_pair
from framepipe.realtime.session import SessionSettings
from framepipe.testing._virtual import run_virtual
from framepipe_processors.realtime import Realtime

_Event = TypeVar("_Event")


class Mic:
    """``seconds`` of 20 ms blocks, in time."""

    def __init__(self, seconds: float, *, lost: range = range(0), rate_hz: int = 24_000) -> None:
        self.rate_hz = rate_hz
        self.n_samples = rate_hz // 50
        self.n_blocks = round(seconds * 50)
        self.lost = lost

    async def run(self, emit: Emit[AudioIn]) -> None:
        start_ns = emit.now_ns()
        for number in range(self.n_blocks):
            await emit.until(start_ns + (number + 1) * NS_PER_S // 50)
            if number not in self.lost:
                emit(
                    AudioIn(
                        pcm=bytes(2 * self.n_samples),
                        rate_hz=self.rate_hz,
                        start_sample=number * self.n_samples,
                        at_ns=emit.now_ns(),
                    )
                )


class Ear:
    """Keeps what arrives, and cuts the agent on the ``cut_at``-th piece of its audio."""

    def __init__(self, cut_at: int | None = None, onset_sample: int | None = None) -> None:
        self.frames: list[Frame] = []
        self.cut_at = cut_at
        self.onset_sample = onset_sample
        self.n_audio = 0

    @on(Frame)
    def keep(self, frame: Frame) -> list[Frame]:
        self.frames.append(frame)
        if not isinstance(frame, AudioOut):
            return []
        self.n_audio += 1
        if self.n_audio != self.cut_at:
            return []
        account = Heard(
            item_id=frame.item_id,
            content_index=0,
            heard_samples=frame.start_sample,
            received_samples=frame.start_sample + frame.n_samples,
            final=True,
        )
        cut = Interrupt(turn=frame.turn, onset_sample=self.onset_sample, heard=(account,))
        return [Hold(), cut]

    def of(self, kind: type[_Event]) -> list[_Event]:
        return [frame for frame in self.frames if isinstance(frame, kind)]


class Service:
    """The other end of the wire: a script that is played anew on every socket."""

    def __init__(self, script: Callable[[Service], Awaitable[None]]) -> None:
        self.script = script
        self.got: list[wire.ClientEvent] = []
        self.got_on: list[list[wire.ClientEvent]] = []
        self.audio_ms = 0
        self.url = ""
        self.n_sockets = 0
        self.headers: Mapping[str, str] = {}

    @asynccontextmanager
    async def connect(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[Connection, None]:
        self.url, self.headers = url, headers
        ours, theirs = memory_pair()
        self.n_sockets += 1
        self.audio_ms = 0
        self.got = []
        self.got_on.append(self.got)
        self.connection = theirs
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.play)
            try:
                yield ours
            finally:
                await ours.aclose()
                tasks.cancel_scope.cancel()
        await theirs.aclose()

    async def play(self) -> None:
        with suppress(TransportBroken):  # the client has left
            await self.script(self)

    async def send(self, *events: wire.ServerEvent) -> None:
        for event in events:
            await self.connection.send(wire.encode(event))

    async def greet(self) -> None:
        await self.send(wire.SessionCreated(session=wire.Session()))
        update = await self.until(wire.SessionUpdate)
        await self.send(wire.SessionUpdated(session=update.session))

    async def until(self, kind: type[_Event], audio_ms: int = 0) -> _Event:
        """Read until an event of this kind, and until so much audio has come."""
        while True:
            event = wire.decode_client(await self.connection.receive())
            self.got.append(event)
            if isinstance(event, wire.InputAudioBufferAppend):
                self.audio_ms += len(wire.decode_audio(event.audio)) // 48
            if isinstance(event, kind) and self.audio_ms >= audio_ms:
                return event

    async def read_on(self) -> None:
        await self.until(wire.OutputAudioBufferClear)  # which never comes

    async def user_turn(self, start_ms: int, end_ms: int, item_id: str = "U1") -> None:
        await self.until(wire.InputAudioBufferAppend, audio_ms=start_ms + 100)
        await self.send(
            wire.InputAudioBufferSpeechStarted(item_id=item_id, audio_start_ms=start_ms - 300)
        )
        await self.until(wire.InputAudioBufferAppend, audio_ms=end_ms + 500)
        await self.send(
            wire.InputAudioBufferSpeechStopped(item_id=item_id, audio_end_ms=end_ms + 500),
            wire.InputAudioBufferCommitted(item_id=item_id),
        )

    async def begin(self, response_id: str, **metadata: str) -> None:
        response = wire.Response(id=response_id, conversation_id="c", metadata=metadata or None)
        await self.send(wire.ResponseCreated(response=response))

    async def speak(self, response_id: str, ms: int = 200) -> None:
        await self.send(
            wire.ResponseOutputAudioDelta(
                response_id=response_id,
                item_id=f"A-{response_id}",
                delta=wire.encode_audio(bytes(ms * 48)),
            )
        )

    async def hang_up(self, code: int = 1001) -> None:
        await self.connection.aclose(code, "on purpose")

    async def finish(self, response_id: str, status: str = "completed") -> None:
        response = wire.Response(id=response_id, status=status, conversation_id="c")
        await self.send(wire.ResponseDone(response=response))


def call(
    script: Callable[[Service], Awaitable[None]],
    *,
    mic: Mic | None = None,
    ear: Ear | None = None,
    settings: SessionSettings | None = None,
    **options: Any,
) -> tuple[Service, Ear]:
    """One whole call in virtual time."""
    service, ear = Service(script), ear or Ear()
    stage = Realtime(
        settings or SessionSettings(), key="sk-secret", seed=1, connect=service.connect, **options
    )
    run_virtual(Pipeline(mic or Mic(3.0), stage, ear).run)
    return service, ear


async def one_turn(service: Service) -> None:
    await service.greet()
    await service.user_turn(500, 1_500)
    await service.begin("R1")
    await service.speak("R1")
    await service.finish("R1")
    await service.read_on()
