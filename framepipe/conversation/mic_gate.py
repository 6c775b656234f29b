"""Which of the microphone's samples may the service hear while the agent talks?

With a loudspeaker the microphone hears the agent, and a service that hears the agent answers it.
So while the agent can be heard and the user is quiet, the service gets silence instead of what
the microphone heard. Three promises (P4):

- **One fate for each sample.** It leaves once, in order and at its own position, as itself or as
  silence of the same length. The service counts samples, so its clock stays the capture clock.
- **No word is lost.** The choice is made late: while the gate is closed nothing leaves before it
  is ``pre_roll_ms`` old. When the user is found to have spoken, what waits leaves at once, as
  itself from ``prefix_ms`` before the onset and as silence before that.
- **No word is broken.** The gate does not close before ``close_ms`` without the user's speech: a
  pause made by a gate is the end of a turn to the service. What a second stage rejects closes it
  at once.

Sending silence at once and the user's words after it would be simpler, and would move the
service's clock on by the pre-roll at every interruption.

`TABLE` has a cell for each state and event. Sans-IO: facts in with their time, audio out; nothing
ticks. The gate looks at the time when audio comes, and only then can anything depend on it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeAlias

from attrs import evolve, frozen

from framepipe.audio import silence
from framepipe.errors import FrameError
from framepipe.frames import (
    SAMPLE_BYTES,
    AudioIn,
    Played,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
)

# --- the table ----------------------------------------------------------------------------------


class State(Enum):
    """What happens to the microphone's audio."""

    FREE = auto()
    """The agent cannot be heard: it leaves as itself, at once."""
    OPEN = auto()
    """The agent can be heard, and the user speaks: it leaves as itself, at once."""
    CLOSED = auto()
    """The agent can be heard, and the user is quiet: it waits, and leaves as silence."""


class Event(Enum):
    """What can happen."""

    AGENT_AUDIBLE = auto()
    """The agent can be heard from here on, while the user is quiet."""
    AGENT_AUDIBLE_OVER_SPEECH = auto()
    """The agent can be heard from here on, while the user speaks."""
    AGENT_GONE = auto()
    """The agent's last sound and its echo are over."""
    SPEECH = auto()
    """The user may have spoken, or certainly has."""
    QUIET = auto()
    """For a while there was no speech of the user's."""
    REJECTED = auto()
    """What was heard was no speech."""


class Do(Enum):
    """What becomes of the audio that waits."""

    SEND = auto()
    """It leaves: as itself from a little before the onset, as silence before that."""
    SILENCE = auto()
    """It leaves as silence."""


@frozen
class Cell:
    """One cell of the table.

    Attributes:
        to: The next state.
        do: What becomes of the audio that waits.
    """

    to: State
    do: Do | None = None


TABLE: Final[Mapping[Event, Mapping[State, Cell]]] = {
    Event.AGENT_AUDIBLE: {State.FREE: Cell(State.CLOSED)},
    Event.AGENT_AUDIBLE_OVER_SPEECH: {State.FREE: Cell(State.OPEN)},
    Event.AGENT_GONE: {
        State.OPEN: Cell(State.FREE),
        State.CLOSED: Cell(State.FREE, Do.SILENCE),
    },
    Event.SPEECH: {State.CLOSED: Cell(State.OPEN, Do.SEND)},
    Event.QUIET: {State.OPEN: Cell(State.CLOSED)},
    Event.REJECTED: {State.OPEN: Cell(State.CLOSED)},
}
"""Where to go and what to do. A missing cell: nothing."""

_SOUNDING_NS: Final = 100_000_000
"""A speaker that plays reports more often than this."""

_NS_PER_MS: Final = 1_000_000

Fact: TypeAlias = Played | SpeechStarted | SpeechStopped | SpeechConfirmed | SpeechRejected
"""What the core is told beside the audio."""


