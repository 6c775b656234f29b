"""What can go wrong in a call, and when: the line, the service, the clock, the disk.

A `Weather` stands between a client and the embedded server. It passes messages on until a fault
of `FAULTS` strikes, and writes down what was said to whom. The moments at which one may strike
are `MOMENTS`, one for each state of a conversation.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Final, TypeAlias

import anyio
from attrs import define, field

from framepipe.errors import TransportBroken, TransportError
from framepipe.frames import (
    AudioIn,
    ConnectionState,
    End,
    Frame,
    Mute,
    ReplyReady,
    SpeechStarted,
    SpeechStopped,
    ToolCall,
)
from framepipe.processor import Emit
from framepipe.realtime import events as wire
from framepipe.realtime.connection import Connect, Connection, HandshakeRefused, memory_pair
from framepipe.testing import VirtualLoop

PING_LIMIT_S: Final = 20.0
"""After so long a silent line is noticed: ten seconds to the ping, ten for its answer."""

SILENT: Final = frozenset({"half-open"})
"""Faults of which a client knows nothing before `PING_LIMIT_S`: a dead line says nothing, and
what was sent has no acknowledgement. A call that ends sooner cannot report what it cannot know."""

OPEN_LIMIT_S: Final = 10.0
"""After so long a handshake without an answer is given up."""


LINGER_S: Final = 60.0
"""How long the line still carries what was sent before a goodbye."""


class JumpyLoop(VirtualLoop):
    """Virtual time that can jump, as it does for a machine that was asleep."""

    def jump(self, seconds: float) -> None:
        """Be later at once."""
        self._now_s += seconds


@define
class Lane:
    """One direction of the line.

    Attributes:
        delay_s: From sending to arriving.
        jitter_s: Up to so much on top; the order stays.
        pause_s: Between two messages that arrive: a slow reader.
        stopped_until_s: Nothing arrives before this time.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    pause_s: float = 0.0
    stopped_until_s: float = 0.0


