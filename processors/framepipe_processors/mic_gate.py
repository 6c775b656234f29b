"""Keep the agent's own voice from the service, without losing a word of the user's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from framepipe import Emit, on
from framepipe.conversation.mic_gate import MicGateCore
from framepipe.frames import (
    AudioIn,
    EchoReference,
    End,
    Played,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
)


class MicGate:
    """While the agent talks and the user does not, let the service hear silence.

    For loudspeakers: without it the service hears the agent, takes it for the user and answers.
    Stands between `LocalVad`, which says when the user speaks, and `Realtime`. While it is there,
    and not for headphones, `LocalVad` tells the agent's voice from the user's by its level
    (`EchoReference`), so an echo neither mutes the agent nor opens the gate.

    While it is closed the audio goes on ``pre_roll_ms`` late and as silence of the same length.
    When the user speaks, what waits goes on at once: from ``prefix_ms`` before the onset as it
    is. So no word is lost and the service's clock stays the microphone's. See `MicGateCore`.
    Without a detector above it nobody would be heard over the agent.

    Args:
        headphones: The microphone does not hear the agent: everything passes at once.
        pre_roll_ms: How late the choice is made.
        prefix_ms: How much before the onset is let through.
        close_ms: Time without the user's speech after which it closes.
        tail_ms: How long after the agent's last sound its echo is heard.

    Attributes:
        core: What it decides with.

    Raises:
        FrameError: A length is negative, or the prefix longer than the pre-roll.
    """

    def __init__(
        self,
        *,
        headphones: bool = False,
        pre_roll_ms: int = 900,
        prefix_ms: int = 850,
        close_ms: int = 192,
        tail_ms: int = 300,
    ) -> None:
        self.headphones = headphones
        self._emit: Emit[EchoReference] | None = None
        self._is_announced = False
        self.core = MicGateCore(
            pre_roll_ms=pre_roll_ms, prefix_ms=prefix_ms, close_ms=close_ms, tail_ms=tail_ms
        )

    def attach(self, emit: Emit[EchoReference]) -> None:
        """Keep the way to the time, for audio that nobody stamped."""
        self._emit = emit

    @on(AudioIn)
    def hear(self, frame: AudioIn) -> Iterator[AudioIn | EchoReference]:
        """Let it pass, keep it for a while, or let silence pass."""
        if not (self._is_announced or self.headphones):
            # Before the first sound: the detectors want to know the room first.
            self._is_announced = True
            yield EchoReference(level_dbfs=-math.inf, at_ns=frame.at_ns)
        stamped_ns = frame.at_ns or (self._emit.now_ns() if self._emit is not None else 0)
        yield from self.core.hear(frame, stamped_ns)

    @on(Played)
    def listen(self, frame: Played) -> Iterable[Played | EchoReference | AudioIn]:
        """Know when the agent can be heard, and tell the detectors above."""
        if self.headphones:
            return (frame,)
        reference = EchoReference(level_dbfs=frame.level_dbfs, at_ns=frame.at_ns)
        return frame, reference, *self.core.receive(frame)

    @on(SpeechStarted, SpeechConfirmed)
    def open(
        self, frame: SpeechStarted | SpeechConfirmed
    ) -> Iterable[SpeechStarted | SpeechConfirmed | AudioIn]:
        """The user speaks: what waits goes on, now."""
        return frame, *self.core.receive(frame)

    @on(SpeechStopped, SpeechRejected)
    def close(
        self, frame: SpeechStopped | SpeechRejected
    ) -> Iterable[SpeechStopped | SpeechRejected | AudioIn]:
        """The user has stopped, or had not spoken."""
        return frame, *self.core.receive(frame)

    @on(End)
    def end(self, frame: End) -> Iterable[AudioIn | End]:
        """Nothing is kept back at the end."""
        return *self.core.end(), frame