class MicGateCore:
    """Decides what the service hears of the microphone.

    Args:
        pre_roll_ms: How late the choice is made: an opening reaches so far back.
        prefix_ms: How much before the onset is let through, as far as the pre-roll reaches: a
            detector hears soft beginnings late, and later under the agent's voice.
        close_ms: Time without speech of the user's after which the gate closes.
        tail_ms: How long after the agent's last sound its echo is heard.

    Attributes:
        state: What happens to the audio now.
        waiting_samples: Samples that have not left.

    Raises:
        FrameError: A length is negative, or the prefix longer than the pre-roll.
    """

    def __init__(
        self,
        *,
        pre_roll_ms: int = 900,
        prefix_ms: int = 850,
        close_ms: int = 192,
        tail_ms: int = 300,
    ) -> None:
        if not 0 <= prefix_ms <= pre_roll_ms:
            raise FrameError(
                f"prefix_ms is {prefix_ms} and pre_roll_ms {pre_roll_ms}; the first must be 0 or "
                "more and at most the second"
            )
        if close_ms < 0 or tail_ms < 0:
            raise FrameError(
                f"close_ms is {close_ms} and tail_ms {tail_ms}; both must be 0 or more"
            )
        self.state = State.FREE
        self.waiting_samples = 0
        self._pre_roll_ms, self._prefix_ms, self._close_ms = pre_roll_ms, prefix_ms, close_ms
        self._tail_ns = tail_ms * _NS_PER_MS
        self._waiting: deque[AudioIn] = deque()
        self._audible_ns: int | None = None
        self._speaks = False
        self._speech_end: int | None = None  # where it ended, until the gate has closed for it

    def receive(self, fact: Fact) -> list[AudioIn]:
        """Take note of a fact.

        Args:
            fact: `Played` has its time in ``at_ns``.

        Returns:
            Audio that leaves now.
        """
        match fact:
            case Played():
                if fact.level_dbfs == -math.inf:
                    return []
                self._audible_ns = fact.at_ns
                over_speech = self._speaks or self._speech_end is not None
                return self._happens(
                    Event.AGENT_AUDIBLE_OVER_SPEECH if over_speech else Event.AGENT_AUDIBLE
                )
            case SpeechStarted() | SpeechConfirmed():
                self._speaks, self._speech_end = True, None
                return self._happens(Event.SPEECH, fact.onset_sample)
            case SpeechStopped():
                # What was rejected does not hold the gate open by ending.
                self._speech_end = fact.end_sample if self._speaks else None
                self._speaks = False
                return []
            case SpeechRejected():
                self._speaks, self._speech_end = False, None
                return self._happens(Event.REJECTED)

    def hear(self, frame: AudioIn, end_ns: int) -> list[AudioIn]:
        """Take microphone audio, in the order of the capture clock.

        Args:
            frame: Of any length; what is true at its end holds for all of it.
            end_ns: Engine time of its last sample.

        Returns:
            Audio that leaves now.
        """
        leaving: list[AudioIn] = []
        if self._audible_ns is not None and end_ns - self._audible_ns > self._tail_ns:
            self._audible_ns = None
            leaving += self._happens(Event.AGENT_GONE)
        if self._is_quiet(frame, end_ns):
            self._speech_end = None
            leaving += self._happens(Event.QUIET)
        if self.state is not State.CLOSED:
            return [*leaving, frame]
        if self._waiting and self._waiting[-1].rate_hz != frame.rate_hz:
            leaving += self._empty(None)  # positions of another rate mean nothing on this one
        self._waiting.append(frame)
        self.waiting_samples += frame.n_samples
        kept = frame.rate_hz * self._pre_roll_ms // 1000
        while self._waiting and self.waiting_samples - self._waiting[0].n_samples >= kept:
            oldest = self._waiting.popleft()
            self.waiting_samples -= oldest.n_samples
            leaving.append(_silenced(oldest))
        return leaving

    def end(self) -> list[AudioIn]:
        """The microphone is gone.

        Returns:
            What waited, as silence: nobody was found to speak in it.
        """
        return self._empty(None)

    def _is_quiet(self, frame: AudioIn, end_ns: int) -> bool:
        if self._speech_end is None:
            return False
        quiet_samples = frame.start_sample - self._speech_end
        if quiet_samples * 1000 < self._close_ms * frame.rate_hz:
            return False
        # While the agent is muted nothing new of it comes back, and soft words of the user's may
        # be hidden from the detector by what was played before: nothing is gained by closing.
        is_muted = self._audible_ns is not None and end_ns - self._audible_ns > _SOUNDING_NS
        return not is_muted

    def _happens(self, event: Event, onset_sample: int = 0) -> list[AudioIn]:
        cell = TABLE[event].get(self.state)
        if cell is None:
            return []
        self.state = cell.to
        if cell.do is None:
            return []
        return self._empty(onset_sample if cell.do is Do.SEND else None)

    def _empty(self, onset_sample: int | None) -> list[AudioIn]:
        """All that waits: as itself from a little before an onset, as silence before it."""
        leaving: list[AudioIn] = []
        for frame in self._waiting:
            if onset_sample is None:
                leaving.append(_silenced(frame))
                continue
            from_sample = onset_sample - frame.rate_hz * self._prefix_ms // 1000
            silent = min(max(from_sample - frame.start_sample, 0), frame.n_samples)
            leaving += _split(frame, silent)
        self._waiting.clear()
        self.waiting_samples = 0
        return leaving


def _silenced(frame: AudioIn) -> AudioIn:
    return evolve(frame, pcm=silence(frame.n_samples, frame.channels))


def _split(frame: AudioIn, silent: int) -> list[AudioIn]:
    """A frame whose first ``silent`` samples are silence."""
    if not silent:
        return [frame]
    if silent == frame.n_samples:
        return [_silenced(frame)]
    rest = frame.pcm_bytes()[silent * SAMPLE_BYTES * frame.channels :]
    return [evolve(frame, pcm=silence(silent, frame.channels) + rest)]