class Weather:
    """The line between a client and its server, and what became of it.

    Args:
        connect: To the server.
        seed: Of the jitter.

    Attributes:
        up: Towards the server.
        down: Towards the client.
        refusals: Handshakes that will fail, oldest first.
        open_lines: Connections that are not closed.
        appended: Microphone audio that reached the server, a stream for each connection.
        mic_jump_samples: The microphone's clock jumps so far with its next block.
        mic_stalled_until_s: The microphone captures nothing before this time.
        disk_is_full: Nothing can be written any more.
    """

    def __init__(self, connect: Connect, seed: int = 0) -> None:
        self._connect = connect
        self._chance = Random(seed)
        self.up, self.down = Lane(), Lane()
        self.refusals: deque[Callable[[], TransportBroken]] = deque()
        self.open_lines = 0
        self.appended: list[bytearray] = []
        self.mic_jump_samples = 0
        self.mic_stalled_until_s = 0.0
        self.disk_is_full = False
        self.response_id, self.item_id = "resp_none", "item_none"
        self._ends: tuple[Connection, Connection] | None = None
        self._injected: deque[str] = deque()
        self._news = anyio.Event()

    # --- what faults do ---------------------------------------------------------------------------

    def now_s(self) -> float:
        """Virtual time in seconds."""
        return anyio.current_time()

    def inject(self, *texts: str) -> None:
        """The service says something of its own."""
        self._injected.extend(texts)
        self._ring()

    def lose(self, code: int = 1006) -> None:
        """The connection is gone, for both sides."""
        if self._ends is not None:
            for end in self._ends:
                # Closing a memory connection waits for nothing.
                closing = end.aclose(code, "chaos")
                with suppress(StopIteration):
                    closing.send(None)

    def _ring(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    # --- the line ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def connect(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[Connection, None]:
        """As `framepipe.realtime.connection.connect`."""
        if self.refusals:
            refusal = self.refusals.popleft()()
            if not isinstance(refusal, HandshakeRefused):
                await anyio.sleep(OPEN_LIMIT_S)
            raise refusal
        async with self._connect(url, headers) as far, anyio.create_task_group() as tasks:
            near, peer = memory_pair()
            self.open_lines += 1
            self._ends = (peer, far)
            stream = bytearray()
            self.appended.append(stream)
            tasks.start_soon(self._inject_into, peer)
            try:
                async with anyio.create_task_group() as carriers:
                    carriers.start_soon(self._carry, peer, far, self.up, stream)
                    carriers.start_soon(self._carry, far, peer, self.down, None)
                    try:
                        yield near
                    finally:
                        # What was sent before the goodbye still arrives, as it does with TCP.
                        await near.aclose()
                        carriers.cancel_scope.deadline = self.now_s() + LINGER_S
            finally:
                self.open_lines -= 1
                tasks.cancel_scope.cancel()

    async def _carry(
        self, source: Connection, target: Connection, lane: Lane, stream: bytearray | None
    ) -> None:
        waiting: deque[tuple[float, str]] = deque()
        news = anyio.Event()
        last_s = 0.0
        is_over = False

        async def read() -> None:
            nonlocal news, last_s
            while True:
                text = await source.receive()
                jitter_s = self._chance.uniform(0, lane.jitter_s)
                last_s = max(last_s, self.now_s() + lane.delay_s + jitter_s)
                waiting.append((last_s, text))
                news.set()

        async def write() -> None:
            nonlocal news
            while True:
                while not waiting:
                    if is_over:
                        return
                    news = anyio.Event()
                    await news.wait()
                due_s, text = waiting[0]
                await anyio.sleep_until(max(due_s, lane.stopped_until_s))
                if self.now_s() < lane.stopped_until_s:
                    continue  # it was stopped meanwhile
                waiting.popleft()
                await target.send(text)
                self._note(text, stream)
                if lane.pause_s:
                    await anyio.sleep(lane.pause_s)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                try:
                    await read()
                except TransportError:
                    is_over = True
                    news.set()
        except* TransportError:
            pass
        await target.aclose(1006)

    async def _inject_into(self, peer: Connection) -> None:
        try:
            while True:
                while not self._injected:
                    await self._news.wait()
                await peer.send(self._injected.popleft())
        except TransportError:
            pass

    def _note(self, text: str, stream: bytearray | None) -> None:
        if stream is not None:
            if '"input_audio_buffer.append"' in text:
                stream += wire.decode_audio(json.loads(text)["audio"])
        elif '"response_id"' in text:
            event = json.loads(text)
            self.response_id = event["response_id"]
            self.item_id = event.get("item_id", self.item_id)


class ChaosMic:
    """Captures a recording, block after block, with the clock and the stalls of the weather."""

    def __init__(self, pcm: bytes, weather: Weather, block_samples: int = 240) -> None:
        self.pcm = pcm
        self.weather = weather
        self.block_samples = block_samples

    async def run(self, emit: Emit[AudioIn]) -> None:
        """Be the microphone until the recording is over."""
        start_ns, jumped = emit.now_ns(), 0
        n_bytes = 2 * self.block_samples
        for number in range(len(self.pcm) // n_bytes):
            captured_ns = start_ns + (number + 1) * 1_000_000_000 * self.block_samples // 24_000
            while not await emit.until(captured_ns):
                pass
            if emit.now_ns() < self.weather.mic_stalled_until_s * 1e9:
                await anyio.sleep_until(self.weather.mic_stalled_until_s)
            jumped += self.weather.mic_jump_samples
            self.weather.mic_jump_samples = 0
            emit(
                AudioIn(
                    pcm=self.pcm[number * n_bytes : (number + 1) * n_bytes],
                    rate_hz=24_000,
                    start_sample=max(0, number * self.block_samples + jumped),
                    at_ns=emit.now_ns(),
                )
            )


# --- what can strike ------------------------------------------------------------------------------

Fault: TypeAlias = Callable[[Weather], None]


def _stop(weather: Weather, seconds: float, *lanes: Lane) -> None:
    for lane in lanes:
        lane.stopped_until_s = weather.now_s() + seconds


def _half_open(weather: Weather) -> None:
    _stop(weather, PING_LIMIT_S, weather.up, weather.down)
    asyncio_later(PING_LIMIT_S - 0.001, weather.lose)


def asyncio_later(seconds: float, act: Callable[[], None]) -> None:
    """Do something later, without a task."""
    import asyncio

    asyncio.get_running_loop().call_later(seconds, act)


def _refuse(weather: Weather, *statuses: int) -> None:
    weather.refusals.extend(
        lambda status=status: HandshakeRefused(f"HTTP status {status}", status)  # type: ignore[misc]
        for status in statuses
    )
    weather.lose()


def _hang(weather: Weather, times: int) -> None:
    weather.refusals.extend([lambda: TransportBroken("it did not open in time")] * times)
    weather.lose()


def _event(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, "event_id": "event_chaos", **fields})


def _error(weather: Weather, code: str) -> None:
    error = {"type": "server_error", "code": code, "message": "asked for", "param": None}
    weather.inject(_event("error", error={**error, "event_id": None}))


def _set(lane: str, **values: float) -> Fault:
    def strike(weather: Weather) -> None:
        for name, value in values.items():
            setattr(getattr(weather, lane), name, value)

    return strike


def _both(first: Fault, second: Fault) -> Fault:
    def strike(weather: Weather) -> None:
        first(weather)
        second(weather)

    return strike


def _malformed(weather: Weather) -> None:
    ids = {"response_id": weather.response_id, "item_id": weather.item_id}
    place = {**ids, "output_index": 0, "content_index": 0}
    weather.inject(
        "",
        "{",
        "null",
        "[" * 10_000,
        '"\\ud800"',
        '{"type": 5}',
        '{"type": "response.created"}',
        '{"type": "response.done", "response": {"id": 7}}',
        _event("no.such.event", x=1),
        _event("response.output_audio.delta", **place, delta="%%%"),
        _event("response.output_audio.delta", **place, delta="AAA"),
        _event("input_audio_buffer.speech_stopped", audio_end_ms=-5, item_id="never_started"),
        _event("conversation.item.truncated", item_id="x", content_index=-1, audio_end_ms=-1),
        _event("input_audio_buffer.committed", item_id="never_heard"),
    )


def _huge(weather: Weather) -> None:
    ids = {"response_id": weather.response_id, "item_id": weather.item_id}
    place = {**ids, "output_index": 0, "content_index": 0}
    weather.inject(
        _event("no.such.event", x="x" * 10_000_000),
        _event("response.output_audio_transcript.delta", **place, delta="word " * 1_000_000),
        *[_event("rate_limits.updated", rate_limits=[])] * 5_000,
    )


def _jump(seconds: float) -> Fault:
    def strike(weather: Weather) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpyLoop)
        loop.jump(seconds)

    return strike


