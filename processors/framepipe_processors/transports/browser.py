"""A browser page as microphone and loudspeaker.

The page captures with the browser's echo cancellation and plays in an AudioWorklet that holds the
queue itself: a `Mute` freezes it, a cut empties it, within one render quantum of its arrival, and
the page answers with the sample at which the sound ended. The decisions are in
`framepipe.conversation.remote_speaker` (what the speaker owes) and `page_link` (what survives a
socket); this is the shell between a pipeline and whatever carries the messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import anyio
import msgspec

from framepipe import Emit, on
from framepipe.conversation.remote_speaker import RemoteSpeakerCore, Report
from framepipe.errors import EmitError, RemoteProtocolError, TransportBroken, only_error
from framepipe.frames import NS_PER_S, AudioIn, AudioOut, End, Interrupt, Mute, Played, Unmute
from framepipe.frames import evolve as evolved
from framepipe_processors.transports.page_link import PageLink, Wire, mic_audio

RATE_HZ: Final = 24_000
"""The rate of the page in both directions; the browser converts to its devices' own."""

GRACE_S: Final = 15.0
"""How long a call waits for a page whose socket is gone."""

MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Longest message of a page: over a second of microphone audio."""

MAX_BACKLOG_S: Final = 30.0
"""Microphone audio that a page may send at once after it was away, in seconds. Beyond it, twice
the speed of speech is allowed."""


class PageSocket(Protocol):
    """A WebSocket to one page."""

    async def send(self, message: Wire) -> None:
        """Send one message.

        Raises:
            TransportBroken: It is gone.
        """
        ...

    async def receive(self) -> Wire:
        """The next message.

        Raises:
            TransportBroken: It is gone.
        """
        ...


class _Said(msgspec.Struct, tag="report", tag_field="type"):
    """The speaker's report, as it comes on the wire."""

    seq: int
    played: int
    order: int = 0
    mute_point: int | None = None
    level_dbfs: float | None = None


class _Bye(msgspec.Struct, tag="bye", tag_field="type"):
    """The page is closed."""


class _Asked(msgspec.Struct, tag="ask", tag_field="type"):
    """The person did something on the page that is not audio."""

    what: str
    value: Any = None


_FROM_PAGE: Final = msgspec.json.Decoder(_Said | _Bye | _Asked)