def _mic_jumps(seconds: float) -> Fault:
    def strike(weather: Weather) -> None:
        weather.mic_jump_samples += round(seconds * 24_000)

    return strike


def _mic_stalls(weather: Weather) -> None:
    weather.mic_stalled_until_s = weather.now_s() + 2.0


def _disk(weather: Weather) -> None:
    weather.disk_is_full = True


FAULTS: Final[Mapping[str, Fault]] = {
    "delay": _both(_set("up", delay_s=0.4), _set("down", delay_s=0.4)),
    "jitter": _both(_set("up", jitter_s=0.5), _set("down", jitter_s=0.5)),
    "slow-reader": _set("down", pause_s=0.05),
    "slow-writer": _set("up", pause_s=0.015),
    "stall-up": lambda weather: _stop(weather, 3.0, weather.up),
    "stall-down": lambda weather: _stop(weather, 3.0, weather.down),
    "lost": lambda weather: weather.lose(),
    "closed": lambda weather: weather.lose(1011),
    "half-open": _half_open,
    "lost-then-refused": lambda weather: _refuse(weather, 503, 503, 429),
    "lost-for-good": lambda weather: _refuse(weather, 401),
    "lost-then-hangs": lambda weather: _hang(weather, 2),
    "lost-and-slow": _both(lambda weather: weather.lose(), _set("up", delay_s=1.0)),
    "malformed": _malformed,
    "huge": _huge,
    "error-harmless": lambda weather: _error(weather, "server_error"),
    "error-expired": lambda weather: _error(weather, "session_expired"),
    "error-fatal": lambda weather: _error(weather, "insufficient_quota"),
    "asleep": _jump(5.0),
    "mic-clock-forward": _mic_jumps(3.0),
    "mic-clock-back": _mic_jumps(-1.0),
    "mic-clock-hours": _mic_jumps(7_200.0),
    "mic-stalls": _mic_stalls,
    "disk-full": _disk,
}
"""Every fault, by name."""

# --- when -----------------------------------------------------------------------------------------

Moment: TypeAlias = Callable[[str, str, Frame], bool]
"""Whether an observation is the moment: what, at which stage, which frame."""


def _emitted(kind: type[Frame], **fields: object) -> Moment:
    def is_it(what: str, stage: str, frame: Frame) -> bool:
        return (
            what == "emitted"
            and isinstance(frame, kind)
            and all(getattr(frame, name) == value for name, value in fields.items())
        )

    return is_it


def _cut(what: str, stage: str, frame: Frame) -> bool:
    return what == "cut"


@define
class When:
    """A state of a conversation.

    Attributes:
        moment: How it is known to have begun.
        after_s: The fault strikes so much later.
        loses_first: The connection is lost while the agent speaks, before that.
    """

    moment: Moment
    after_s: float = 0.0
    loses_first: bool = field(default=False)


MOMENTS: Final[Mapping[str, When]] = {
    "idle": When(_emitted(ConnectionState, state="open"), 0.2),
    "user-speaks": When(_emitted(SpeechStarted, source="server"), 0.1),
    "thinking": When(_emitted(SpeechStopped, source="server"), 0.05),
    "agent-speaks": When(_emitted(ReplyReady), 0.5),
    "suspect": When(_emitted(Mute), 0.0),
    "cut": When(_cut, 0.0),
    "tool-runs": When(_emitted(ToolCall), 0.3),
    "reconnecting": When(_emitted(ConnectionState, state="reconnecting"), 0.0, loses_first=True),
    "ending": When(_emitted(End), 0.0),
}
"""Every state, by name."""