class Browser:
    """The microphone and the loudspeaker of one page: ``browser.mic`` and ``browser.speaker``.

    Put the two into a pipeline, and `serve` each socket that the page opens. The pipeline ends
    when the page says goodbye, or is away for longer than ``grace_s``.

    Args:
        grace_s: How long to wait for a page whose socket is gone, in seconds.
        on_ask: Is told what else the person does on the page: a word and a value.

    Attributes:
        mic: The first stage; makes `AudioIn`, 24 kHz mono.
        speaker: The last stage.
    """

    def __init__(
        self,
        *,
        grace_s: float = GRACE_S,
        on_ask: Callable[[str, Any], None] = lambda what, value: None,
    ) -> None:
        self.mic = BrowserMic()
        self.speaker = BrowserSpeaker()
        self._grace_s = grace_s
        self._on_ask = on_ask
        self._serving: anyio.CancelScope | None = None

    @property
    def is_over(self) -> bool:
        """Whether the call has ended."""
        return self.mic.ended.is_set()

    def tell(self, news: Mapping[str, Any]) -> None:
        """Show something on the page: a JSON object with a ``type``."""
        self.speaker.send_news(news)

    def hang_up(self) -> None:
        """End the call, as if the page had been closed."""
        self.mic.end()

    async def serve(self, socket: PageSocket, had_seq: int = 0) -> None:
        """Carry messages until the socket is gone, the page says goodbye, or the call is over.

        A second socket of the same page replaces the first.

        Args:
            socket: To the page.
            had_seq: Number of the last message that the page has had; 0 on its first socket.

        Raises:
            RemoteProtocolError: The page broke the rules; the call is over.

        Cancellation leaves the call waiting for another socket.
        """
        scope = anyio.CancelScope()
        if self._serving is not None:
            self._serving.cancel()
        self._serving = scope
        with scope:
            await self.mic.begun.wait()
            self.speaker.link.resume(had_seq)
            await self._carry(socket)
            with anyio.move_on_after(0 if self.is_over else self._grace_s):
                await self.mic.ended.wait()
            self.hang_up()

    async def _carry(self, socket: PageSocket) -> None:
        ready = {"type": "ready", "rate_hz": RATE_HZ, "mic_from": self.mic.position}
        try:
            await socket.send(msgspec.json.encode(ready).decode())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send_all, socket)
                await self._receive_all(socket)
                tasks.cancel_scope.cancel()
        except ExceptionGroup as group:
            error = only_error(group)
            if not isinstance(error, TransportBroken):
                raise error from None
        except TransportBroken:
            pass

    async def _send_all(self, socket: PageSocket) -> None:
        while True:
            message = self.speaker.link.next()
            if message is None:
                await self.speaker.changed()
            else:
                await socket.send(message)

    async def _receive_all(self, socket: PageSocket) -> None:
        budget = _Budget()
        while not self.is_over:
            message = await socket.receive()
            if len(message) > MAX_MESSAGE_BYTES:
                self._refuse(f"a message of {len(message)} bytes; at most {MAX_MESSAGE_BYTES}")
            if isinstance(message, bytes):
                self._hear(message, budget)
            else:
                self._read(message)

    def _hear(self, message: bytes, budget: _Budget) -> None:
        try:
            start_sample, pcm = mic_audio(message)
        except ValueError as error:
            self._refuse(str(error))
        else:
            if not budget.allows(len(pcm) // 2, self.mic.now_ns()):
                self._refuse(
                    f"microphone audio at over twice the speed of speech for {MAX_BACKLOG_S:g} s"
                )
            self.mic.hear(start_sample, pcm)

    def _read(self, text: str) -> None:
        try:
            message: _Said | _Bye | _Asked = _FROM_PAGE.decode(text)
        except msgspec.DecodeError as error:
            self._refuse(f"a message that is none: {error}")
        else:
            match message:
                case _Said():
                    self.speaker.reported(message.seq, _report(message))
                case _Bye():
                    self.hang_up()
                case _Asked(what=what, value=value):
                    self._on_ask(what, value)

    def _refuse(self, why: str) -> None:
        self.hang_up()
        raise RemoteProtocolError(f"the page sent {why}")


class BrowserMic:
    """The page's microphone, the first stage of a pipeline."""

    def __init__(self) -> None:
        self.made_rates_hz = {AudioIn: RATE_HZ}
        self.position = 0
        self.begun = anyio.Event()  # the pipeline runs, or will not
        self.ended = anyio.Event()
        self._emit: Emit[AudioIn] | None = None

    def attach(self, emit: Emit[AudioIn]) -> None:
        """Keep the way into the pipeline."""
        self._emit = emit
        self.begun.set()

    def now_ns(self) -> int:
        """Engine time; 0 before the pipeline runs."""
        return 0 if self._emit is None else self._emit.now_ns()

    def hear(self, start_sample: int, pcm: bytes) -> None:
        """Audio from the page; what has come before is left out, a gap stays one."""
        repeated = 2 * max(0, self.position - start_sample)
        start_sample, pcm = max(start_sample, self.position), pcm[repeated:]
        if not pcm or self._emit is None or self.ended.is_set():
            return
        self.position = start_sample + len(pcm) // 2
        frame = AudioIn(
            pcm=pcm, rate_hz=RATE_HZ, start_sample=start_sample, at_ns=self._emit.now_ns()
        )
        with suppress(EmitError):  # the pipeline is over, and the page is about to hear of it
            self._emit(frame)

    def end(self) -> None:
        """The page is gone: ``run`` returns."""
        self.begun.set()
        self.ended.set()
        if self._emit is not None:
            self._emit.wake()

    async def run(self, emit: Emit[AudioIn]) -> None:
        """Live until the page is gone. Cancellation leaves nothing behind."""
        while not self.ended.is_set():
            await emit.until(None)


class BrowserSpeaker:
    """The page's loudspeaker, the last stage of a pipeline.

    Attributes:
        link: What the page is told.
    """

    def __init__(self) -> None:
        self.rates_hz = {AudioOut: RATE_HZ}
        self.link = PageLink()
        self._core = RemoteSpeakerCore(RATE_HZ)
        self._emit: Emit[Played] | None = None
        self._changed = anyio.Event()
        self._is_ended = False

    def attach(self, emit: Emit[Played]) -> None:
        """Keep the way up."""
        self._emit = emit

    async def changed(self) -> None:
        """Wait until there is something new to send, or the call is over."""
        await self._changed.wait()

    def send_news(self, news: Mapping[str, Any]) -> None:
        """Something to show on the page."""
        self.link.news(news)
        self._ring()

    def reported(self, seq: int, report: Report) -> None:
        """The page says what it has had, and where its sound is."""
        self.link.acknowledged(seq)
        if self._emit is None or self._is_ended:
            return
        played = self._core.reported(report, self._emit.now_ns())
        if played is not None:
            with suppress(EmitError):  # as for the microphone
                self._emit(played)

    @on(AudioOut)
    def hand(self, frame: AudioOut) -> None:
        """Send the audio."""
        self.link.sound(self._core.hand(frame))
        self._ring()

    @on(Mute)
    def mute(self, frame: Mute) -> None:
        """Silence the page; it answers with the mute point."""
        order = self._core.mute(frame)
        if order is not None:
            self.link.order(order)
            self._ring()

    @on(Unmute)
    def unmute(self, frame: Unmute) -> None:
        """Let the page go on with the very next sample."""
        self.link.order(self._core.unmute(frame))
        self._ring()

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> Interrupt:
        """Empty the page's queue; say where the sound ended if the page has said so."""
        order, mute_point = self._core.cut()
        self.link.order(order)
        self._ring()
        return evolved(frame, mute_point=mute_point)

    @on(End)
    def end(self, _: End) -> Played:
        """The call is over. Whoever closed the page does not listen to the rest."""
        self._is_ended = True
        at_ns = 0 if self._emit is None else self._emit.now_ns()
        return self._core.position(at_ns, final=True)

    def _ring(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class _Budget:
    """How much microphone audio a page may send: the speed of speech, twice, and a backlog."""

    def __init__(self) -> None:
        self._samples = MAX_BACKLOG_S * RATE_HZ
        self._at_ns: int | None = None

    def allows(self, n_samples: int, at_ns: int) -> bool:
        if self._at_ns is not None:
            earned = 2 * RATE_HZ * (at_ns - self._at_ns) / NS_PER_S
            self._samples = min(MAX_BACKLOG_S * RATE_HZ, self._samples + earned)
        self._at_ns = at_ns
        self._samples -= n_samples
        return self._samples >= 0


def _report(said: _Said) -> Report:
    level = said.level_dbfs
    return Report(
        played=max(0, said.played),
        order=said.order,
        mute_point=said.mute_point,
        level_dbfs=-math.inf if level is None else min(level, 0.0),
    )
